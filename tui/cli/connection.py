"""A container whose program we are connected with: our terminal or pipes, its exit code ours."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from engine.errors import EngineError, InvalidInputError
from tui.cli.foreground import SignalForwarder, remove_after_run
from tui.cli.terminal import RelayReason, is_terminal, relay_session, terminal_size

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi, Session


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
            await remove_after_run(engine, reference)
        raise
    if is_removed and has_ended:
        await remove_after_run(engine, reference)
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
    forwarder = SignalForwarder(engine, reference)
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
