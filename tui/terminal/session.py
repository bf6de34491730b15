"""A terminal that is open in the application: a program in a container, and its emulator.

The session lives on the engine's loop, the emulator on the interface's. Output crosses through a
queue of the bridge that holds a few parts: when it is full the session is not read, which in the
end holds up the program. Nothing is dropped. Keys go the other way, in order, one write at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from engine.types import SessionOutput, TerminalSize
from tui.terminal.emulator import BitttyModel
from tui.terminal.relay import nudge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi, Session
    from tui.bridge import Bridge

_FEED_BYTES = 2048
"""Emulated in one go: the costliest of sequences do not keep keys waiting for long."""
_MAXIMUM_WAITING_BYTES = 1024 * 1024


class TerminalStatus(StrEnum):
    """What became of an open terminal."""

    OPENING = "opening"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    has_terminal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    exit_code: int | None


class OpenTerminal:
    """One program on a terminal.

    Args:
        bridge: To the engine.
        opener: Opens the session, on the engine's loop, with a terminal of the given size.
        container_name: Whose program it is, clean.
        label: What it is called, clean.
        is_exec: Whether it was started for this terminal and goes on when nobody looks.
        size: What it begins with.
    """

    def __init__(
        self,
        bridge: Bridge,
        opener: Callable[[EngineApi, TerminalSize], AbstractAsyncContextManager[Session]],
        *,
        container_name: str,
        label: str,
        is_exec: bool,
        size: TerminalSize,
    ) -> None:
        self._bridge = bridge
        self._opener = opener
        self.container_name = container_name
        self.label = label
        self.is_exec = is_exec
        self.model = BitttyModel(size)
        self.status = TerminalStatus.OPENING
        self.exit_code: int | None = None
        self.error: EngineError | None = None
        self.has_terminal = True
        self.was_opened = False
        self.listener: Callable[[], None] | None = None
        """Told after output, and when the status changes."""
        self.opened_listener: Callable[[], None] | None = None
        """Told once, when the program is there."""
        self.tap: Callable[[bytes], Awaitable[None]] | None = None
        """Gets the program's bytes as well, as they are; the program waits for it."""
        self._session: Session | None = None
        self._size = size
        self._sent_size = size
        self._waiting = bytearray()
        self._has_work = asyncio.Event()
        self._is_left = asyncio.Event()
        self.sent = asyncio.Event()
        """Set when waiting input has been taken."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more."""
        return self.status in (TerminalStatus.ENDED, TerminalStatus.LOST, TerminalStatus.LEFT)

    async def run(self) -> None:
        """Open it and carry both ways until the program ends or is left, or it is lost."""
        receiving = asyncio.ensure_future(self._receive())
        others = (
            asyncio.ensure_future(self._transmit()),
            asyncio.ensure_future(self._wait_for_leaving()),
        )
        try:
            await asyncio.wait({receiving, others[1]}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                await receiving
            else:
                self.status = TerminalStatus.LEFT
        except EngineError as error:
            self.error = error
            self.status = TerminalStatus.LOST
        finally:
            for task in (receiving, *others):
                task.cancel()
            await asyncio.gather(receiving, *others, return_exceptions=True)
            self._session = None
            self._tell()

    async def _wait_for_leaving(self) -> None:
        await self._is_left.wait()

    def leave(self) -> None:
        """Detach; the program goes on."""
        self._is_left.set()

    def send(self, data: bytes) -> bool:
        """Send input; False when so much waits already that the program seems not to read."""
        if len(self._waiting) + len(data) > _MAXIMUM_WAITING_BYTES:
            return False
        self._waiting += data if self.has_terminal else data.replace(b"\r", b"\n")
        self._has_work.set()
        return True

    def resize(self, size: TerminalSize) -> None:
        """Change the size of the emulator's screen and of the program's terminal."""
        self.model.resize(size)
        self._size = self.model.size
        self._has_work.set()
        self._tell()

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener()

    # --- output -----------------------------------------------------------------------------------

    async def _parts(self, engine: EngineApi) -> AsyncIterator[_Opened | SessionOutput | _Ended]:
        """Read the session; runs on the engine's loop, and leaves the session when it is closed."""
        async with self._opener(engine, self._size) as session:
            self._session = session
            yield _Opened(has_terminal=session.has_terminal)
            while (part := await session.read()) is not None:
                yield part
            yield _Ended(exit_code=session.exit_code)

    async def _receive(self) -> None:
        was_replay = False
        stream = self._bridge.stream(self._parts)
        async with contextlib.aclosing(stream):
            async for parts in stream:
                for part in parts:
                    match part:
                        case SessionOutput():
                            await self._take(part)
                            if was_replay and not part.is_replay:
                                await self._nudge()
                            was_replay = part.is_replay
                        case _Opened():
                            self.was_opened = True
                            self.has_terminal = part.has_terminal
                            if not part.has_terminal:
                                self.model.feed(b"\x1b[20h")  # lines end in LF alone
                            self.status = TerminalStatus.RUNNING
                            self._has_work.set()
                            if self.opened_listener is not None:
                                self.opened_listener()
                            self._tell()
                        case _Ended():
                            self.exit_code = part.exit_code
                            self.status = TerminalStatus.ENDED
                            return
                if was_replay:
                    await self._nudge()
                    was_replay = False

    async def _nudge(self) -> None:
        # What scrolled out of the replay is missing in its picture: let the program draw.
        session = self._session
        if session is not None and self.model.modes.is_alternate_screen:
            with contextlib.suppress(EngineError):
                await self._bridge.call(lambda _engine: nudge(session, self._size))

    async def _take(self, part: SessionOutput) -> None:
        data = part.data
        if self.tap is not None:
            await self.tap(data)
        for start in range(0, len(data), _FEED_BYTES):
            self.model.feed(data[start : start + _FEED_BYTES])
            self._tell()
            await asyncio.sleep(0)  # keys and painting come in between
        replies = self.model.take_replies()
        if part.is_replay:
            self.model.take_bells()  # those questions were answered when they were asked
        elif replies and self.tap is None:  # else the real terminal answers
            self.send(replies)

    # --- input ------------------------------------------------------------------------------------

    async def _transmit(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            session = self._session
            if session is None:
                continue  # opening sets the event again
            # A program that has just ended takes no more: its output tells the end.
            with contextlib.suppress(EngineError):
                if self._size != self._sent_size:
                    self._sent_size = size = self._size
                    await self._bridge.call(partial(_resize, session=session, size=size))
                while self._waiting:
                    data = bytes(self._waiting)
                    self._waiting.clear()
                    await self._bridge.call(partial(_write, session=session, data=data))
                    self.sent.set()


async def _resize(_engine: EngineApi, *, session: Session, size: TerminalSize) -> None:
    await session.resize(size)


async def _write(_engine: EngineApi, *, session: Session, data: bytes) -> None:
    await session.write(data)
