"""From words to a command, and from what goes wrong to a message and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from engine.errors import EngineError, InvalidInputError
from tui.cli import output, table
from tui.cli.options import GLOBAL_OPTIONS, UsageError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.cli.command import Command
    from tui.cli.session import Opener

ENGINE_FAILED = 125
"""Docker's exit code for: the engine, not the container, failed."""


def run(words: Sequence[str], *, opener: Opener | None = None) -> int:
    """Do what the words say and return the exit code; raises nothing but BrokenPipeError."""
    try:
        return _run(words, opener)
    except BrokenPipeError:
        raise
    except EngineError as error:
        return report(error)
    except Exception as error:
        if os.environ.get("LAMELLA_DEBUG"):
            raise
        return _report_unexpected(error)


def report(error: EngineError) -> int:
    """Tell the person what went wrong and what to do; returns the exit code."""
    output.write_message(f"Error: {error.message}")
    if error.hint:
        output.write_message(f"hint: {error.hint}")
    return error.exit_code


def find_command(name: str, following: str = "") -> Command:
    """Import the module of a command and take the command from it.

    Args:
        name: The first word.
        following: The one behind it, which a command of two words (`volume ls`) has in its name.

    Raises:
        UsageError: There is no such command.
    """
    module_name = table.module_of(name)
    if module_name is None:
        close = _closest(name)
        meant = f", did you mean `{close}`?" if close else ""
        raise UsageError(f"unknown command: {name}{meant}")
    commands: tuple[Command, ...] = importlib.import_module(module_name).COMMANDS
    by_name = {command.name: command for command in commands}
    return by_name.get(f"{name} {following}") or by_name[name]


def _run(words: Sequence[str], opener: Opener | None) -> int:
    before = parse(words, (), command="", stops_at_operand=True)
    match before.operands:
        case ["help", name, *following]:
            output.write_text(find_command(name, *following[:1]).help_text())
            return 0
        case [] if before.is_on("help"):
            output.write_text(table.help_text())
            return 0
    root, run_directory = before.text("root"), before.text("run")
    if not before.operands:
        return _open_application(root, run_directory)
    command = find_command(*before.operands[:2])
    arguments = parse(
        before.operands[len(command.name.split()) :],
        command.options,
        command=command.name,
        stops_at_operand=command.stops_at_operand,
    )
    if before.is_on("help") or arguments.is_on("help"):
        output.write_text(command.help_text())
        return 0
    command.check_operands(arguments)
    from tui.cli.session import run_command

    root_name, run_name = (option.name for option in GLOBAL_OPTIONS)
    return run_command(
        command,
        arguments,
        root=arguments.text(root_name) or root,
        run=arguments.text(run_name) or run_directory,
        opener=opener,
    )


def _open_application(root: str | None, run_directory: str | None) -> int:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("the application needs a terminal; commands do not")
    if (terminal := os.environ.get("TERM")) in {"dumb", "unknown"}:
        raise InvalidInputError(
            f"the application needs a terminal that can place text, TERM is {terminal}",
            hint="try TERM=xterm, or use commands, which need none (`lamella --help`)",
        )
    from pathlib import Path

    from tui.app import run_application

    return run_application(
        root=Path(root) if root else None,
        run=Path(run_directory) if run_directory else None,
    )


def _closest(name: str) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(name, table.names(), n=1)), "")


def _report_unexpected(error: Exception) -> int:
    from tui.cli.crash import write_crash

    path = write_crash(error)
    output.write_message(f"Error: something unexpected went wrong: {type(error).__name__}: {error}")
    if path:
        output.write_message(f"hint: the details are in {path}")
    else:
        output.write_message("hint: LAMELLA_DEBUG=1 shows the details")
    return ENGINE_FAILED
