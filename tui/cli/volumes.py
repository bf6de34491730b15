"""Commands for volumes: `volume create|inspect|ls|prune|rm`, with Docker's options and texts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from tui import format as formats
from tui.cli import output, values
from tui.cli.command import Command, command_group
from tui.cli.images import wants_json
from tui.cli.options import Option, UsageError
from tui.cli.session import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import VolumeSummary
    from tui.cli.options import Arguments

DRIVER = "local"
_TRUE, _FALSE = ("1", "true"), ("0", "false")


async def create(engine: EngineApi, arguments: Arguments) -> int:
    """Make a volume and print its name."""
    name = arguments.text("name")
    if arguments.operands and name is not None:
        raise UsageError(
            "conflicting options: either specify --name or provide positional arg, not both",
            command="volume create",
        )
    driver = arguments.text("driver") or DRIVER
    if driver != DRIVER:
        raise InvalidInputError(
            f'create {name or ""}: error looking up volume plugin {driver}: plugin "{driver}" not '
            "found",
            hint="Lamella keeps volumes itself: leave --driver out",
        )
    made = await engine.create_volume(
        arguments.operands[0] if arguments.operands else name,
        labels=values.labels(arguments.texts("label")),
    )
    output.write_line(made.name)
    return 0


async def inspect(engine: EngineApi, arguments: Arguments) -> int:
    """Print what is known of volumes, as one JSON list."""
    from tui.cli.documents import Document, document, indented

    documents: list[Document] = []

    async def add(name: str) -> None:
        documents.append(document(await engine.inspect_volume(name)))

    exit_code = await for_each(arguments.operands, add)
    output.write_text(indented(documents))
    return exit_code


async def list_volumes(engine: EngineApi, arguments: Arguments) -> int:
    """List volumes."""
    keeps = _read_filters(arguments.texts("filter"))
    found = [volume for volume in await engine.list_volumes() if keeps(volume)]
    if arguments.is_on("quiet"):
        for volume in found:
            output.write_line(volume.name)
        return 0
    if wants_json(arguments, "volume ls"):
        from tui.cli.documents import line

        for volume in found:
            output.write_line(line(volume))
        return 0
    output.write_table(("DRIVER", "VOLUME NAME"), [(DRIVER, volume.name) for volume in found])
    return 0


def _read_filters(texts: tuple[str, ...]) -> Callable[[VolumeSummary], bool]:
    """Filters of one key are alternatives, different keys must all fit, as in Docker."""
    wanted: dict[str, list[str]] = {}
    for text in texts:
        key, has_value, value = text.partition("=")
        if not has_value or key not in {"dangling", "driver", "label", "name"}:
            raise UsageError(f"invalid filter '{text}'", command="volume ls")
        if key == "dangling" and value not in (*_TRUE, *_FALSE):
            raise UsageError(f"invalid filter 'dangling={value}'", command="volume ls")
        wanted.setdefault(key, []).append(value)

    def keeps(volume: VolumeSummary) -> bool:
        is_dangling = not volume.container_names
        return (
            all(is_dangling is (value in _TRUE) for value in wanted.get("dangling", ()))
            and all(value == DRIVER for value in wanted.get("driver", ()))
            and all(_has_label(volume, value) for value in wanted.get("label", ()))
            and ("name" not in wanted or any(text in volume.name for text in wanted["name"]))
        )

    return keeps


def _has_label(volume: VolumeSummary, wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return any(name == key and (not has_value or text == value) for name, text in volume.labels)


async def remove(engine: EngineApi, arguments: Arguments) -> int:
    """Remove volumes."""
    is_forced = arguments.is_on("force")

    async def remove_one(name: str) -> None:
        await engine.remove_volume(name, is_forced=is_forced)
        output.write_line(name)

    return await for_each(arguments.operands, remove_one)


async def prune(engine: EngineApi, arguments: Arguments) -> int:
    """Remove volumes that no container has."""
    includes_named = arguments.is_on("all")
    label_filters: list[str] = []
    for text in arguments.texts("filter"):
        key, has_value, value = text.partition("=")
        if has_value and key == "all" and value in (*_TRUE, *_FALSE):
            includes_named |= value in _TRUE
        elif has_value and key == "label":
            label_filters.append(value)
        elif has_value and key == "label!":
            label_filters.append(f"!{value}")
        else:
            raise UsageError(f"invalid filter '{text}'", command="volume prune")
    if not arguments.is_on("force") and not _agrees(includes_named=includes_named):
        return 0
    pruned = await engine.prune_volumes(
        includes_named=includes_named, label_filters=tuple(label_filters)
    )
    if pruned.names:
        output.write_text("\n".join(("Deleted Volumes:", *pruned.names, "")))
    output.write_line(f"Total reclaimed space: {formats.size(pruned.freed_bytes)}")
    return 0


def _agrees(*, includes_named: bool) -> bool:
    which = "all" if includes_named else "anonymous"
    output.write_message(
        f"WARNING! This will remove {which} local volumes not used by at least one container."
    )
    output.write_all(2, b"Are you sure you want to continue? [y/N] ")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


COMMANDS = command_group(
    "volume",
    "Make, list, inspect and remove volumes.",
    (
        Command(
            "volume create",
            "[VOLUME]",
            "Make a volume; without a name an anonymous one.",
            create,
            (
                Option("driver", "d", "DRIVER", "Where it is kept; only local"),
                Option("label", "", "NAME=VALUE", "Label the volume", True),
                Option("name", "", "NAME", "Its name, as the operand"),
            ),
            (0, 1),
        ),
        Command(
            "volume inspect",
            "VOLUME [VOLUME...]",
            "Show everything about volumes, as JSON.",
            inspect,
            (),
            (1, None),
            only_looks=True,
        ),
        Command(
            "volume ls",
            "",
            "List volumes.",
            list_volumes,
            (
                Option(
                    "filter",
                    "f",
                    "FILTER",
                    "dangling=true, name=TEXT, label=NAME[=VALUE] or driver=local",
                    True,
                ),
                Option("format", "", "json", "Print JSON, one object a line"),
                Option("quiet", "q", "", "Print names only"),
            ),
            only_looks=True,
        ),
        Command(
            "volume prune",
            "",
            "Remove anonymous volumes that no container has.",
            prune,
            (
                Option("all", "a", "", "Also those with a name of their own"),
                Option("filter", "", "FILTER", "label=NAME[=VALUE] or label!=NAME[=VALUE]", True),
                Option("force", "f", "", "Do not ask"),
            ),
        ),
        Command(
            "volume rm",
            "VOLUME [VOLUME...]",
            "Remove volumes with their files.",
            remove,
            (Option("force", "f", "", "One that is not there is no error"),),
            (1, None),
        ),
    ),
)
