"""Carries keys to a program and its output to our descriptors until it ends or is left.

While the program has our terminal it is in raw mode; whatever ends the relay (the program, the
detach keys, an exception, a signal) puts the terminal back as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import termios
import tty
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from engine.types import OutputStream, TerminalSize
from tui.cli.output import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.api import Session
    from engine.types import SessionOutput
    from tui.terminal.detach import DetachScanner
    from tui.terminal.emulator import BitttyModel
    from tui.terminal.modes import ModeTracker

_INPUT_BYTES = 16 * 1024
_LEAVING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_REPLAY_PAUSE_SECONDS = 0.02
"""Replayed output is painted when no more of it has come for so long; what comes later paints
again, so this only spares painting twice."""


class RelayReason(StrEnum):
    """What ended a relay."""

    ENDED = "ended"
    DETACHED = "detached"
    SIGNALLED = "signalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayEnd:
    """How a relay ended.

    Attributes:
        exit_code: What the command exits with: the program's code, None if that is not known
            here; 0 when it was left by its keys; 128 and the number of the signal that we got.
    """

    reason: RelayReason
    exit_code: int | None


def is_terminal(descriptor: int = 0) -> bool:
    """Whether a descriptor is a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def terminal_size() -> TerminalSize | None:
    """The size of the terminal that we are on; None without one, or when it does not know."""
    for descriptor in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            if size.columns > 0 and size.lines > 0:
                return TerminalSize(columns=size.columns, rows=size.lines)
    return None


async def relay_pipes(session: Session, *, has_input: bool) -> RelayEnd:
    """Relay without detach keys and without touching a terminal's modes.

    The end of our input is the end of the program's; signals are the caller's business.
    """
    with _output_thread() as executor:
        return await _Relay(session, executor, None, 1).run(has_input=has_input)


async def relay_terminal(
    session: Session, scanner: DetachScanner, *, descriptor: int = 1
) -> RelayEnd:
    """Give our terminal to the program; `scanner` finds the keys that leave it.

    Args:
        session: Its program has a terminal.
        scanner: Looks at what is typed.
        descriptor: Where its output goes; standard input is where its keys come from.
    """
    with _output_thread() as executor:
        relay = _Relay(session, executor, scanner, descriptor)
        with _raw_terminal() as again, relay.signals_taken(again):
            try:
                return await relay.run(has_input=True)
            finally:
                relay.restore_modes()


def _output_thread() -> ThreadPoolExecutor:
    # A terminal or a reader that is slow holds up the program, not the event loop.
    return ThreadPoolExecutor(1, thread_name_prefix="lamella-output")


@contextlib.contextmanager
def _raw_terminal() -> Iterator[Callable[[], None]]:
    """Put our terminal into raw mode for the time of the block; yields what does so again."""
    before = termios.tcgetattr(0)

    def make_raw() -> None:
        # Not TCSADRAIN: a terminal that the person has stopped would keep us from leaving.
        tty.setraw(0, termios.TCSANOW)

    make_raw()
    try:
        yield make_raw
    finally:
        # It may be gone: then there is nothing to put back.
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, before)


class _Relay:
    """One connection between a session and our descriptors; `scanner` if keys can leave it."""

    def __init__(
        self,
        session: Session,
        executor: ThreadPoolExecutor,
        scanner: DetachScanner | None,
        descriptor: int,
    ) -> None:
        self._session = session
        self._executor = executor
        self._scanner = scanner
        self._descriptor = descriptor
        self._left: asyncio.Future[RelayEnd] = asyncio.get_running_loop().create_future()
        self._resized = asyncio.Event()
        self._paints_replay = session.has_terminal and is_terminal(descriptor)
        self._replay: BitttyModel | None = None
        self._tracker: ModeTracker | None = None
        if scanner is not None:
            from tui.terminal.modes import ModeTracker

            self._tracker = ModeTracker()

    async def run(self, *, has_input: bool) -> RelayEnd:
        """Carry both ways until the program ends or is left."""
        reading = asyncio.ensure_future(self._carry_output())
        others = [asyncio.ensure_future(self._carry_input())] if has_input else []
        if self._scanner is not None:
            others.append(asyncio.ensure_future(self._carry_sizes()))
        try:
            ends: set[asyncio.Future[None] | asyncio.Future[RelayEnd]] = {reading, self._left}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._left.done():
                return self._left.result()
            await reading
            return RelayEnd(reason=RelayReason.ENDED, exit_code=self._session.exit_code)
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.gather(reading, *others, return_exceptions=True)

    def restore_modes(self) -> None:
        """Switch off on our terminal what the program left on."""
        if self._tracker is None:
            return
        if self._tracker.has_left or self._left.done():
            with contextlib.suppress(OSError):
                write_all(self._descriptor, self._tracker.restoring_sequence())

    @contextlib.contextmanager
    def signals_taken(self, make_raw: Callable[[], None]) -> Iterator[None]:
        """Leave on signals that would end us, and follow the terminal's size."""
        loop = asyncio.get_running_loop()

        def continued() -> None:
            make_raw()  # whoever stopped us may have changed it
            self._resized.set()

        numbers = (*_LEAVING_SIGNALS, signal.SIGWINCH, signal.SIGCONT)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in _LEAVING_SIGNALS:
            loop.add_signal_handler(number, self._leave, RelayReason.SIGNALLED, 128 + number)
        loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
        loop.add_signal_handler(signal.SIGCONT, continued)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def _leave(self, reason: RelayReason, exit_code: int) -> None:
        if not self._left.done():
            self._left.set_result(RelayEnd(reason=reason, exit_code=exit_code))

    # --- input ----------------------------------------------------------------------------------

    async def _carry_input(self) -> None:
        # A program that has ended, or closed its input, takes no more: its output tells the end.
        with contextlib.suppress(EngineError):
            while data := await _read_input():
                if self._scanner is not None:
                    data, is_leaving = self._scanner.feed(data)
                    if is_leaving:
                        if data:
                            await self._session.write(data)
                        await self._session.detach()
                        self._leave(RelayReason.DETACHED, 0)
                        return
                if data:
                    await self._session.write(data)
            if self._scanner is None:
                await self._session.end_input()
            else:
                self._leave(RelayReason.DETACHED, 0)  # the terminal has gone

    async def _carry_sizes(self) -> None:
        known: TerminalSize | None = None
        while True:
            self._resized.clear()
            size = terminal_size()
            if size is not None and size != known:
                known = size
                with contextlib.suppress(EngineError):
                    await self._session.resize(size)
            await self._resized.wait()

    # --- output ---------------------------------------------------------------------------------

    async def _carry_output(self) -> None:
        reading: asyncio.Future[SessionOutput | None] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(self._session.read())
                if self._replay is not None:
                    done, _ = await asyncio.wait({reading}, timeout=_REPLAY_PAUSE_SECONDS)
                    if not done:
                        await self._paint_replay()
                part = await reading
                if part is None:
                    await self._paint_replay()
                    return
                if part.is_replay and self._paints_replay:
                    await self._take_replay(part.data)
                else:
                    await self._paint_replay()
                    await self._write(part.stream, part.data)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _take_replay(self, data: bytes) -> None:
        if self._replay is None:
            from tui.terminal.emulator import BitttyModel

            size = terminal_size() or TerminalSize(columns=80, rows=24)
            self._replay = BitttyModel(size, scrollback_rows=0)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._replay.feed, data)

    async def _paint_replay(self) -> None:
        model, self._replay = self._replay, None
        if model is None:
            return
        from tui.terminal.paint import screen_sequence

        await self._write(OutputStream.STDOUT, screen_sequence(model))
        if model.modes.is_alternate_screen:
            # What scrolled out of the replay is missing in its picture: let the program draw.
            with contextlib.suppress(EngineError):
                await nudge(self._session, model.size)

    async def _write(self, stream: OutputStream, data: bytes) -> None:
        if self._tracker is not None:
            self._tracker.feed(data)
        descriptor = 2 if stream is OutputStream.STDERR else self._descriptor
        await asyncio.get_running_loop().run_in_executor(
            self._executor, write_all, descriptor, data
        )


async def nudge(session: Session, size: TerminalSize) -> None:
    """Make a full-screen program draw itself: it does when its terminal's size changes."""
    await session.resize(TerminalSize(columns=size.columns, rows=max(1, size.rows - 1)))
    await session.resize(size)


async def _read_input() -> bytes:
    """Wait for input and read it; empty at its end."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def is_readable() -> None:
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(0, is_readable)
    except PermissionError:
        # epoll refuses files and some devices: they are always readable.
        return await asyncio.to_thread(os.read, 0, _INPUT_BYTES)
    try:
        await readable
    finally:
        loop.remove_reader(0)
    try:
        return os.read(0, _INPUT_BYTES)
    except (BlockingIOError, InterruptedError):
        return await _read_input()
    except OSError:
        return b""  # the terminal has gone
