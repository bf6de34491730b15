"""The application: opens the bridge, shows the dashboard, hands state to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from tui.settings import (
    Settings,
    has_unicode_locale,
    load_settings,
    prepare_terminal,
    settings_path,
)

prepare_terminal(os.environ)  # before Textual is imported: it reads these then

from textual.app import App  # noqa: E402

from tui.bridge import Bridge  # noqa: E402
from tui.clipboard import ClipboardLimitError, copy_sequence  # noqa: E402
from tui.keymap import Context, bindings_of  # noqa: E402
from tui.messages import StateArrived  # noqa: E402
from tui.sanitise import clean  # noqa: E402
from tui.themes import THEMES, choose_theme  # noqa: E402
from tui.watcher import Watcher  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from textual.app import SystemCommand
    from textual.binding import Binding
    from textual.command import Provider
    from textual.dom import DOMNode
    from textual.screen import Screen

    from engine.api import EngineApi
    from tui.screens.dashboard import Dashboard


def _command_provider() -> type[Provider]:
    from tui.commands import CommandProvider

    return CommandProvider


class LamellaApp(App[None], inherit_bindings=False):
    """One window onto one store.

    Args:
        opener: Makes the context manager that opens the engine, on the engine's thread.
        settings: What the person chose.
    """

    TITLE = "lamella"
    CSS_PATH = ["screens/dashboard.tcss", "screens/dialogs.tcss"]
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_command_provider}
    BINDINGS = [
        binding for binding in bindings_of(Context.EVERYWHERE) if binding.action.startswith("app.")
    ]
    ESCAPE_TO_MINIMIZE = False

    def __init__(
        self,
        opener: Callable[[], AbstractAsyncContextManager[EngineApi]],
        *,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.watcher = Watcher()
        super().__init__()
        self.bridge = Bridge(opener, wake=self._wake, task=self.watcher)
        self.watcher.publish = self.bridge.publish
        for theme in THEMES:
            self.register_theme(theme)
        wanted = choose_theme(self.settings.theme, {**os.environ, **self._no_color_again()})
        self.theme = wanted if wanted in self.available_themes else THEMES[0].name
        self.set_keymap(dict(self.settings.keys))
        self._has_mouse = self.settings.has_mouse
        self._told_clashes: set[str] = set()
        if not has_unicode_locale(os.environ):
            self.add_class("-ascii")

    def _no_color_again(self) -> dict[str, str]:
        # Textual takes NO_COLOR out of the environment when it has seen it.
        return {"NO_COLOR": "1"} if self.no_color else {}

    def _wake(self) -> None:
        self.post_message(StateArrived())

    def get_default_screen(self) -> Screen[None]:
        """Make the dashboard; it paints before the engine is open."""
        from tui.screens.dashboard import Dashboard

        return Dashboard(self.bridge, self.watcher, key_overrides=dict(self.settings.keys))

    @property
    def dashboard(self) -> Dashboard:
        """The screen below every dialog."""
        from tui.screens.dashboard import Dashboard

        screen = self.screen_stack[0]
        if not isinstance(screen, Dashboard):
            raise TypeError("the dashboard is not the first screen")
        return screen

    @property
    def has_failed(self) -> bool:
        """Whether the engine did not open or has stopped."""
        return self.dashboard.has_failed

    def on_mount(self) -> None:
        """Open the engine behind the first paint."""
        self.call_after_refresh(self.bridge.start)
        for problem in self.settings.problems:
            self.notify(clean(problem), title="Settings", severity="warning", markup=False)

    async def on_unmount(self) -> None:
        """Close the engine; containers run on."""
        await self.bridge.aclose()

    def on_state_arrived(self) -> None:
        """Hand everything that waits to the dashboard."""
        for state in self.bridge.drain():
            self.dashboard.take_state(state)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """None of Textual's own: ours are in tui.commands."""
        del screen
        return ()

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        """Say once which commands of settings.toml have the same key."""
        del node
        names = ", ".join(sorted(binding.id or binding.action for binding in clashed_bindings))
        if names not in self._told_clashes:
            self._told_clashes.add(names)
            self.notify(
                clean(f"settings.toml gives the key of {names} to another command as well"),
                severity="warning",
                markup=False,
            )

    def copy_to_clipboard(self, text: str) -> None:
        """Send text to the terminal's clipboard, also through tmux and screen."""
        try:
            sequence = copy_sequence(text, os.environ)
        except ClipboardLimitError as error:
            self.notify(f"{error}; S saves a log to a file", severity="warning", markup=False)
            return
        self._clipboard = text
        if self._driver is not None:
            self._driver.write(sequence)
            self._driver.flush()
        self.notify("Sent to the terminal's clipboard", timeout=2, markup=False)

    def action_toggle_mouse(self) -> None:
        """Switch the mouse on or off; while it is on the terminal's own selection is not."""
        self._has_mouse = not self._has_mouse
        driver = self._driver
        if driver is not None and not self.is_headless:
            # The four modes that Textual's driver asks for (1000, 1003, 1015, 1006).
            letter = "h" if self._has_mouse else "l"
            driver.write("".join(f"\x1b[?{mode}{letter}" for mode in (1000, 1003, 1015, 1006)))
            driver.flush()
        state = "on" if self._has_mouse else "off"
        self.notify(f"Mouse {state}", timeout=2, markup=False)


def run_application(*, root: Path | None = None, run: Path | None = None) -> int:
    """Run the application until the person quits; returns the exit code.

    Standard input and error must be a terminal.
    """

    def opener() -> AbstractAsyncContextManager[EngineApi]:
        from engine.api import open_engine  # on the engine's thread, after the first paint

        return open_engine(root=root, run=run)

    settings = load_settings(settings_path(os.environ))
    application = LamellaApp(opener, settings=settings)
    application.run(mouse=settings.has_mouse)
    return application.return_code or 0
