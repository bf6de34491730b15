"""Commands that list: ps, top, diff."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.types import ChangeKind, ContainerStatus
from tui import format as formats
from tui.cli import output
from tui.cli.command import Command
from tui.cli.images import NO_TRUNCATION, QUIET, wants_json
from tui.cli.options import Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import ContainerSummary
    from tui.cli.options import Arguments

_CHANGE_LETTERS = {
    ChangeKind.ADDED: "A",
    ChangeKind.MODIFIED: "C",
    ChangeKind.REMOVED: "D",
}
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


async def list_containers(engine: EngineApi, arguments: Arguments) -> int:
    """List containers that run, or (-a) all of them."""
    keeps = _read_filters(arguments)
    is_whole = arguments.is_on("no-trunc")
    found = [summary for summary in await engine.list_containers() if keeps(summary)]
    if arguments.is_on("quiet"):
        for summary in found:
            identifier = summary.container_id
            output.write_line(identifier if is_whole else output.short_id(identifier))
        return 0
    if wants_json(arguments, "ps"):
        from tui.cli.documents import line

        for summary in found:
            output.write_line(line(summary))
        return 0
    now = time.time()
    rows = [
        (
            summary.container_id if is_whole else output.short_id(summary.container_id),
            summary.image,
            summary.command if is_whole else output.shorten(summary.command, 30),
            formats.age(summary.created_at, now=now),
            formats.status(summary, now=now),
            summary.name,
        )
        for summary in found
    ]
    output.write_table(("CONTAINER ID", "IMAGE", "COMMAND", "AGE", "STATUS", "NAME"), rows)
    return 0


def _read_filters(arguments: Arguments) -> Callable[[ContainerSummary], bool]:
    """One filter's values are alternatives; different filters must all hold."""
    statuses: set[ContainerStatus] = set()
    names: list[str] = []
    for text in arguments.texts("filter"):
        key, _, value = text.partition("=")
        if key == "status" and value in set(map(str, ContainerStatus)):
            statuses.add(ContainerStatus(value))
        elif key == "status":
            known = ", ".join(ContainerStatus)
            raise UsageError(f"unknown status: {value}, one of {known}", command="ps")
        elif key == "name" and value:
            names.append(value)
        else:
            raise UsageError(f"unknown filter: {text}, status=… or name=…", command="ps")
    is_all = arguments.is_on("all") or bool(statuses)

    def keeps(summary: ContainerSummary) -> bool:
        if not is_all and summary.status not in _ALIVE:
            return False
        if statuses and summary.status not in statuses:
            return False
        return not names or any(name in summary.name for name in names)

    return keeps


async def top(engine: EngineApi, arguments: Arguments) -> int:
    """List the processes of a container."""
    processes = await engine.list_processes(arguments.operands[0])
    rows = [
        (
            process.user,
            str(process.process_id),
            str(process.parent_process_id),
            f"{process.cpu_percent:.1f}",
            time.strftime("%H:%M", time.localtime(process.started_at)),
            f"{int(process.cpu_seconds) // 60}:{int(process.cpu_seconds) % 60:02}",
            formats.size(process.resident_bytes),
            process.state,
            process.command,
        )
        for process in processes
    ]
    heads = ("USER", "PID", "PPID", "CPU %", "START", "TIME", "MEMORY", "STATE", "COMMAND")
    output.write_table(heads, rows)
    return 0


async def diff(engine: EngineApi, arguments: Arguments) -> int:
    """List what the writable layer adds (A), changes (C) and deletes (D)."""
    for change in await engine.list_changes(arguments.operands[0]):
        letter = _CHANGE_LETTERS.get(change.change)
        if letter is not None:
            output.write_line(f"{letter} /{change.path}")
    return 0


COMMANDS = (
    Command(
        "ps",
        "",
        "List containers that run.",
        list_containers,
        (
            Option("all", "a", "", "Also those that do not run"),
            QUIET,
            NO_TRUNCATION,
            Option("filter", "f", "KEY=VALUE", "Only status=… or name=…", True),
            Option("format", "", "json", "Print JSON, one object a line"),
        ),
    ),
    Command("top", "CONTAINER", "List the processes of a container.", top, (), (1, 1)),
    Command(
        "diff",
        "CONTAINER",
        "List what a container added (A), changed (C) and deleted (D) in its files.",
        diff,
        (),
        (1, 1),
    ),
)
