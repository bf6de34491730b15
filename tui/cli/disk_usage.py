"""`system df`: what the store occupies, and how much of it nobody needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from engine.types import ContainerStatus
from tui import format as formats
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.options import Option, UsageError
from tui.cli.rows import FORMAT, Shape, row

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildCacheEntry, DiskUsageDetails
    from tui.cli.options import Arguments

_HEADS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


class _Kind(NamedTuple):
    name: str
    total_count: int
    active_count: int
    size_bytes: int
    reclaimable_bytes: int

    @property
    def reclaimable(self) -> str:
        text = formats.size(self.reclaimable_bytes)
        if not self.size_bytes:
            return text
        return f"{text} ({100 * self.reclaimable_bytes // self.size_bytes}%)"


def _kinds(usage: DiskUsageDetails, cache: tuple[BuildCacheEntry, ...]) -> tuple[_Kind, ...]:
    idle = [one for one in usage.containers if one.container.status not in _ALIVE]
    unused = [one for one in usage.volumes if not one.volume.container_names]
    return (
        _Kind(
            "Images",
            len(usage.images),
            sum(one.image.container_count > 0 for one in usage.images),
            usage.images_bytes,
            usage.reclaimable_images_bytes,
        ),
        _Kind(
            "Containers",
            len(usage.containers),
            len(usage.containers) - len(idle),
            sum(one.size_bytes for one in usage.containers),
            sum(one.size_bytes for one in idle),
        ),
        _Kind(
            "Local Volumes",
            len(usage.volumes),
            len(usage.volumes) - len(unused),
            sum(one.size_bytes for one in usage.volumes),
            sum(one.size_bytes for one in unused),
        ),
        _Kind(
            "Build Cache",
            len(cache),
            0,
            sum(one.size_bytes for one in cache),
            sum(one.size_bytes for one in cache if not one.is_shared),
        ),
    )


async def disk_usage(engine: EngineApi, arguments: Arguments) -> int:
    """Print what images, containers and volumes occupy; with -v each of them."""
    form = arguments.text("format")
    shape = Shape(form, heads=_HEADS)
    is_verbose = arguments.is_on("verbose")
    if is_verbose and form not in (None, "json"):
        raise UsageError("--verbose goes with --format json only", command="system df")
    usage = await engine.disk_usage_details()
    cache = await engine.list_build_cache()
    if is_verbose and form == "json":
        from tui.cli.documents import line

        output.write_line(line(usage))
    elif is_verbose:
        _write_details(usage, cache)
    elif shape.is_own_table:
        output.write_table(
            tuple(_HEADS.values()),
            [
                (
                    kind.name,
                    str(kind.total_count),
                    str(kind.active_count),
                    formats.size(kind.size_bytes),
                    kind.reclaimable,
                )
                for kind in _kinds(usage, cache)
            ],
        )
    else:
        shape.write(
            [
                row(
                    {
                        "Type": kind.name,
                        "TotalCount": str(kind.total_count),
                        "Active": str(kind.active_count),
                        "Size": docker_texts.size(kind.size_bytes),
                        "Reclaimable": kind.reclaimable,
                    },
                    {
                        "size_bytes": kind.size_bytes,
                        "reclaimable_bytes": kind.reclaimable_bytes,
                    },
                    (),
                )
                for kind in _kinds(usage, cache)
            ]
        )
    return 0


def _write_details(usage: DiskUsageDetails, cache: tuple[BuildCacheEntry, ...]) -> None:
    now = time.time()
    output.write_text("Images space usage:\n")
    output.write_table(
        (
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "AGE",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS",
        ),
        [
            (
                *_repository_and_tag(name),
                output.short_id(one.image.image_id),
                formats.age(one.image.created_at, now=now),
                formats.size(one.shared_bytes + one.own_bytes),
                formats.size(one.shared_bytes),
                formats.size(one.own_bytes),
                str(one.image.container_count),
            )
            for one in usage.images
            for name in one.image.names or ("<none>:<none>",)
        ],
    )
    output.write_text("\nContainers space usage:\n")
    output.write_table(
        ("CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "AGE", "STATUS", "NAME"),
        [
            (
                output.short_id(one.container.container_id),
                one.container.image,
                output.shorten(one.container.command, 30),
                formats.size(one.size_bytes),
                formats.age(one.container.created_at, now=now),
                formats.status(one.container, now=now),
                one.container.name,
            )
            for one in usage.containers
        ],
    )
    output.write_text("\nLocal Volumes space usage:\n")
    output.write_table(
        ("VOLUME NAME", "CONTAINERS", "SIZE"),
        [
            (one.volume.name, str(len(one.volume.container_names)), formats.size(one.size_bytes))
            for one in usage.volumes
        ],
    )
    output.write_text("\nBuild cache usage:\n")
    output.write_table(
        ("CACHE ID", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED", "STEP"),
        [
            (
                one.entry_id[:12],
                formats.size(one.size_bytes),
                formats.age(one.created_at, now=now),
                formats.age(one.used_at, now=now),
                str(one.use_count),
                str(one.is_shared).lower(),
                output.shorten(one.text, 60),
            )
            for one in cache
        ],
    )


def _repository_and_tag(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag


DISK_USAGE = Command(
    "system df",
    "",
    "Show what images, containers and volumes occupy.",
    disk_usage,
    (Option("verbose", "v", "", "Each of them"), FORMAT),
)
