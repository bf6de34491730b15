"""Commands for archives of images: save, import."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CopyRefusedError, InvalidInputError
from engine.types import ArchiveFormat, Compression, ImportRequest, SaveOptions
from tui.cli import output
from tui.cli.command import Command
from tui.cli.options import PLATFORM, Option, UsageError
from tui.cli.progress import progress_line

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments


async def save(engine: EngineApi, arguments: Arguments) -> int:
    """Write images to a file, a directory or standard output."""
    path = arguments.text("output")
    options = SaveOptions(
        format=_format(arguments.text("format")),
        layer_compression=_compression(arguments, "compress-layers"),
        archive_compression=_compression(arguments, "compress") or Compression.NONE,
        platform=arguments.text("platform") or "",
    )
    if path == "":
        raise UsageError("the output file's name is empty", command="save")
    if path is None and os.isatty(1):
        raise CopyRefusedError(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        )
    sys.stdout.flush()
    with progress_line(is_quiet=arguments.is_on("quiet")) as listener:
        saved = await engine.save_images(
            arguments.operands,
            1 if path is None else Path(path),
            options=options,
            progress=listener,
        )
    for warning in saved.warnings:
        output.write_message(f"WARNING: {warning}")
    return 0


def _format(text: str | None) -> ArchiveFormat:
    try:
        return ArchiveFormat(text or ArchiveFormat.DOCKER_ARCHIVE)
    except ValueError:
        known = ", ".join(ArchiveFormat)
        raise UsageError(f"unknown format: {text}, only {known}", command="save") from None


def _compression(arguments: Arguments, name: str) -> Compression | None:
    text = arguments.text(name)
    if text is None:
        return None
    try:
        return Compression(text)
    except ValueError:
        known = ", ".join(Compression)
        raise UsageError(f"unknown compression: {text}, only {known}", command="save") from None


async def import_(engine: EngineApi, arguments: Arguments) -> int:
    """Make an image of a root filesystem and print its id."""
    source = arguments.operands[0]
    name = arguments.operands[1] if len(arguments.operands) > 1 else None
    if name == "":
        raise UsageError("the image's name is empty", command="import")
    if source.startswith(("http://", "https://")):
        raise InvalidInputError(
            "importing from a web server is not supported",
            hint=f"`curl -fL {source} | lamella import -`",
        )
    if source == "-" and os.isatty(0):
        raise InvalidInputError(
            "nothing to import: standard input is a terminal",
            hint="`lamella import FILE`, or `tar c -C DIRECTORY . | lamella import -`",
        )
    request = ImportRequest(
        name=name,
        message=arguments.text("message") or "",
        changes=arguments.texts("change"),
        platform=arguments.text("platform") or "",
    )
    with progress_line(is_quiet=arguments.is_on("quiet")) as listener:
        made = await engine.import_image(
            0 if source == "-" else Path(source), request, progress=listener
        )
    for warning in made.warnings:
        output.write_message(f"WARNING: {warning}")
    output.write_line(made.image_id)
    return 0


COMMANDS = (
    Command(
        "save",
        "IMAGE...",
        "Write images to an archive, to load them elsewhere; to standard output without -o.",
        save,
        (
            Option("output", "o", "FILE", "Write to a file, or with oci-dir to a directory"),
            Option("format", "", "FORMAT", "docker-archive (default), oci-archive or oci-dir"),
            Option("compress-layers", "", "HOW", "Write layers as gzip, zstd or none"),
            Option("compress", "", "HOW", "Compress the archive as a whole: gzip or zstd"),
            PLATFORM._replace(summary="Save only if each is for this: linux/arm64, linux/arm/v7"),
            Option("quiet", "q", "", "Show no progress"),
        ),
        (1, None),
        details=(
            "What is written as docker-archive is read by Docker, Podman, skopeo and umoci alike.",
            "A repository without a tag is all its tags; an image that is named by its id has no",
            "name in the archive. Layers are the very same tars that they came as. Saving twice",
            "gives the same bytes.",
        ),
    ),
    Command(
        "import",
        "FILE|- [REPOSITORY[:TAG]]",
        "Make an image of one layer of the tar of a root filesystem, and print its id.",
        import_,
        (
            Option("change", "c", "INSTRUCTION", "Apply a Dockerfile instruction", True),
            Option("message", "m", "TEXT", "What the history says of it"),
            Option("platform", "", "PLATFORM", "What it runs on, such as linux/arm64"),
            Option("quiet", "q", "", "Show no progress"),
        ),
        (1, 2),
        details=(
            "The tar may be compressed with gzip or zstd. Instructions: CMD ENTRYPOINT ENV EXPOSE",
            "HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR.",
        ),
    ),
)
