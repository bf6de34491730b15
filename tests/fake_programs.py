"""Sessions in memory: a handful of programs that everybody knows, and a shell that says `exit`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from engine.containers.state_table import Operation
from engine.errors import InvalidInputError, StartError
from engine.types import (
    ContainerStatus,
    ExecRequest,
    OutputStream,
    SessionOutput,
    TerminalSize,
)
from tests.fake_containers import FakeContainers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fake_containers import FakeContainer

_MOST_OUTPUTS = 64


class FakeSession:
    """A program that answers at once: `true`, `false`, `echo`, `cat`, or a shell."""

    def __init__(self, command: tuple[str, ...], *, has_terminal: bool) -> None:
        self._command = command
        self._has_terminal = has_terminal
        self._outputs: asyncio.Queue[SessionOutput | None] = asyncio.Queue(_MOST_OUTPUTS)
        self._exit_code: int | None = None
        self._line = b""
        self.sizes: list[TerminalSize] = []
        self.received = b""
        self.is_detached = False
        program = command[0].rpartition("/")[2]
        if program in {"true", "false"}:
            self.end(0 if program == "true" else 1)
        elif program == "echo":
            self.say(" ".join(command[1:]).encode() + b"\n")
            self.end(0)

    def say(self, data: bytes, stream: OutputStream = OutputStream.STDOUT) -> None:
        """Let the program write."""
        self._outputs.put_nowait(SessionOutput(stream=stream, data=data))

    def end(self, exit_code: int) -> None:
        """Let the program end."""
        self._exit_code = exit_code
        self._outputs.put_nowait(None)

    @property
    def has_terminal(self) -> bool:
        return self._has_terminal

    @property
    def exit_code(self) -> int | None:
        return self._exit_code if self._outputs.empty() else None

    async def read(self) -> SessionOutput | None:
        if self._exit_code is not None and self._outputs.empty():
            return None
        return await self._outputs.get()

    async def write(self, data: bytes) -> None:
        self.received += data
        if self._exit_code is not None:
            return
        if self._command[0] == "cat" or self._has_terminal:
            self.say(data)
        self._line += data
        *lines, self._line = self._line.replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            word, _, code = line.partition(b" ")
            if word == b"exit" and self._command[0] != "cat":
                self.end(int(code or b"0"))

    async def end_input(self) -> None:
        if not self._has_terminal and self._exit_code is None:
            self.end(0)

    async def resize(self, size: TerminalSize) -> None:
        self.sizes.append(size)

    async def detach(self) -> None:
        self.is_detached = True


class FakePrograms(FakeContainers):
    """Sessions of the fake engine; `sessions` has every one that was held, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[FakeSession] = []

    @contextlib.asynccontextmanager
    async def attach_container(
        self,
        reference: str,
        *,
        size: TerminalSize | None = None,
        has_replay: bool = True,
        is_from_start: bool = False,
    ) -> AsyncIterator[FakeSession]:
        container = self._find(reference)
        self._check(Operation.ATTACH, container)
        session = FakeSession(
            container.process.arguments, has_terminal=container.request.has_terminal
        )
        if has_replay:
            for line in container.log:
                session._outputs.put_nowait(
                    SessionOutput(
                        stream=line.stream,
                        data=line.text + b"\n",
                        is_replay=not is_from_start,
                    )
                )
        async with self._held(session, size):
            yield session
        if session._exit_code is not None and container.summary.status is ContainerStatus.RUNNING:
            self.change_status(
                reference, ContainerStatus.EXITED, "die", exit_code=session._exit_code
            )

    @contextlib.asynccontextmanager
    async def exec_container(
        self, reference: str, request: ExecRequest, *, size: TerminalSize | None = None
    ) -> AsyncIterator[FakeSession]:
        session = self._start(self._find(reference), request)
        async with self._held(session, size):
            yield session
        if session.has_terminal and not session.is_detached and session._exit_code is None:
            session.end(128 + signal.SIGHUP)

    async def exec_detached(self, reference: str, request: ExecRequest) -> str:
        self._start(self._find(reference), request)
        return self._new_hexadecimal()

    @contextlib.asynccontextmanager
    async def _held(self, session: FakeSession, size: TerminalSize | None) -> AsyncIterator[None]:
        self.sessions.append(session)
        if size is not None:
            await session.resize(size)
        yield

    def _start(self, container: FakeContainer, request: ExecRequest) -> FakeSession:
        self._check(Operation.EXEC, container)
        if not request.command or not request.command[0]:
            raise InvalidInputError("no command specified")
        program = request.command[0].rpartition("/")[2]
        if program not in {"true", "false", "echo", "cat", "sh", "bash"}:
            raise StartError(
                f'exec: "{request.command[0]}": executable file not found in $PATH',
                exit_code=127,
                step="exec",
            )
        return FakeSession(request.command, has_terminal=request.has_terminal)
