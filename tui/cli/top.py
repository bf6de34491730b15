"""`top`: the processes of a container, with the options and columns of ps(1).

The figures are the host's, as Docker's are: process ids count as the host counts them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from tui.cli import output
from tui.cli.command import Command
from tui.cli.options import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.api import EngineApi
    from engine.types import ProcessInfo
    from tui.cli.options import Arguments

_STATE_LETTERS = {
    "running": "R",
    "sleeping": "S",
    "disk-sleep": "D",
    "stopped": "T",
    "tracing-stop": "t",
    "zombie": "Z",
    "dead": "X",
    "idle": "I",
}
_DAY_SECONDS = 86_400


class _Column(NamedTuple):
    head: str
    cell: Callable[[ProcessInfo], str]


def _start(process: ProcessInfo) -> str:
    is_today = time.time() - process.started_at < _DAY_SECONDS
    return time.strftime("%H:%M" if is_today else "%b%d", time.localtime(process.started_at))


def _clock(seconds: float, *, has_hours: bool) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if not has_hours:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"


def _elapsed(process: ProcessInfo) -> str:
    minutes, seconds = divmod(max(0, int(time.time() - process.started_at)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{minutes:02}:{seconds:02}"
    if days or hours:
        text = f"{hours:02}:{text}"
    return f"{days}-{text}" if days else text


def _memory_share(process: ProcessInfo) -> str:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{100 * process.resident_bytes / whole:.1f}"


def _state(process: ProcessInfo) -> str:
    return _STATE_LETTERS.get(process.state, "?")


_COLUMNS = {
    "pid": _Column("PID", lambda process: str(process.process_id)),
    "ppid": _Column("PPID", lambda process: str(process.parent_process_id)),
    "user": _Column("USER", lambda process: process.user),
    "uid": _Column("UID", lambda process: str(process.user_id)),
    "pcpu": _Column("%CPU", lambda process: f"{process.cpu_percent:.1f}"),
    "c": _Column("C", lambda process: str(min(99, int(process.cpu_percent)))),
    "pmem": _Column("%MEM", _memory_share),
    "rss": _Column("RSS", lambda process: str(process.resident_bytes // 1024)),
    "vsz": _Column("VSZ", lambda process: str(process.virtual_bytes // 1024)),
    "stime": _Column("STIME", _start),
    "start": _Column("START", _start),
    "etime": _Column("ELAPSED", _elapsed),
    "etimes": _Column(
        "ELAPSED", lambda process: str(max(0, int(time.time() - process.started_at)))
    ),
    "time": _Column("TIME", lambda process: _clock(process.cpu_seconds, has_hours=True)),
    "bsdtime": _Column("TIME", lambda process: _clock(process.cpu_seconds, has_hours=False)),
    "tty": _Column("TTY", lambda process: process.terminal or "?"),
    "stat": _Column("STAT", _state),
    "s": _Column("S", _state),
    "ni": _Column("NI", lambda process: str(process.nice)),
    "nlwp": _Column("NLWP", lambda process: str(process.thread_count)),
    "comm": _Column("COMMAND", lambda process: process.name),
    "args": _Column("COMMAND", lambda process: process.command),
    "cmd": _Column("CMD", lambda process: process.command),
}
_OTHER_NAMES = {
    "%cpu": "pcpu", "%mem": "pmem", "command": "args", "rssize": "rss", "rsz": "rss",
    "vsize": "vsz", "state": "s", "start_time": "stime", "lstart": "start", "euser": "user",
    "uname": "user", "euid": "uid", "tt": "tty", "tname": "tty", "ucmd": "comm", "ucomm": "comm",
    "cputime": "time", "nice": "ni", "thcount": "nlwp", "cp": "c",
}  # fmt: skip
_SHORT = tuple(_COLUMNS[name] for name in ("pid", "tty", "time", "cmd"))
_FULL = (
    # As -f has it: the user's name below the head UID.
    _Column("UID", _COLUMNS["user"].cell),
    *(_COLUMNS[name] for name in ("pid", "ppid", "c", "stime", "tty", "time", "cmd")),
)
_BSD = tuple(
    _COLUMNS[name]
    for name in (
        "user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "bsdtime", "args",
    )
)  # fmt: skip


def read_columns(words: Sequence[str]) -> tuple[_Column, ...]:
    """Read the options of ps: `-ef`, `aux`, `-o pid,comm`, `-eo pid=ID`.

    Raises:
        UsageError: An option or a column that is not known.
    """
    chosen: tuple[_Column, ...] = ()
    layout: tuple[_Column, ...] = _FULL
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--format"):
            word = f"-o{word.removeprefix('--format').removeprefix('=')}"
        if word.startswith("-"):
            letters, has_columns, columns = word[1:].partition("o")
            if set(letters) - set("eAafFww"):
                raise _unknown(word)
            if has_columns:
                columns = columns or (waiting.pop(0) if waiting else "")
                chosen += _chosen(columns)
            elif "f" not in letters.lower():
                layout = _SHORT
        elif word and not set(word) - set("auxwf"):
            layout = _BSD if "u" in word else _SHORT
        elif word == "o" and waiting:
            chosen += _chosen(waiting.pop(0))
        else:
            raise _unknown(word)
    return chosen or layout


def _chosen(text: str) -> tuple[_Column, ...]:
    found: list[_Column] = []
    for part in text.replace(" ", ",").split(","):
        name, has_head, head = part.partition("=")
        name = name.strip().lower()
        column = _COLUMNS.get(_OTHER_NAMES.get(name, name))
        if column is None:
            known = ", ".join(_COLUMNS)
            raise UsageError(f"unknown column: {name or text!r}, one of {known}", command="top")
        found.append(_Column(head, column.cell) if has_head else column)
    return tuple(found)


def _unknown(word: str) -> UsageError:
    return UsageError(f"unknown option of ps: {word}, -ef, aux or -o COLUMNS", command="top")


async def top(engine: EngineApi, arguments: Arguments) -> int:
    """List the processes of a container."""
    reference, *words = arguments.operands
    columns = read_columns(words)
    processes = await engine.list_processes(reference)
    rows = [tuple(column.cell(process) for column in columns) for process in processes]
    output.write_table(tuple(column.head for column in columns), rows)
    return 0


COMMANDS = (
    Command(
        "top",
        "CONTAINER [PS OPTIONS]",
        "List the processes of a container.",
        top,
        (),
        (1, None),
        True,
        (
            "The options are those of ps: -ef, aux, -o pid,user,pcpu,rss,etime,args",
            f"Columns: {', '.join(_COLUMNS)}",
        ),
        only_looks=True,
    ),
)
