"""`logs`: what a container wrote, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli.command import Command
from tui.cli.foreground import write_log
from tui.cli.options import Option
from tui.cli.values import moment_ns, tail

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments


async def logs(engine: EngineApi, arguments: Arguments) -> int:
    """Write the log to standard output and standard error, as the container did."""
    batches = engine.follow_logs(
        arguments.operands[0],
        is_following=arguments.is_on("follow"),
        tail=tail(arguments.text("tail")),
        since_ns=moment_ns("--since", arguments.text("since")),
        until_ns=moment_ns("--until", arguments.text("until")),
    )
    await write_log(batches, has_times=arguments.is_on("timestamps"))
    return 0


COMMANDS = (
    Command(
        "logs",
        "CONTAINER",
        "Show what a container wrote: its stdout to stdout, its stderr to stderr.",
        logs,
        (
            Option("follow", "f", "", "Go on as it writes, until it ends"),
            Option("tail", "n", "LINES", "Begin with this many lines from the end, or all"),
            Option("since", "", "TIME", "Only from then on: 10m, 2026-01-31T10:00:00, seconds"),
            Option("until", "", "TIME", "Only up to then"),
            Option("timestamps", "t", "", "Put the time before each line"),
        ),
        (1, 1),
        only_looks=True,
    ),
)
