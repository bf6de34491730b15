"""`exec` and `attach`: programs in containers, on our terminal or between our pipes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.types import ExecRequest
from tui.cli import output, values
from tui.cli.command import Command
from tui.cli.connection import attach_in_foreground
from tui.cli.options import Option
from tui.cli.process_options import file_variables
from tui.cli.session_options import (
    DETACH_KEYS,
    INTERACTIVE,
    TERMINAL,
    check_terminal,
    detach_keys,
)
from tui.cli.terminal import relay_session, terminal_size

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments

_SIGNALS = Option("sig-proxy", "", "", "Pass signals on (--sig-proxy=false does not)")


async def execute(engine: EngineApi, arguments: Arguments) -> int:
    """Run a program in a running container."""
    container, *command = arguments.operands
    is_detached = arguments.is_on("detach")
    has_terminal, has_input = arguments.is_on("tty"), arguments.is_on("interactive")
    keys = detach_keys(arguments)
    request = ExecRequest(
        command=tuple(command),
        environment=(
            *await asyncio.to_thread(file_variables, arguments.texts("env-file"), os.environ),
            *values.environment(arguments.texts("env"), dict(os.environ)),
        ),
        working_directory=arguments.text("workdir"),
        user=arguments.text("user"),
        has_terminal=has_terminal,
        is_stdin_open=has_input,
        is_privileged=arguments.is_on("privileged"),
    )
    if is_detached:
        output.write_line(await engine.exec_detached(container, request))
        return 0
    check_terminal(has_input=has_input, has_terminal=has_terminal)
    size = terminal_size() if has_terminal else None
    async with engine.exec_container(container, request, size=size) as session:
        end = await relay_session(session, has_input=has_input, detach_keys=keys)
    if end.exit_code is None:
        raise EngineError("the program's exit code is not known", hint="Its container has ended")
    return end.exit_code


async def attach(engine: EngineApi, arguments: Arguments) -> int:
    """Connect to the program of a running container."""
    return await attach_in_foreground(
        engine,
        arguments.operands[0],
        has_input=not arguments.is_on("no-stdin"),
        has_signals=arguments.text("sig-proxy") != "false",
        detach_keys=detach_keys(arguments),
    )


COMMANDS = (
    Command(
        "exec",
        "CONTAINER COMMAND [ARGUMENT...]",
        "Run another program in a running container.",
        execute,
        (
            Option("detach", "d", "", "Run it in the background and print its id"),
            INTERACTIVE,
            TERMINAL,
            Option("env", "e", "NAME[=VALUE]", "Set a variable", True),
            Option("env-file", "", "FILE", "Set the variables of a file, one on each line", True),
            Option("workdir", "w", "DIRECTORY", "Working directory; it must exist"),
            Option("user", "u", "USER[:GROUP]", "Run as this user, by name or number"),
            Option("privileged", "", "", "Give it all capabilities and no system call filter"),
            DETACH_KEYS,
        ),
        (2, None),
        True,
        (
            "Exits with the program's exit code; 126 when it cannot be executed, 127 when it was",
            "not found.",
        ),
    ),
    Command(
        "attach",
        "CONTAINER",
        "Connect to the program of a running container; its screen is painted anew.",
        attach,
        (
            Option("no-stdin", "", "", "Do not give it our stdin"),
            _SIGNALS,
            DETACH_KEYS,
        ),
        (1, 1),
        False,
        ("Exits with the container's exit code, or 0 when the detach keys left it.",),
    ),
)
