"""`stats`: what containers use, as a table that is drawn again every second, or once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from engine.events import EventsDropped, EventSubject
from engine.types import ContainerStatus
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.documents import document
from tui.cli.options import Option
from tui.cli.rows import FORMAT, Row, Shape, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import EngineApi
    from engine.events import EventSubscription
    from engine.types import ContainerStats, ContainerSummary
    from tui.cli.options import Arguments

_HEADS = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_TABLE = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_SAMPLE_SECONDS = 1.0
_UNKNOWN = "--"
_SAMPLED = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


async def stats(engine: EngineApi, arguments: Arguments) -> int:
    """Show what containers use, every second or (--no-stream) once."""
    shape = Shape(arguments.text("format"), heads=_HEADS)
    chosen = _Chosen(engine, arguments)
    is_once = arguments.is_on("no-stream")
    is_whole = arguments.is_on("no-trunc")
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Subscribed first, so that what starts after the list was read is not missed.
    with engine.subscribe() as subscription:
        containers = await chosen.list()
        await engine.sample_stats([one.container_id for one in containers])
        due = time.monotonic()
        async with _staleness(subscription) as stale:
            while True:
                # A share of a processor is counted between two samples.
                due = max(due + _SAMPLE_SECONDS, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                if stale.is_set():
                    stale.clear()
                    containers = await chosen.list()
                samples = await engine.sample_stats([one.container_id for one in containers])
                by_id = {sample.container_id: sample for sample in samples}
                rows = [
                    _row(one, by_id.get(one.container_id), memory_bytes, is_whole=is_whole)
                    for one in containers
                    if one.container_id in by_id or chosen.shows_all
                ]
                _write(shape, rows, is_redrawn=not is_once)
                if is_once or (chosen.is_named and not samples):
                    return 0


class _Chosen:
    """The containers that are shown: named ones, those that run, or (-a) all."""

    def __init__(self, engine: EngineApi, arguments: Arguments) -> None:
        self._engine = engine
        self._references = tuple(arguments.operands)
        self._ids: set[str] | None = None
        self.shows_all = arguments.is_on("all") or bool(self._references)

    @property
    def is_named(self) -> bool:
        return bool(self._references)

    async def list(self) -> tuple[ContainerSummary, ...]:
        """Read them afresh.

        Raises:
            ContainerNotFoundError: At the first time one that was named is not there.
        """
        if self._references and self._ids is None:
            self._ids = {
                (await self._engine.inspect_container(reference)).summary.container_id
                for reference in self._references
            }
        return tuple(
            one
            for one in await self._engine.list_containers()
            if (self._ids is None or one.container_id in self._ids)
            and (self.shows_all or one.status in _SAMPLED)
        )


@contextlib.asynccontextmanager
async def _staleness(subscription: EventSubscription) -> AsyncIterator[asyncio.Event]:
    """An event that is set when a container has begun, ended or changed its name."""
    stale = asyncio.Event()

    async def listen() -> None:
        async for event in subscription:
            if isinstance(event, EventsDropped) or event.subject is EventSubject.CONTAINER:
                stale.set()

    task = asyncio.create_task(listen())
    try:
        yield stale
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _write(shape: Shape, rows: list[Row], *, is_redrawn: bool) -> None:
    if shape.is_own_table:
        cells = [[str(one.document[name]) for name in _TABLE] for one in rows]
        lines = output.table_lines([_HEADS[name] for name in _TABLE], cells)
    else:
        lines = shape.lines(rows)
    if is_redrawn:
        output.redraw(lines)
    else:
        for line in lines:
            output.write_line(line)


def _row(
    container: ContainerSummary,
    sample: ContainerStats | None,
    host_memory_bytes: int,
    *,
    is_whole: bool,
) -> Row:
    identity = container.container_id
    shown_id = identity if is_whole else output.short_id(identity)
    fields = {"ID": shown_id, "Container": shown_id, "Name": container.name}
    if sample is None:
        # As Docker shows one that does not run.
        nothing = f"{_UNKNOWN} / {_UNKNOWN}"
        fields |= {"CPUPerc": _UNKNOWN, "MemUsage": nothing, "MemPerc": _UNKNOWN}
        fields |= {"NetIO": nothing, "BlockIO": nothing, "PIDs": _UNKNOWN}
        return row({**fields}, None, container.labels)
    limit = min(sample.memory_limit_bytes or host_memory_bytes, host_memory_bytes)
    used = sample.memory_bytes
    fields |= {
        "CPUPerc": _share(sample.cpu_percent),
        "MemUsage": f"{_binary(used)} / {_binary(limit)}",
        "MemPerc": _share(None if used is None else 100 * used / limit),
        "NetIO": f"{_decimal(sample.network_received_bytes)} / "
        f"{_decimal(sample.network_sent_bytes)}",
        "BlockIO": f"{_decimal(sample.block_read_bytes)} / {_decimal(sample.block_written_bytes)}",
        "PIDs": _UNKNOWN if sample.process_count is None else str(sample.process_count),
    }
    return row({**fields}, document(sample), container.labels)


def _share(percent: float | None) -> str:
    return _UNKNOWN if percent is None else f"{percent:.2f}%"


def _binary(size_bytes: int | None) -> str:
    return _UNKNOWN if size_bytes is None else docker_texts.binary_size(size_bytes)


def _decimal(size_bytes: int | None) -> str:
    return _UNKNOWN if size_bytes is None else docker_texts.size(size_bytes)


COMMANDS = (
    Command(
        "stats",
        "[CONTAINER...]",
        "Show what containers use, once a second; without names those that run.",
        stats,
        (
            Option("all", "a", "", "Also those that do not run"),
            Option("no-stream", "", "", "Show it once"),
            Option("no-trunc", "", "", "Do not shorten ids"),
            FORMAT,
        ),
        (0, None),
        only_looks=True,
    ),
)
