"""`stats`: what running containers use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.errors import NotFoundError
from engine.types import ContainerStatus
from tui import format as formats
from tui.cli import output
from tui.cli.command import Command
from tui.cli.images import wants_json
from tui.cli.options import Option

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import ContainerId, ContainerStats
    from tui.cli.options import Arguments

_HEADS = (
    "CONTAINER ID",
    "NAME",
    "CPU %",
    "MEMORY",
    "LIMIT",
    "PIDS",
    "NET IN",
    "NET OUT",
    "READ",
    "WRITTEN",
)
_SAMPLE_SECONDS = 1.0


async def stats(engine: EngineApi, arguments: Arguments) -> int:
    """Print a table of what containers use, every second or (--no-stream) once."""
    chosen = [
        (await engine.inspect_container(reference)).summary.container_id
        for reference in arguments.operands
    ]
    is_json = wants_json(arguments, "stats")
    is_once = arguments.is_on("no-stream")
    await _sample(engine, chosen)
    while True:
        # A share of a processor is counted between two samples.
        await asyncio.sleep(_SAMPLE_SECONDS)
        samples = await _sample(engine, chosen)
        if is_json:
            from tui.cli.documents import line

            for _name, sample in samples:
                output.write_line(line(sample))
        else:
            if not is_once:
                output.home_and_clear()
            output.write_table(_HEADS, [_row(name, sample) for name, sample in samples])
        if is_once or (chosen and not samples):
            return 0


async def _sample(engine: EngineApi, chosen: list[ContainerId]) -> list[tuple[str, ContainerStats]]:
    samples: list[tuple[str, ContainerStats]] = []
    for summary in await engine.list_containers():
        if chosen and summary.container_id not in chosen:
            continue
        if summary.status not in (ContainerStatus.RUNNING, ContainerStatus.PAUSED):
            continue
        try:
            sample = await engine.sample_stats(summary.container_id)
        except NotFoundError:
            continue
        if sample is not None:
            samples.append((summary.name, sample))
    return samples


def _row(name: str, sample: ContainerStats) -> tuple[str, ...]:
    return (
        output.short_id(sample.container_id),
        name,
        formats.percent(sample.cpu_percent),
        formats.optional_size(sample.memory_bytes),
        formats.optional_size(sample.memory_limit_bytes),
        "-" if sample.process_count is None else str(sample.process_count),
        formats.size(sample.network_received_bytes),
        formats.size(sample.network_sent_bytes),
        formats.optional_size(sample.block_read_bytes),
        formats.optional_size(sample.block_written_bytes),
    )


COMMANDS = (
    Command(
        "stats",
        "[CONTAINER...]",
        "Show what running containers use, once a second.",
        stats,
        (
            Option("no-stream", "", "", "Show it once"),
            Option("format", "", "json", "Print JSON, one object a line"),
        ),
        (0, None),
    ),
)
