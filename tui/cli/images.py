"""Commands for images: load, images, history, tag, rmi."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError, InvalidInputError, NotFoundError
from tui import format as formats
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.docker_texts import rfc3339
from tui.cli.documents import document
from tui.cli.filters import IMAGE_KEYS, Filters, image_filter, meant_names
from tui.cli.image_tree import check_tree_options, write_tree
from tui.cli.layer_files import SHOW, wanted_files, write_content, write_files
from tui.cli.options import PLATFORM, Option, UsageError
from tui.cli.progress import progress_line
from tui.cli.rows import FORMAT, Row, Shape, row
from tui.cli.session import for_each
from tui.cli.values import moment_ns

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import ImageSummary, LayerSummary
    from tui.cli.options import Arguments

_HEADS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_HISTORY_HEADS = {
    "ID": "LAYER",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
NO_TRUNCATION = Option("no-trunc", "", "", "Do not shorten anything")
QUIET = Option("quiet", "q", "", "Print ids only")


def wants_json(arguments: Arguments, command: str) -> bool:
    """Whether `--format json` was asked for; there is no other format."""
    match arguments.text("format"):
        case None | "table":
            return False
        case "json":
            return True
        case other:
            raise UsageError(f"unknown format: {other}, only json", command=command)


async def load(engine: EngineApi, arguments: Arguments) -> int:
    """Load an archive, from a file or from standard input."""
    source = arguments.text("input")
    if source is not None and arguments.operands:
        raise UsageError("name one file, with --input or without", command="load")
    source = source or (arguments.operands[0] if arguments.operands else "-")
    if source == "-":
        if sys.stdin.isatty():
            raise InvalidInputError(
                "nothing to load: standard input is a terminal",
                hint="`lamella load FILE`, or `docker save IMAGE | lamella load`",
            )
        source = "/dev/stdin"
    with progress_line(is_quiet=arguments.is_on("quiet")) as listener:
        loaded = await engine.load_images(
            Path(source), platform=arguments.text("platform") or "", progress=listener
        )
    for warning in dict.fromkeys(warning for image in loaded for warning in image.warnings):
        output.write_message(f"WARNING: {warning}")
    for image in loaded:
        for name in image.names:
            output.write_line(f"Loaded image: {name}")
        if not image.names:
            output.write_line(f"Loaded image ID: {image.image_id}")
    return 0


async def images(engine: EngineApi, arguments: Arguments) -> int:
    """List images, one line a name."""
    has_tree = arguments.is_on("tree")
    if has_tree:
        check_tree_options(arguments)
    filters = Filters(arguments.texts("filter"), known=IMAGE_KEYS, command="images")
    shape = Shape(arguments.text("format"), heads=_HEADS)
    is_whole = arguments.is_on("no-trunc")
    patterns = (*arguments.operands, *filters.values("reference"))
    until_ns = moment_ns("--filter until", filters.newest("until"))
    keeps = await image_filter(engine, filters, None if until_ns is None else until_ns / 1e9)
    is_all = arguments.is_on("all")
    if is_all:
        # A list is worth more than a part of it: the store may be full.
        with contextlib.suppress(EngineError):
            await engine.record_intermediate_images()
    found = [
        (image, names)
        for image in await engine.list_images()
        if (is_all or not image.is_intermediate)
        and keeps(image)
        and ((names := meant_names(image, patterns)) or not patterns)
    ]
    if arguments.is_on("quiet"):
        for image, _names in found:
            output.write_line(image.image_id if is_whole else output.short_id(image.image_id))
        return 0
    if has_tree:
        write_tree(found, is_whole=is_whole)
        return 0
    now = time.time()
    has_digests = arguments.is_on("digests")
    if not shape.is_own_table:
        shape.write(
            [
                _row(image, name, now=now, is_whole=is_whole)
                for image, names in found
                for name in names or ("<none>:<none>",)
            ]
        )
        return 0
    rows: list[tuple[str, ...]] = []
    for image, names in found:
        for name in names or ("<none>:<none>",):
            repository, _, tag = name.rpartition(":")
            rows.append(
                (
                    repository,
                    tag,
                    *((image.digest or "<none>",) if has_digests else ()),
                    image.image_id if is_whole else output.short_id(image.image_id),
                    formats.age(image.made_at or None, now=now),
                    str(image.layer_count),
                    formats.size(image.size_bytes),
                )
            )
    digest = ("DIGEST",) if has_digests else ()
    output.write_table(("REPOSITORY", "TAG", *digest, "IMAGE ID", "AGE", "LAYERS", "SIZE"), rows)
    return 0


def _row(image: ImageSummary, name: str, *, now: float, is_whole: bool) -> Row:
    repository, _, tag = name.rpartition(":")
    return row(
        {
            "ID": image.image_id if is_whole else output.short_id(image.image_id),
            "Repository": repository,
            "Tag": tag,
            "Digest": image.digest or "<none>",
            "CreatedSince": docker_texts.ago(image.created_at, now=now),
            "CreatedAt": docker_texts.moment(image.created_at),
            "Size": docker_texts.size(image.size_bytes),
            "Containers": str(image.container_count),
            "VirtualSize": docker_texts.size(image.size_bytes),
            # As Docker has it; `system df -v` measures them.
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        },
        document(image),
        image.labels,
    )


async def history(engine: EngineApi, arguments: Arguments) -> int:
    """Show the steps of an image, newest first; or the files of one of them, or one of these."""
    reference = arguments.operands[0]
    has_json = arguments.text("format") == "json"
    wanted = wanted_files(arguments, "history", has_json=has_json)
    if wanted is not None:
        wants_json(arguments, "history")
        if wanted.path is not None:
            write_content(await engine.read_layer_file(reference, wanted.position, wanted.path))
        else:
            tree = await engine.list_layer_files(reference, wanted.position)
            write_files(tree, has_json=has_json)
        return 0
    shape = Shape(arguments.text("format"), heads=_HISTORY_HEADS)
    is_whole = arguments.is_on("no-trunc")
    is_human = arguments.text("human") != "false"
    steps = (await engine.inspect_image(reference)).layers[::-1]
    now = time.time()
    if arguments.is_on("quiet"):
        for step in steps:
            output.write_line(_layer_id(step, is_whole=is_whole))
        return 0
    if not shape.is_own_table:
        shape.write([_step_row(step, now=now, is_whole=is_whole) for step in steps])
        return 0
    rows: list[tuple[str, ...]] = []
    for step in steps:
        text = formats.instruction(step.created_by)
        size = formats.size(step.size_bytes) if is_human else str(step.size_bytes)
        age = formats.age(step.created_at, now=now) if is_human else rfc3339(step.created_at)
        rows.append(
            (
                str(step.position),
                _layer_id(step, is_whole=is_whole),
                age,
                text if is_whole else output.shorten(text, 60),
                "-" if step.is_empty else size,
                "-" if step.is_empty else str(step.entry_count),
                step.comment if is_whole else output.shorten(step.comment, 30),
            )
        )
    output.write_table(("STEP", "LAYER", "AGE", "CREATED BY", "SIZE", "ENTRIES", "COMMENT"), rows)
    return 0


def _layer_id(step: LayerSummary, *, is_whole: bool) -> str:
    if step.chain_id is None:
        return "-"
    return step.chain_id if is_whole else output.short_id(step.chain_id)


def _step_row(step: LayerSummary, *, now: float, is_whole: bool) -> Row:
    text = formats.instruction(step.created_by)
    return row(
        {
            "ID": _layer_id(step, is_whole=is_whole),
            "CreatedSince": docker_texts.ago(step.created_at, now=now),
            "CreatedAt": rfc3339(step.created_at),
            "CreatedBy": text if is_whole else output.shorten(text, 45),
            "Size": docker_texts.size(step.size_bytes),
            "Comment": step.comment,
        },
        document(step),
        (),
    )


async def tag(engine: EngineApi, arguments: Arguments) -> int:
    """Give an image another name."""
    await engine.tag_image(arguments.operands[0], arguments.operands[1])
    return 0


async def remove(engine: EngineApi, arguments: Arguments) -> int:
    """Remove images."""
    is_forced = arguments.is_on("force")
    keeps_parents = arguments.is_on("no-prune")

    async def remove_one(reference: str) -> None:
        try:
            removed = await engine.remove_image(
                reference, is_forced=is_forced, keeps_parents=keeps_parents
            )
        except NotFoundError as error:
            if not is_forced:
                raise
            # It was to be gone, and is.
            output.write_message(f"Error: {error.message}")
            return
        for name in removed.untagged:
            output.write_line(f"Untagged: {name}")
        for identifier in removed.deleted:
            output.write_line(f"Deleted: {identifier}")

    return await for_each(arguments.operands, remove_one)


COMMANDS = (
    Command(
        "load",
        "[FILE]",
        "Load every image of a docker-archive, an OCI archive or an OCI layout directory.",
        load,
        (
            Option("input", "i", "FILE", "The archive; standard input without it"),
            PLATFORM._replace(
                summary="Which of an index's images: linux/arm64; this host's without it"
            ),
            Option("quiet", "q", "", "Show no progress"),
        ),
        (0, 1),
    ),
    Command(
        "images",
        "[NAME]",
        "List images.",
        images,
        (
            Option("all", "a", "", "Also images without a name that another image stands on"),
            QUIET,
            NO_TRUNCATION,
            Option("digests", "", "", "Also the digest of each manifest"),
            Option("tree", "", "", "With platforms, and with what the disk holds; U is in use"),
            Option("filter", "f", "KEY=VALUE", f"Only these: {', '.join(IMAGE_KEYS)}", True),
            FORMAT,
        ),
        operand_counts=(0, 1),
        only_looks=True,
    ),
    Command(
        "history",
        "IMAGE",
        "Show the layers and steps of an image, newest first.",
        history,
        (
            NO_TRUNCATION,
            QUIET,
            Option("human", "H", "", "Ages and sizes for people; =false for exact ones"),
            Option("files", "", "STEP", "List the files of one step instead"),
            SHOW,
            FORMAT,
        ),
        (1, 1),
        only_looks=True,
    ),
    Command("tag", "IMAGE NAME[:TAG]", "Give an image another name.", tag, (), (2, 2)),
    Command(
        "rmi",
        "IMAGE [IMAGE...]",
        "Take names from images; an image goes with its last name.",
        remove,
        (
            Option("force", "f", "", "Also with several names; what is not here is no error"),
            Option("no-prune", "", "", "Keep the images without a name that it stands on"),
        ),
        (1, None),
    ),
)
