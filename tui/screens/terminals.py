"""Keys that open terminals: shells and programs in containers, and their own programs."""

from __future__ import annotations

import contextlib
import shlex
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import EngineError, StartError
from engine.types import ContainerStatus, ExecRequest, TerminalSize
from tui.sanitise import clean
from tui.screens.actions import ActionScreen, start_new

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi, Session
    from engine.types import ContainerRequest, ContainerSummary, CreatedContainer
    from tui.bridge import Bridge
    from tui.keymap import Command
    from tui.screens.terminal import TerminalScreen
    from tui.terminal.session import OpenTerminal

SHELLS = (("bash",), ("sh",))
TERMINAL_TYPE = "TERM=xterm-256color"
"""What the emulator is; the container's own is for whoever attached first."""
ATTACHED = "attached"
_COMMAND_NOT_FOUND = 127


@contextlib.asynccontextmanager
async def open_program(
    engine: EngineApi, size: TerminalSize, *, reference: str, commands: tuple[tuple[str, ...], ...]
) -> AsyncIterator[Session]:
    """Run the first of these commands that is in the container, on a terminal."""
    async with contextlib.AsyncExitStack() as stack:
        for command in commands:
            request = ExecRequest(
                command=command, environment=(TERMINAL_TYPE,), has_terminal=True, is_stdin_open=True
            )
            try:
                session = await stack.enter_async_context(
                    engine.exec_container(reference, request, size=size)
                )
            except StartError as error:
                if error.exit_code != _COMMAND_NOT_FOUND or command is commands[-1]:
                    raise
            else:
                break
        yield session


def attach(
    engine: EngineApi, size: TerminalSize, *, reference: str
) -> AbstractAsyncContextManager[Session]:
    """Connect to the container's own program."""
    return engine.attach_container(reference, size=size)


@contextlib.asynccontextmanager
async def run_attached(
    engine: EngineApi,
    size: TerminalSize,
    *,
    request: ContainerRequest,
    created: Callable[[CreatedContainer], None],
) -> AsyncIterator[Session]:
    """Make a container, start it and connect to its program, from its first output on.

    `created` is told, on the engine's loop, what was made.
    """
    made = await engine.create_container(request)
    created(made)
    # It may end, and be removed by whoever sees that, before we are connected.
    async with engine.hold_container(made.container_id):
        await start_new(engine, made.container_id, request, terminal_size=size)
        async with engine.attach_container(
            made.container_id, size=size, is_from_start=True
        ) as session:
            yield session


class TerminalActions(ActionScreen):
    """The actions; keeps the terminals that were left and go on."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self.open_terminals: list[OpenTerminal] = []

    def keys_of(self, command: Command) -> str:
        """The keys of a command, as settings.toml may have changed them."""
        raise NotImplementedError

    def action_open_shell(self) -> None:
        """Open a shell in the container."""
        container = self._running_container()
        if container is not None:
            self._open_program(container, SHELLS, "shell")

    def action_open_exec(self) -> None:
        """Ask for a command and run it in the container."""
        from tui.screens.dialogs import PromptScreen

        container = self._running_container()
        if container is None:
            return

        def check(text: str) -> str:
            try:
                return "" if shlex.split(text) else "Which program?"
            except ValueError as error:
                return f"Command: {str(error).lower()}"

        def answered(text: str | None) -> None:
            if text:
                command = tuple(shlex.split(text))
                self._open_program(container, (command,), clean(text, limit=60))

        explanation = "The program and its arguments, as a shell splits them; no shell runs them."
        title = f"Run in {container.name}"
        self.app.push_screen(PromptScreen(title, explanation, validate=check), answered)

    def action_attach_container(self) -> None:
        """Connect to the container's own program."""
        container = self._running_container()
        if container is not None:
            self._open(container, partial(attach, reference=container.container_id), ATTACHED)

    async def _run(self, request: ContainerRequest) -> None:
        if not request.has_terminal:
            await super()._run(request)
            return
        made: list[CreatedContainer] = []

        def take_created() -> None:
            if made:
                terminal.container_name = clean(made[0].name, limit=60)
                self._take_created(made[0])

        def closed() -> None:
            if made:
                self.action_pane("containers")

        opener = partial(run_attached, request=request, created=made.append)
        terminal = self._new_terminal(opener, request.name or "new container", ATTACHED)
        terminal.opened_listener = take_created
        await self._run_terminal(terminal, closed=closed)
        if not terminal.was_opened:
            take_created()

    def action_terminals(self) -> None:
        """Go back to a terminal that was left."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        if not self.open_terminals:
            self.tell("No terminal is open; e opens a shell in a running container")
            return
        if len(self.open_terminals) == 1:
            self._go_back_to(self.open_terminals[0])
            return

        def answered(index: str | None) -> None:
            if index is not None and int(index) < len(self.open_terminals):
                self._go_back_to(self.open_terminals[int(index)])

        choices = tuple(
            Choice(label=f"{terminal.container_name}  {terminal.label}", value=str(index))
            for index, terminal in enumerate(self.open_terminals)
        )
        self.app.push_screen(ChoiceScreen("Terminals", choices), answered)

    def _running_container(self) -> ContainerSummary | None:
        container = self.chosen_container()
        if container is None:
            return None
        if container.status is ContainerStatus.RUNNING:
            return container
        is_paused = container.status is ContainerStatus.PAUSED
        remedy = "is paused; p lets it go on" if is_paused else "does not run; s starts it"
        self.tell(f"{container.name} {remedy}", is_warning=True)
        return None

    def _open_program(
        self, container: ContainerSummary, commands: tuple[tuple[str, ...], ...], label: str
    ) -> None:
        opener = partial(open_program, reference=container.container_id, commands=commands)
        self._open(container, opener, label, is_exec=True)

    def _open(
        self,
        container: ContainerSummary,
        opener: Opener,
        label: str,
        *,
        is_exec: bool = False,
    ) -> None:
        terminal = self._new_terminal(opener, container.name, label, is_exec=is_exec)
        self.run_task(lambda: self._run_terminal(terminal), group="terminal")

    def _new_terminal(
        self, opener: Opener, container_name: str, label: str, *, is_exec: bool = False
    ) -> OpenTerminal:
        from tui.screens.terminal import CHROME_ROWS
        from tui.terminal.session import OpenTerminal

        columns, rows = self.app.size
        return OpenTerminal(
            self.bridge,
            opener,
            container_name=clean(container_name, limit=60),
            label=label,
            is_exec=is_exec,
            size=TerminalSize(columns=columns, rows=max(1, rows - CHROME_ROWS)),
        )

    async def _run_terminal(
        self, terminal: OpenTerminal, *, closed: Callable[[], None] = lambda: None
    ) -> None:
        # First the screen: what is typed while the program starts is for the program.
        screen = await self._show_terminal(terminal, closed=closed)
        await terminal.run()
        if terminal.error is not None and not terminal.was_opened:
            self.tell_error(terminal.error)
            if screen.is_active:
                screen.dismiss()
        if terminal in self.open_terminals:
            self.open_terminals.remove(terminal)
            self.background_changed()
            self.tell(f"{terminal.label} in {terminal.container_name} {_ending(terminal)}")

    def _go_back_to(self, terminal: OpenTerminal) -> None:
        self.open_terminals.remove(terminal)
        self.background_changed()
        self.run_task(lambda: self._shown(terminal), group="operation")

    async def _shown(self, terminal: OpenTerminal) -> None:
        await self._show_terminal(terminal)

    async def _show_terminal(
        self, terminal: OpenTerminal, *, closed: Callable[[], None] = lambda: None
    ) -> TerminalScreen:
        from tui.screens.terminal import TerminalScreen

        def left(_answer: None) -> None:
            closed()
            if terminal.is_over:
                return
            if terminal.is_exec:
                self.open_terminals.append(terminal)
                self.background_changed()
                self.tell(
                    f"Left {terminal.label} in {terminal.container_name}; it goes on, "
                    "T goes back to it"
                )
            else:
                terminal.leave()
                if terminal.was_opened:
                    self.tell(
                        f"Detached from {terminal.container_name}; it runs on, a goes back to it"
                    )
                else:
                    self.tell(f"Left {terminal.container_name} before it was there")

        screen = TerminalScreen(terminal, self.keys_of)
        await self.app.push_screen(screen, left)
        return screen


def _ending(terminal: OpenTerminal) -> str:
    if isinstance(terminal.error, EngineError):
        return f"was lost: {terminal.error.message}"
    return "ended" if terminal.exit_code is None else f"ended with exit code {terminal.exit_code}"


if TYPE_CHECKING:
    Opener = Callable[[EngineApi, TerminalSize], AbstractAsyncContextManager[Session]]
