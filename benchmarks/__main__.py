"""`python -m benchmarks [--json] [--cgroups v1|v2] [ROW...]`: measure, print a table."""

from __future__ import annotations

import asyncio
import compileall
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import archives, builds, containers, images, networks, registries, screen, sessions
from benchmarks.measure import Result, table
from benchmarks.place import PeerMissingError, Place, temporary_place
from benchmarks.views import VIEWS, enter_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROWS: dict[str, Callable[[Place], Awaitable[Result]]] = {
    "start": containers.start,
    "cold": containers.cold,
    "exec": sessions.execute,
    "many": containers.many,
    "stats": containers.stats,
    "log-pump": containers.log_pump,
    "load": images.load,
    "memory": images.memory,
    "pull": registries.pull,
    "save": archives.save,
    "build-ten-runs": builds.ten_runs,
    "build-copy": builds.copy,
    "build-write": builds.write,
    "build-stages": builds.stages,
    "network": networks.network,
    "first-paint": screen.first_paint,
    "idle": screen.idle,
}


def main(words: list[str]) -> int:
    is_json = "--json" in words
    words = [word for word in words if word != "--json"]
    if words[:1] == ["--cgroups"]:
        if words[1:2] and words[1] in VIEWS:
            enter_view(words[1])
        else:
            print(f"Error: --cgroups takes {' or '.join(VIEWS)}", file=sys.stderr)
            return 2
        words = words[2:]
    chosen = words or list(ROWS)
    unknown = [word for word in chosen if word not in ROWS]
    if unknown:
        print(f"Error: unknown row: {unknown[0]}", file=sys.stderr)
        print(f"hint: rows are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    # As pip does what it installs: Python may be told to write no bytecode as it goes.
    for part in ("engine", "tui"):
        compileall.compile_dir(Path(__file__).parents[1] / part, quiet=1)
    # What was begun is taken away also when `timeout` or a person ends it.
    signal.signal(signal.SIGTERM, _end_in_order)
    together = Result()
    for name in chosen:
        print(f"{name}: {(ROWS[name].__doc__ or '').strip()}", file=sys.stderr)
        with temporary_place() as place:
            try:
                result = asyncio.run(_row(name, place))
            except PeerMissingError as error:
                together.skipped.append(f"{name}: {error}")
                continue
        together.figures += result.figures
        together.skipped += [f"{name}: {reason}" for reason in result.skipped]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    host = f"{os.cpu_count()} processors, Linux {os.uname().release}, load average {load}"
    print(f"measured on: {host}", file=sys.stderr)
    if is_json:
        print(json.dumps([figure.as_record() for figure in together.figures], indent=2))
    else:
        print(table(together.figures))
    for reason in together.skipped:
        print(f"not measured: {reason}", file=sys.stderr)
    return 0


def _end_in_order(_number: int, _frame: object) -> None:
    """Cancel the row; once, as `timeout` signals both the process and its group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


async def _row(name: str, place: Place) -> Result:
    return await ROWS[name](place)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PeerMissingError as error:
        sys.exit(f"not measured: {error}")
