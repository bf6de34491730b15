"""The palette: every command of the keymap by name, and the themes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from textual.command import DiscoveryHit, Hit, Provider

from tui.keymap import COMMANDS, Command, Context, commands_of, display_keys
from tui.screens.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.command import Hits
    from textual.types import IgnoreReturnCallbackType

    from tui.widgets.rows import LineView


_PALETTE = "app.command_palette"


@runtime_checkable
class HasCommands(Protocol):
    """A screen with commands of its own, beside the dashboard."""

    CONTEXTS: tuple[Context, ...]
    LEFT_OUT: frozenset[str]
    """Ids of commands of these contexts that do not work there."""

    @property
    def context_view(self) -> LineView:
        """The view that the commands of its rows are about."""


class CommandProvider(Provider):
    """Offers commands with their keys; each runs as if its key had been pressed."""

    def _commands(self) -> tuple[Command, ...]:
        """What can be done where the palette was opened."""
        screen = self.screen
        if isinstance(screen, HasCommands):
            return tuple(
                command
                for command in commands_of(*screen.CONTEXTS)
                if command.context is not Context.LISTS
                and command.action != _PALETTE
                and command.command_id not in screen.LEFT_OUT
            )
        return tuple(command for command in COMMANDS if command.is_in_palette)

    def _entries(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        for command in self._commands():
            name = f"{command.context.value}: {command.label}"
            help_text = f"{command.explanation}  ({display_keys(command.keys)})"
            yield name, help_text, partial(self._run, command)
        for theme in sorted(self.app.available_themes):
            yield f"Theme: {theme}", "Change the colours", partial(self._set_theme, theme)

    async def _run(self, command: Command) -> None:
        dashboard = self.screen
        if isinstance(dashboard, HasCommands):
            is_own = command.action.startswith("screen.")
            await self.app.run_action(
                command.action, dashboard if is_own else dashboard.context_view
            )
            return
        if not isinstance(dashboard, Dashboard):
            return
        dashboard.go_to_context(command.context)
        namespace = dashboard if command.action.startswith(("app.", "screen.")) else None
        await self.app.run_action(command.action, namespace or dashboard.context_view)

    def _set_theme(self, theme: str) -> None:
        self.app.theme = theme

    async def discover(self) -> Hits:
        """Offer everything as long as nothing was typed."""
        for name, help_text, callback in self._entries():
            yield DiscoveryHit(name, callback, help=help_text)

    async def search(self, query: str) -> Hits:
        """Offer what fits."""
        matcher = self.matcher(query)
        for name, help_text, callback in self._entries():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), callback, help=help_text)
