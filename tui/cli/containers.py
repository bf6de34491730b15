"""Commands that change containers: start, stop, kill, pause, wait, rename, rm and their like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ContainerStateError, EngineError
from tui.cli import output
from tui.cli.command import Command
from tui.cli.dispatch import report
from tui.cli.options import Option, UsageError
from tui.cli.session import for_each
from tui.cli.session_options import DETACH_KEYS, INTERACTIVE, check_terminal, detach_keys
from tui.cli.values import timeout_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api import EngineApi
    from tui.cli.options import Arguments

_CONTAINERS = "CONTAINER [CONTAINER...]"
_TIMEOUT = Option("timeout", "t", "SECONDS", "Wait this long before killing it; -1 is for ever")


async def _each(arguments: Arguments, act: Callable[[str], Awaitable[object]]) -> int:
    """Act on every container and print its name as it was typed, as Docker does."""

    async def act_and_say(reference: str) -> None:
        try:
            await act(reference)
        except ContainerStateError as error:
            if not error.is_already_done:
                raise
        output.write_line(reference)

    return await for_each(arguments.operands, act_and_say)


async def start(engine: EngineApi, arguments: Arguments) -> int:
    """Start containers; with --attach show one's output and take its exit code."""
    has_input = arguments.is_on("interactive")
    if not (arguments.is_on("attach") or has_input):
        return await _each(arguments, engine.start_container)
    if len(arguments.operands) != 1:
        raise UsageError("--attach and --interactive take one container", command="start")
    from tui.cli.connection import run_in_session
    from tui.cli.foreground import run_in_foreground

    (reference,) = arguments.operands
    has_terminal = (await engine.inspect_container(reference)).has_terminal
    if not (has_terminal or has_input):
        return await run_in_foreground(engine, reference, is_removed=False)
    check_terminal(has_input=has_input, has_terminal=has_terminal)
    return await run_in_session(
        engine,
        reference,
        is_removed=False,
        has_terminal=has_terminal,
        has_input=has_input,
        detach_keys=detach_keys(arguments),
    )


async def stop(engine: EngineApi, arguments: Arguments) -> int:
    """Stop containers."""
    timeout = timeout_seconds("--timeout", arguments.text("timeout"))
    signal = arguments.text("signal")
    return await _each(
        arguments,
        lambda reference: engine.stop_container(reference, timeout_seconds=timeout, signal=signal),
    )


async def restart(engine: EngineApi, arguments: Arguments) -> int:
    """Stop and start containers."""
    timeout = timeout_seconds("--timeout", arguments.text("timeout"))
    return await _each(
        arguments,
        lambda reference: engine.restart_container(reference, timeout_seconds=timeout),
    )


async def kill(engine: EngineApi, arguments: Arguments) -> int:
    """Send a signal to containers."""
    signal = arguments.text("signal") or "SIGKILL"
    return await _each(arguments, lambda reference: engine.kill_container(reference, signal=signal))


async def pause(engine: EngineApi, arguments: Arguments) -> int:
    """Freeze containers."""
    return await _each(arguments, engine.pause_container)


async def unpause(engine: EngineApi, arguments: Arguments) -> int:
    """Let containers go on."""
    return await _each(arguments, engine.unpause_container)


async def wait(engine: EngineApi, arguments: Arguments) -> int:
    """Wait for containers, one after the other, and print their exit codes."""

    async def wait_and_say(reference: str) -> None:
        status = await engine.wait_container(reference)
        output.write_line(str(status.exit_code))

    return await for_each(arguments.operands, wait_and_say)


async def rename(engine: EngineApi, arguments: Arguments) -> int:
    """Give a container another name."""
    await engine.rename_container(arguments.operands[0], arguments.operands[1])
    return 0


async def remove(engine: EngineApi, arguments: Arguments) -> int:
    """Remove containers."""
    is_forced = arguments.is_on("force")
    exit_code = 0
    for reference in arguments.operands:
        try:
            await engine.remove_container(
                reference, is_forced=is_forced, removes_volumes=arguments.is_on("volumes")
            )
        except EngineError as error:
            report(error)
            exit_code = 1
        else:
            output.write_line(reference)
    return exit_code


COMMANDS = (
    Command(
        "start",
        _CONTAINERS,
        "Start containers that do not run.",
        start,
        (
            Option("attach", "a", "", "Show its output, pass signals on, exit with its exit code"),
            INTERACTIVE,
            DETACH_KEYS,
        ),
        (1, None),
    ),
    Command(
        "stop",
        _CONTAINERS,
        "Send the stop signal, and after the timeout SIGKILL.",
        stop,
        (_TIMEOUT, Option("signal", "s", "SIGNAL", "Send this instead of the stop signal")),
        (1, None),
    ),
    Command(
        "restart", _CONTAINERS, "Stop containers and start them.", restart, (_TIMEOUT,), (1, None)
    ),
    Command(
        "kill",
        _CONTAINERS,
        "Send a signal to the first process of containers.",
        kill,
        (Option("signal", "s", "SIGNAL", "What to send; SIGKILL without it"),),
        (1, None),
    ),
    Command("pause", _CONTAINERS, "Freeze every process of containers.", pause, (), (1, None)),
    Command("unpause", _CONTAINERS, "Let paused containers go on.", unpause, (), (1, None)),
    Command(
        "wait",
        _CONTAINERS,
        "Wait until containers do not run, and print their exit codes.",
        wait,
        (),
        (1, None),
        only_looks=True,
    ),
    Command("rename", "CONTAINER NAME", "Give a container another name.", rename, (), (2, 2)),
    Command(
        "rm",
        _CONTAINERS,
        "Remove containers, with their writable layers and logs.",
        remove,
        (
            Option("force", "f", "", "Kill a container that runs"),
            Option("volumes", "v", "", "Remove its anonymous volumes, too"),
        ),
        (1, None),
    ),
)
