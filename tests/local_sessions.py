"""Sessions as the engine gives them: over a real program on a local terminal, or from a script."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.types import OutputStream, SessionOutput, TerminalSize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from engine.api import Session

CHUNK_BYTES = 16 * 1024
SIZE = TerminalSize(columns=80, rows=24)


class ScriptedSession:
    """Gives what a test puts in, and keeps what it is told.

    `give` adds output, `end` an end. Reading waits like the real one; more than `capacity` parts
    are not taken before the reader takes some.
    """

    def __init__(self, *parts: SessionOutput, has_terminal: bool = True, capacity: int = 4) -> None:
        self.has_terminal = has_terminal
        self.exit_code: int | None = None
        self.written = b""
        self.sizes: list[TerminalSize] = []
        self.has_ended_input = False
        self.is_left = False
        self.is_detached = False
        self.changed = asyncio.Condition()
        self.writable = asyncio.Event()
        self.writable.set()
        self._parts: asyncio.Queue[SessionOutput | EngineError | None] = asyncio.Queue(capacity)
        for part in parts:
            self._parts.put_nowait(part)

    async def give(self, data: bytes, *, is_replay: bool = False, is_error: bool = False) -> None:
        stream = OutputStream.STDERR if is_error else OutputStream.STDOUT
        await self._parts.put(SessionOutput(stream=stream, data=data, is_replay=is_replay))

    async def end(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        await self._parts.put(None)

    async def lose(self, error: EngineError) -> None:
        await self._parts.put(error)

    async def read(self) -> SessionOutput | None:
        part = await self._parts.get()
        if isinstance(part, EngineError):
            raise part
        return part

    async def write(self, data: bytes) -> None:
        await self.writable.wait()
        self.written += data
        await self._tell()

    async def end_input(self) -> None:
        self.has_ended_input = True
        await self._tell()

    async def resize(self, size: TerminalSize) -> None:
        self.sizes.append(size)
        await self._tell()

    async def detach(self) -> None:
        self.is_detached = True
        await self._tell()

    async def leave(self) -> None:
        self.is_left = True
        await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class PtySession:
    """A program on a terminal of this machine, as `exec -it` has one in a container."""

    has_terminal = True

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self._process = process
        self._descriptor = descriptor
        self.exit_code: int | None = None
        self.parts = (process, descriptor)

    async def read(self) -> SessionOutput | None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except OSError:  # EIO: nobody has the other end any more
            data = b""
        if not data:
            self.exit_code = await self._process.wait()
            return None
        return SessionOutput(stream=OutputStream.STDOUT, data=data)

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                writable = asyncio.Event()
                asyncio.get_running_loop().add_writer(self._descriptor, writable.set)
                try:
                    await writable.wait()
                finally:
                    asyncio.get_running_loop().remove_writer(self._descriptor)
            except OSError as error:
                raise EngineError("the program has ended") from error

    async def end_input(self) -> None:
        return

    async def resize(self, size: TerminalSize) -> None:
        set_size(self._descriptor, size)

    async def detach(self) -> None:
        return

    async def close(self) -> None:
        os.close(self._descriptor)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        is_cancelled = False
        while self._process.returncode is None:
            try:
                await self._process.wait()
            except asyncio.CancelledError:
                is_cancelled = True  # even then nothing may be left behind
        self.exit_code = self._process.returncode
        if is_cancelled:
            raise asyncio.CancelledError


def set_size(descriptor: int, size: TerminalSize) -> None:
    packed = struct.pack("HHHH", size.rows, size.columns, 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, packed)


def terminal_environment(**more: str) -> dict[str, str]:
    """The environment of a container's program: nothing of this machine's person."""
    return {
        "PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", "HOME": "/tmp",
        **more,
    }  # fmt: skip


def on_terminal(command: Sequence[str]) -> tuple[str, ...]:
    """A command whose standard input becomes its terminal; it ends when that is hung up.

    A run in the background may ignore hang-ups, and programs would inherit that.
    """
    return ("env", "--default-signal=HUP", "setsid", "--ctty", *command)


@contextlib.asynccontextmanager
async def pty_session(
    command: Sequence[str],
    *,
    size: TerminalSize = SIZE,
    directory: str | os.PathLike[str] | None = None,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[PtySession]:
    """Run a program on a terminal; leaving the block ends it."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    set_size(ours, size)
    try:
        process = await asyncio.create_subprocess_exec(
            *on_terminal(command), stdin=theirs, stdout=theirs, stderr=theirs,
            cwd=directory, env=environment or terminal_environment(),
        )  # fmt: skip
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    session = PtySession(process, ours)
    try:
        yield session
    finally:
        await session.close()


@contextlib.asynccontextmanager
async def opened(session: ScriptedSession) -> AsyncIterator[Session]:
    """Open a scripted session as the engine opens a real one."""
    try:
        yield session
    finally:
        await session.leave()
