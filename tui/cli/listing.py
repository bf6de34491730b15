"""Commands that list: ps, diff."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.errors import NotFoundError
from engine.types import ChangeKind, ContainerStatus
from tui import format as formats
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.documents import document
from tui.cli.filters import CONTAINER_KEYS, Filters, container_filter
from tui.cli.images import NO_TRUNCATION, QUIET
from tui.cli.options import Option
from tui.cli.port_texts import own_networks, ports_text
from tui.cli.rows import FORMAT, Row, Shape, row
from tui.cli.values import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.api import EngineApi
    from engine.types import ContainerSummary, WritableLayer
    from tui.cli.options import Arguments

_CHANGE_LETTERS = {
    ChangeKind.ADDED: "A",
    ChangeKind.MODIFIED: "C",
    ChangeKind.REMOVED: "D",
}
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)
_HEADS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Ports": "PORTS",
    "Networks": "NETWORKS",
}


async def list_containers(engine: EngineApi, arguments: Arguments) -> int:
    """List containers that run, or (-a) all of them."""
    shape = Shape(arguments.text("format"), heads=_HEADS)
    is_whole = arguments.is_on("no-trunc")
    found = await _wanted(engine, arguments)
    if arguments.is_on("quiet"):
        for summary in found:
            identifier = summary.container_id
            output.write_line(identifier if is_whole else output.short_id(identifier))
        return 0
    sizes = await _sizes(engine, found) if arguments.is_on("size") else {}
    if not shape.is_own_table:
        now = time.time()
        shape.write([_row(one, sizes, now=now, is_whole=is_whole) for one in found])
        return 0
    _write_table(found, sizes, is_whole=is_whole, has_sizes=arguments.is_on("size"))
    return 0


async def _wanted(engine: EngineApi, arguments: Arguments) -> list[ContainerSummary]:
    filters = Filters(arguments.texts("filter"), known=CONTAINER_KEYS, command="ps")
    count_text = arguments.text("last")
    count = -1 if count_text is None else whole_number("--last", count_text, smallest=-1)
    count = 1 if arguments.is_on("latest") else count
    containers = await engine.list_containers()
    keeps = await container_filter(engine, filters, containers)
    is_all = arguments.is_on("all") or count > 0 or filters.asks_for_state
    found = [one for one in containers if (is_all or one.status in _ALIVE) and keeps(one)]
    return found[:count] if count > 0 else found


async def _sizes(
    engine: EngineApi, containers: Sequence[ContainerSummary]
) -> dict[str, tuple[WritableLayer, int]]:
    images = {image.image_id: image.size_bytes for image in await engine.list_images()}
    found: dict[str, tuple[WritableLayer, int]] = {}
    for summary in containers:
        try:
            layer = await engine.measure_writable_layer(summary.container_id)
        except NotFoundError:
            continue  # Removed meanwhile.
        found[summary.container_id] = (layer, images.get(summary.image_id, 0))
    return found


def _write_table(
    containers: Sequence[ContainerSummary],
    sizes: dict[str, tuple[WritableLayer, int]],
    *,
    is_whole: bool,
    has_sizes: bool,
) -> None:
    now = time.time()
    heads = ("CONTAINER ID", "IMAGE", "COMMAND", "AGE", "STATUS", "PORTS", "NAME")
    rows: list[tuple[str, ...]] = []
    for summary in containers:
        cells: tuple[str, ...] = (
            summary.container_id if is_whole else output.short_id(summary.container_id),
            summary.image,
            summary.command if is_whole else output.shorten(summary.command, 30),
            formats.age(summary.created_at, now=now),
            formats.status(summary, now=now),
            ports_text(summary),
            summary.name,
        )
        if has_sizes and summary.container_id in sizes:
            layer, image_bytes = sizes[summary.container_id]
            whole = formats.size(layer.size_bytes + image_bytes)
            cells = (*cells, f"{formats.size(layer.size_bytes)} ({whole} with its image)")
        rows.append(cells if not has_sizes or len(cells) > len(heads) else (*cells, "-"))
    output.write_table((*heads, "SIZE") if has_sizes else heads, rows)


def _row(
    summary: ContainerSummary,
    sizes: dict[str, tuple[WritableLayer, int]],
    *,
    now: float,
    is_whole: bool,
) -> Row:
    command = summary.command if is_whole else output.shorten(summary.command, 20)
    volumes = [mount for mount in summary.mounts if mount.kind == "volume"]
    size = "0B"
    if summary.container_id in sizes:
        layer, image_bytes = sizes[summary.container_id]
        virtual = docker_texts.size(layer.size_bytes + image_bytes)
        size = f"{docker_texts.size(layer.size_bytes)} (virtual {virtual})"
    return row(
        {
            "ID": summary.container_id if is_whole else output.short_id(summary.container_id),
            "Names": summary.name,
            "Image": summary.image,
            "Command": f'"{command}"',
            "CreatedAt": docker_texts.moment(summary.created_at),
            "RunningFor": docker_texts.ago(summary.created_at, now=now),
            "State": summary.status.value,
            "Status": docker_texts.status(summary, now=now),
            "Size": size,
            "Labels": docker_texts.labels(summary.labels),
            "Mounts": ",".join(mount.source or mount.target for mount in summary.mounts),
            "LocalVolumes": str(len(volumes)),
            "Ports": ports_text(summary),
            "Networks": ",".join(own_networks(summary)),
        },
        document(summary),
        summary.labels,
    )


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
            Option("filter", "f", "KEY=VALUE", f"Only these: {', '.join(CONTAINER_KEYS)}", True),
            FORMAT,
            Option("last", "n", "NUMBER", "The newest ones, whether they run or not"),
            Option("latest", "l", "", "The newest one, whether it runs or not"),
            Option("size", "s", "", "Measure their writable layers"),
        ),
        only_looks=True,
    ),
    Command(
        "diff",
        "CONTAINER",
        "List what a container added (A), changed (C) and deleted (D) in its files.",
        diff,
        (),
        (1, 1),
    ),
)
