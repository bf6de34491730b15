"""Commands that clean up: `container prune`, `image prune`, `system prune`; `system df`, `info`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine.types import BuildCacheFilter
from tui import format as formats
from tui.cli import output
from tui.cli.command import Command, command_group
from tui.cli.disk_usage import DISK_USAGE
from tui.cli.filters import IMAGE_PRUNE_KEYS, PRUNE_KEYS, Filters, prune_filter, truth_of
from tui.cli.inspection import COMMANDS as INSPECTION
from tui.cli.options import Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.api import EngineApi
    from engine.types import PrunedContainers, PrunedVolumes, RemovedImage
    from tui.cli.options import Arguments

_FORCE = Option("force", "f", "", "Do not ask")
_FILTER = Option("filter", "", "KEY=VALUE", f"Only these: {', '.join(PRUNE_KEYS)}", True)
_ALL = Option("all", "a", "", "All images without a container, not only those without a name")


async def prune_containers(engine: EngineApi, arguments: Arguments) -> int:
    """Remove containers that do not run."""
    wanted = prune_filter(arguments.texts("filter"), command="container prune")
    if not agrees(arguments, "WARNING! This will remove all stopped containers."):
        return 0
    pruned = await engine.prune_containers(wanted)
    _tell_containers(pruned)
    _tell_space(pruned.freed_bytes)
    return 0


async def prune_images(engine: EngineApi, arguments: Arguments) -> int:
    """Remove images that nobody uses."""
    texts = arguments.texts("filter")
    wanted = prune_filter(texts, command="image prune", known=IMAGE_PRUNE_KEYS)
    filters = Filters(texts, known=IMAGE_PRUNE_KEYS, command="image prune")
    dangling = truth_of(filters, "dangling")
    includes_named = arguments.is_on("all") if dangling is None else not dangling
    which = (
        "all images without at least one container associated to them"
        if includes_named
        else "all dangling images"
    )
    if not agrees(arguments, f"WARNING! This will remove {which}."):
        return 0
    pruned = await engine.prune_images(wanted, includes_named=includes_named)
    _tell_images(pruned)
    _tell_space(pruned.freed_bytes)
    return 0


async def prune_system(engine: EngineApi, arguments: Arguments) -> int:
    """Remove everything that nobody uses."""
    wanted = prune_filter(arguments.texts("filter"), command="system prune")
    includes_named, has_volumes = arguments.is_on("all"), arguments.is_on("volumes")
    if has_volumes and wanted.created_before is not None:
        raise UsageError(
            'the "until" filter is not supported with "--volumes"', command="system prune"
        )
    things = ["all stopped containers", "all networks not used by at least one container"]
    if has_volumes:
        things.append("all anonymous volumes not used by at least one container")
    things.append(
        "all images without at least one container associated to them"
        if includes_named
        else "all dangling images"
    )
    things.append("unused build cache")
    warning = ["WARNING! This will remove:", *(f"  - {thing}" for thing in things)]
    if texts := arguments.texts("filter"):
        warning += ["", "  Items to be pruned will be filtered with:"]
        warning += [f"  - {text}" for text in texts]
    if not agrees(arguments, *warning, ""):
        return 0
    # Containers first: they keep networks, volumes and images.
    containers = await engine.prune_containers(wanted)
    _tell_containers(containers)
    freed_bytes = containers.freed_bytes
    _tell("Deleted Networks:", (await engine.prune_networks(wanted)).names)
    if has_volumes:
        volumes = await engine.prune_volumes(label_filters=wanted.label_filters)
        _tell_volumes(volumes)
        freed_bytes += volumes.freed_bytes
    images = await engine.prune_images(wanted, includes_named=includes_named)
    _tell_images(images)
    cache = await engine.prune_build_cache(BuildCacheFilter(used_before=wanted.created_before))
    _tell("Deleted build cache objects:", cache.entry_ids)
    _tell_space(freed_bytes + images.freed_bytes + cache.freed_bytes)
    return 0


def agrees(arguments: Arguments, *warning: str) -> bool:
    """Whether the person wants what is about to be done; without asking if --force is on."""
    if arguments.is_on("force"):
        return True
    for line in warning:
        output.write_message(line)
    output.write_all(2, b"Are you sure you want to continue? [y/N] ")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _tell_containers(pruned: PrunedContainers) -> None:
    _tell("Deleted Containers:", pruned.container_ids)


def _tell_volumes(pruned: PrunedVolumes) -> None:
    _tell("Deleted Volumes:", pruned.names)


def _tell_images(pruned: RemovedImage) -> None:
    untagged = (f"untagged: {name}" for name in pruned.untagged)
    _tell("Deleted Images:", (*untagged, *(f"deleted: {each}" for each in pruned.deleted)))


def _tell(head: str, lines: Sequence[str]) -> None:
    if lines:
        output.write_text("\n".join((head, *lines, "")))


def _tell_space(freed_bytes: int) -> None:
    output.write_line(f"Total reclaimed space: {formats.size(freed_bytes)}")


CONTAINER = command_group(
    "container",
    "Clean up containers; every other command for containers has one word.",
    (
        Command(
            "container prune",
            "",
            "Remove all containers that do not run.",
            prune_containers,
            (_FORCE, _FILTER),
        ),
    ),
)
IMAGE_PRUNE = Command(
    "image prune",
    "",
    "Remove images that have no name and no container.",
    prune_images,
    (
        _ALL,
        _FORCE,
        Option("filter", "", "KEY=VALUE", f"Only these: {', '.join(IMAGE_PRUNE_KEYS)}", True),
    ),
)
SYSTEM = command_group(
    "system",
    "Measure and clean up the store.",
    (
        DISK_USAGE,
        *(each._replace(name="system info") for each in INSPECTION if each.name == "info"),
        Command(
            "system prune",
            "",
            "Remove what nobody uses: stopped containers, networks, images without a name.",
            prune_system,
            (
                _ALL,
                Option("volumes", "", "", "Also anonymous volumes that no container has"),
                _FORCE,
                _FILTER,
            ),
        ),
    ),
)
COMMANDS = (*CONTAINER, *SYSTEM)
