"""The palette: every command of the keymap by name, and the themes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Provider

from tui.keymap import COMMANDS, Command, display_keys
from tui.screens.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.command import Hits
    from textual.types import IgnoreReturnCallbackType


class CommandProvider(Provider):
    """Offers commands with their keys; each runs as if its key had been pressed."""

    def _entries(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        for command in COMMANDS:
            if command.is_in_palette:
                name = f"{command.context.value}: {command.label}"
                help_text = f"{command.explanation}  ({display_keys(command.keys)})"
                yield name, help_text, partial(self._run, command)
        for theme in sorted(self.app.available_themes):
            yield f"Theme: {theme}", "Change the colours", partial(self._set_theme, theme)

    async def _run(self, command: Command) -> None:
        dashboard = self.screen
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
