"""`image ...`: every command for images by two words, as Docker has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli.archives import COMMANDS as ARCHIVES
from tui.cli.command import command_group
from tui.cli.images import COMMANDS as IMAGES
from tui.cli.inspection import COMMANDS as INSPECTION
from tui.cli.inspection import inspect
from tui.cli.pruning import IMAGE_PRUNE
from tui.cli.transfers import COMMANDS as TRANSFERS

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.command import Command
    from tui.cli.options import Arguments

_BY_ONE_WORD = {command.name: command for command in (*IMAGES, *INSPECTION, *ARCHIVES, *TRANSFERS)}


async def inspect_images(engine: EngineApi, arguments: Arguments) -> int:
    """Print what is known of images only."""
    arguments.add("type", "image")
    return await inspect(engine, arguments)


def _named(name: str, command: str) -> Command:
    return _BY_ONE_WORD[command]._replace(name=f"image {name}")


_INSPECT = _BY_ONE_WORD["inspect"]

COMMANDS = command_group(
    "image",
    "List, take apart, name, transfer, load, save, clean up images.",
    (
        _named("ls", "images"),
        _named("list", "images"),
        _INSPECT._replace(
            name="image inspect",
            usage="IMAGE [IMAGE...]",
            summary="Show everything about images, as JSON.",
            action=inspect_images,
            options=tuple(option for option in _INSPECT.options if option.name != "type"),
        ),
        _named("history", "history"),
        _named("tag", "tag"),
        _named("pull", "pull"),
        _named("push", "push"),
        _named("load", "load"),
        _named("save", "save"),
        _named("import", "import"),
        _named("rm", "rmi"),
        _named("remove", "rmi"),
        IMAGE_PRUNE,
    ),
)
