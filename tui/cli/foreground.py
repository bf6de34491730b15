"""A container in the foreground: its output here, our signals there, its exit code ours."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import ContainerStateError, EngineError, NotFoundError
from engine.types import OutputStream
from tui.cli import output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from engine.api import EngineApi
    from engine.types import ExitStatus, LogLine

_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_DESCRIPTORS = {OutputStream.STDOUT: 1, OutputStream.STDERR: 2}


async def write_log(
    batches: AsyncIterator[tuple[LogLine, ...]], *, has_times: bool = False
) -> None:
    """Write log lines as the container wrote them, each to the stream it came from.

    A reader that is slow holds up the log, not the event loop: the writing has its own thread.

    Raises:
        BrokenPipeError: The reader is gone.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="lamella-output") as executor:
        async for batch in batches:
            await loop.run_in_executor(executor, _write_batch, batch, has_times)


def _write_batch(batch: tuple[LogLine, ...], has_times: bool) -> None:  # noqa: FBT001
    pieces: list[bytes] = []
    current = OutputStream.STDOUT
    for line in batch:
        if line.stream is not current and pieces:
            # Keep the order that the two streams had, for who reads both in one terminal.
            output.write_all(_DESCRIPTORS[current], b"".join(pieces))
            pieces.clear()
        current = line.stream
        if has_times:
            pieces.append(timestamp(line.timestamp_ns) + b" ")
        pieces.append(line.text if line.is_partial else line.text + b"\n")
    if pieces:
        output.write_all(_DESCRIPTORS[current], b"".join(pieces))


def timestamp(time_ns: int) -> bytes:
    """Write a time as RFC 3339 with nanoseconds, in UTC."""
    import time

    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09}Z".encode()


class SignalForwarder:
    """Passes our signals on to the container; a second interrupt kills it."""

    def __init__(self, engine: EngineApi, reference: str) -> None:
        self._engine = engine
        self._reference = reference
        self._pending: asyncio.Queue[signal.Signals] = asyncio.Queue(maxsize=16)
        self._interrupts = 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take signals for the time of the block; those that come before `run` wait."""
        loop = asyncio.get_running_loop()
        for number in _FORWARDED:
            loop.add_signal_handler(number, self._take, number)
        try:
            yield
        finally:
            for number in _FORWARDED:
                loop.remove_signal_handler(number)

    def _take(self, number: signal.Signals) -> None:
        if number is signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                number = signal.SIGKILL
        # Sixteen signals that the container has not had yet are enough: a seventeenth says no more.
        with contextlib.suppress(asyncio.QueueFull):
            self._pending.put_nowait(number)

    async def run(self) -> None:
        """Forward until cancelled."""
        while True:
            number = await self._pending.get()
            # It may have ended by itself a moment ago.
            with contextlib.suppress(ContainerStateError, NotFoundError):
                await self._engine.kill_container(self._reference, signal=number.name)


async def run_in_foreground(engine: EngineApi, reference: str, *, is_removed: bool) -> int:
    """Start a container, show its output from now on, and return its exit code.

    Args:
        is_removed: Remove the container when it has ended or could not be started.

    Raises:
        StartError: Its program could not be started; `exit_code` is Docker's.
        BrokenPipeError: Nobody reads the output; the container runs on.
    """
    forwarder = SignalForwarder(engine, reference)
    try:
        # It may end, and be removed by whoever sees that, before its log was opened.
        async with engine.hold_container(reference):
            with forwarder.installed():
                status = await _start_and_follow(engine, reference, forwarder)
    except EngineError:
        if is_removed:
            await remove_after_run(engine, reference)
        raise
    if status.error:
        output.write_message(f"Error: {status.error}")
    if is_removed:
        await remove_after_run(engine, reference)
    return status.exit_code


async def _start_and_follow(
    engine: EngineApi, reference: str, forwarder: SignalForwarder
) -> ExitStatus:
    since_ns = await _newest_line(engine, reference)
    await engine.start_container(reference)
    forwarding = asyncio.ensure_future(forwarder.run())
    waiting = asyncio.ensure_future(engine.wait_container(reference))
    try:
        with contextlib.suppress(NotFoundError):
            await write_log(engine.follow_logs(reference, is_following=True, since_ns=since_ns))
        return await waiting
    finally:
        for task in (forwarding, waiting):
            task.cancel()
        await asyncio.gather(forwarding, waiting, return_exceptions=True)


async def _newest_line(engine: EngineApi, reference: str) -> int | None:
    """When the newest line of an earlier run was written, and one nanosecond."""
    newest: int | None = None
    async for batch in engine.follow_logs(reference, tail=1):
        for line in batch:
            newest = line.timestamp_ns + 1
    return newest


async def remove_after_run(engine: EngineApi, reference: str) -> None:
    """Remove a container that has ended, or could not be started; says what keeps it."""
    # Another engine over the same store may have been faster, or be at it now.
    with contextlib.suppress(NotFoundError, ContainerStateError):
        try:
            await engine.remove_container(reference)
        except EngineError as error:
            if isinstance(error, (NotFoundError, ContainerStateError)):
                raise
            output.write_message(f"WARNING: the container was not removed: {error.message}")
