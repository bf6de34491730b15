"""The application: opens the bridge, shows the dashboard, hands state to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from tui.settings import (
    Settings,
    has_unicode_locale,
    load_settings,
    prepare_terminal,
    settings_path,
)

prepare_terminal(os.environ)  # before Textual is imported: it reads these then

from textual import events  # noqa: E402
from textual.app import App  # noqa: E402
from textual.drivers.linux_driver import LinuxDriver  # noqa: E402

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
    from textual.message_pump import MessagePump
    from textual.screen import Screen
    from textual.widget import Widget

    from engine.api import EngineApi
    from tui.screens.dashboard import Dashboard


KEY_DEADLINE_SECONDS = 5.0
"""A key whose handler hangs does not hold up those after it."""
OPENING_DEADLINE_SECONDS = 20.0
"""A screen that opens takes what is typed meanwhile, however busy the machine is."""


_LIVENESS_CHECK_SECONDS = 0.05


async def _turn_of(pump: MessagePump) -> None:
    """Wait until all that was posted to a pump before is handled, or the pump has ended."""
    arrived = asyncio.Event()
    if not pump.call_later(arrived.set):
        return
    has_run = pump.is_running  # a screen that opens does not run yet
    while not arrived.is_set() and (pump.is_running or not has_run):
        has_run = has_run or pump.is_running
        await _soon(arrived)


async def _soon(happened: asyncio.Event) -> None:
    """Wait for an event, but no longer than it may take until somebody looks again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIVENESS_CHECK_SECONDS):
            await happened.wait()


def _command_provider() -> type[Provider]:
    from tui.commands import CommandProvider

    return CommandProvider


_TERMINAL_CHECK_SECONDS = 5.0


@runtime_checkable
class WantsMouse(Protocol):
    """A screen that may need the mouse whatever the person chose."""

    @property
    def wants_mouse(self) -> bool:
        """Whether it needs it now."""


class LamellaApp(App[None], inherit_bindings=False):
    """One window onto one store.

    Args:
        opener: Makes the context manager that opens the engine, on the engine's thread.
        settings: What the person chose.
    """

    TITLE = "lamella"
    CSS_PATH = [
        "screens/dashboard.tcss",
        "screens/dialogs.tcss",
        "screens/terminal.tcss",
        "screens/build.tcss",
    ]
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
        self._has_mouse = self._is_mouse_on = self.settings.has_mouse
        self._told_clashes: set[str] = set()
        self._key_in_hand = False
        self._is_engine_begun = False
        self._waiting_keys: deque[events.Key | events.Paste] = deque()
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

    async def on_event(self, event: events.Event) -> None:
        """Hand keys on one after the other.

        A slow line brings several keys at once, and Textual would give them all to the widget that
        has the focus before the first of them moves it: `3d` would remove an image.
        """
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_in_hand:
            self._waiting_keys.append(event)
        else:
            await self._hand_on(event)

    async def _hand_on(self, event: events.Key | events.Paste) -> None:
        self._key_in_hand = True
        # A key that covers the first screen before it is painted would keep it from being opened.
        self._open_engine()
        screen = self.screen
        target = self.focused or screen
        await super().on_event(event)
        self.run_worker(self._follow(target, screen), group="keys", exit_on_error=False)

    async def _follow(self, target: Widget, screen: Screen[object]) -> None:
        """Wait until a key has gone its way up from its widget, then hand on the next."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEY_DEADLINE_SECONDS):
                for pump in target.ancestors_with_self:
                    await _turn_of(pump)
        if self.screen is not screen:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OPENING_DEADLINE_SECONDS):
                    await self._painted()
                    await _turn_of(self)
        self._key_in_hand = False
        if self._waiting_keys:
            await self._hand_on(self._waiting_keys.popleft())

    async def _painted(self) -> None:
        """Wait until the screen on top has been painted, whichever that is by then."""
        painted_screen = None
        while painted_screen is not self.screen:
            screen, painted = self.screen, asyncio.Event()
            while self.screen is screen and not painted.is_set():
                # Textual asks the screen that is on top when the question is handled, and forgets
                # it with that one: a progress that goes just then takes the answer along.
                screen.call_after_refresh(painted.set)
                await _soon(painted)
            painted_screen = screen

    @property
    def has_keys_in_hand(self) -> bool:
        """Whether keys were pressed that have not done their work yet."""
        return self._key_in_hand

    def on_mount(self) -> None:
        """Open the engine behind the first paint."""
        self.call_after_refresh(self._open_engine)
        self.screen_change_signal.subscribe(self, self._follow_mouse)
        if not self.is_headless:
            self.set_interval(_TERMINAL_CHECK_SECONDS, self._end_without_terminal)
        for problem in self.settings.problems:
            self.notify(clean(problem), title="Settings", severity="warning", markup=False)

    def _open_engine(self) -> None:
        if not self._is_engine_begun:
            self._is_engine_begun = True
            self.bridge.start()

    def _end_without_terminal(self) -> None:
        """Quit when the terminal has gone without a hang-up signal (su -c, setsid)."""
        watch = select.poll()
        watch.register(0, 0)
        if any(events & (select.POLLHUP | select.POLLERR) for _, events in watch.poll(0)):
            self.exit()

    async def action_quit(self) -> None:
        """Quit; asks first when programs in terminals, or operations, would end with it."""
        from tui.screens.dialogs import QuitScreen

        programs = tuple(
            f"{terminal.label} in {terminal.container_name}"
            for terminal in self.dashboard.open_terminals
        )
        operations = self.dashboard.background_titles
        if not programs and not operations:
            self.exit()
            return

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.exit()

        self.push_screen(QuitScreen(programs, operations), answered)

    async def on_unmount(self) -> None:
        """Close the engine; containers run on."""
        await self.bridge.aclose()

    def on_state_arrived(self) -> None:
        """Hand everything that waits to the dashboard."""
        if not self.screen_stack:
            return  # it closes, and the engine speaks on until it is closed as well
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
        self._follow_mouse()
        state = "on" if self._has_mouse else "off"
        self.notify(f"Mouse {state}", timeout=2, markup=False)

    def on_terminal_view_mode_changed(self) -> None:
        """Switch the mouse on for a program that asks for it, as long as it does."""
        self._follow_mouse()

    @property
    def is_mouse_on(self) -> bool:
        """Whether the terminal reports the mouse."""
        return self._is_mouse_on

    def _follow_mouse(self, _screen: Screen[object] | None = None) -> None:
        screen = self.screen
        wanted = self._has_mouse or (isinstance(screen, WantsMouse) and screen.wants_mouse)
        if wanted == self._is_mouse_on:
            return
        self._is_mouse_on = wanted
        driver = self._driver
        if isinstance(driver, LinuxDriver) and not self.is_headless:
            # The driver switches off at exit what it believes to have switched on.
            driver._mouse = True
            if wanted:
                driver._enable_mouse_support()
            else:
                driver._disable_mouse_support()
            driver._mouse = wanted
            driver.flush()


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
    return application.return_code or int(application.bridge.has_failed)
