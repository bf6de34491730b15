"""A container in the foreground: its output here, our signals there, its exit code ours."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import ContainerStateError, EngineError, InvalidInputError, NotFoundError
from engine.types import OutputStream
from tui.cli import output
from tui.cli.terminal import RelayReason, is_terminal, relay_session, terminal_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi, Session
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


class _SignalForwarder:
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
    forwarder = _SignalForwarder(engine, reference)
    try:
        # It may end, and be removed by whoever sees that, before its log was opened.
        async with engine.hold_container(reference):
            with forwarder.installed():
                status = await _start_and_follow(engine, reference, forwarder)
    except EngineError:
        if is_removed:
            await _remove(engine, reference)
        raise
    if status.error:
        output.write_message(f"Error: {status.error}")
    if is_removed:
        await _remove(engine, reference)
    return status.exit_code


async def _start_and_follow(
    engine: EngineApi, reference: str, forwarder: _SignalForwarder
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


async def run_in_session(
    engine: EngineApi,
    reference: str,
    *,
    is_removed: bool,
    has_terminal: bool,
    has_input: bool,
    detach_keys: str,
) -> int:
    """Start a container, be connected with its program, and return its exit code.

    Args:
        is_removed: Remove the container when it has ended or could not be started.
        has_terminal: Its program has a terminal: ours, if we have one.
        has_input: Give it our stdin.
        detach_keys: What leaves it running; empty for the usual ones.

    Raises:
        StartError: Its program could not be started; `exit_code` is Docker's.
        BrokenPipeError: Nobody reads the output; the container runs on.
    """
    size = terminal_size() if has_terminal else None
    try:
        async with engine.hold_container(reference):
            await engine.start_container(reference, terminal_size=size)
            exit_code, has_ended = await _relay(
                engine,
                reference,
                engine.attach_container(reference, size=size, is_from_start=True),
                has_input=has_input,
                has_signals=not has_terminal,
                detach_keys=detach_keys,
            )
    except EngineError:
        if is_removed:
            await _remove(engine, reference)
        raise
    if is_removed and has_ended:
        await _remove(engine, reference)
    return exit_code


async def attach_in_foreground(
    engine: EngineApi, reference: str, *, has_input: bool, has_signals: bool, detach_keys: str
) -> int:
    """Be connected with the program of a running container, and return its exit code.

    Args:
        has_input: Give it our stdin.
        has_signals: Pass signals on, unless it has a terminal.
        detach_keys: What leaves it running; empty for the usual ones.
    """
    exit_code, _ = await _relay(
        engine,
        reference,
        engine.attach_container(reference, size=terminal_size()),
        has_input=has_input,
        has_signals=has_signals,
        detach_keys=detach_keys,
    )
    return exit_code


async def _relay(
    engine: EngineApi,
    reference: str,
    attached: AbstractAsyncContextManager[Session],
    *,
    has_input: bool,
    has_signals: bool,
    detach_keys: str,
) -> tuple[int, bool]:
    """Carry a session; returns the exit code, and whether the program has ended."""
    forwarder = _SignalForwarder(engine, reference)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(attached)
        if has_input and session.has_terminal and not is_terminal(0):
            raise InvalidInputError(
                "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
                hint="--no-stdin watches only",
            )
        if has_signals and not session.has_terminal:
            stack.enter_context(forwarder.installed())
            forwarding = asyncio.ensure_future(forwarder.run())
            stack.push_async_callback(_cancel, forwarding)
        end = await relay_session(session, has_input=has_input, detach_keys=detach_keys)
        if end.reason is not RelayReason.ENDED:
            return end.exit_code or 0, False
        if end.exit_code is not None:
            return end.exit_code, True
    return (await engine.wait_container(reference)).exit_code, True


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _remove(engine: EngineApi, reference: str) -> None:
    # Another engine over the same store may have been faster, or be at it now.
    with contextlib.suppress(NotFoundError, ContainerStateError):
        try:
            await engine.remove_container(reference)
        except EngineError as error:
            if isinstance(error, (NotFoundError, ContainerStateError)):
                raise
            output.write_message(f"WARNING: the container was not removed: {error.message}")
