"""Where a build's result goes besides the store: `--output`, `--push`, `--metadata-file`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CopyRefusedError, EngineError, InvalidInputError
from engine.types import ArchiveFormat, ContainerRequest, SaveOptions
from tui.cli import output
from tui.cli.options import Option, parse
from tui.cli.transfer_lines import transfer_lines

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuiltImage
    from tui.cli.command import Command
    from tui.cli.options import Arguments

OPTIONS = (
    Option("output", "o", "DEST|type=TYPE,dest=PATH", "local, tar, oci, docker, image", True),
    Option("push", "", "", "Push the image to the registry that its names are of"),
    Option("load", "", "", "Keep the image in the store, as is done but for files of --output"),
    Option("metadata-file", "", "FILE", "Write ids, digests and names as JSON"),
)
_STDOUT = "-"
_FILES = frozenset(("local", "tar"))
_ARCHIVES = {"oci": ArchiveFormat.OCI_ARCHIVE, "docker": ArchiveFormat.DOCKER_ARCHIVE}
_NO_COMMAND = ("/",)
"""A container needs one, also if it never starts."""


class BuildOutput(NamedTuple):
    """One `--output`.

    Attributes:
        kind: `local`, `tar`, `oci`, `docker`, `image`.
        destination: A path; `-` for standard output; empty for the store.
        is_pushed: Its names are pushed.
    """

    kind: str
    destination: str = ""
    is_pushed: bool = False


def read_outputs(arguments: Arguments) -> tuple[BuildOutput, ...]:
    """What is to become of the result.

    Raises:
        InvalidInputError: That cannot be.
    """
    found = [_read(text) for text in arguments.texts("output")]
    if arguments.is_on("push"):
        found.append(BuildOutput("image", is_pushed=True))
    if any(one.is_pushed for one in found) and not arguments.texts("tag"):
        raise InvalidInputError(
            "tag is needed when pushing to registry", hint="--tag REGISTRY/NAME:TAG says where"
        )
    if sum(one.destination == _STDOUT for one in found) > 1:
        raise InvalidInputError("only one --output can go to standard output")
    if uses_stdout(found) and os.isatty(1):
        raise CopyRefusedError(
            "cowardly refusing to write an archive to a terminal. Use dest=FILE or redirect"
        )
    return tuple(found)


def uses_stdout(outputs: tuple[BuildOutput, ...] | list[BuildOutput]) -> bool:
    """Whether an archive goes where the id would be printed."""
    return any(one.destination == _STDOUT for one in outputs)


def _read(text: str) -> BuildOutput:
    if "=" not in text:
        return BuildOutput("tar" if text == _STDOUT else "local", text)
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    kind = fields.pop("type", "")
    destination = fields.pop("dest", "")
    is_pushed = fields.pop("push", "") in {"true", "1"}
    if kind == "registry":
        kind, is_pushed = "image", True
    if kind not in {*_FILES, *_ARCHIVES, "image"}:
        raise InvalidInputError(
            f"--output type={kind} is not known here" if kind else f"--output {text} has no type",
            hint="type is local, tar, oci, docker, image or registry",
        )
    if fields:
        unknown = ", ".join(fields)
        raise InvalidInputError(
            f"--output type={kind} does not take {unknown}",
            hint="Names come from --tag; `lamella save` compresses archives",
        )
    if kind in _FILES and not destination:
        raise InvalidInputError(f"--output type={kind} needs dest=PATH")
    if kind == "oci":
        destination = destination or _STDOUT
    if kind == "local" and destination == _STDOUT:
        raise InvalidInputError(
            "a directory cannot go to standard output", hint="type=tar,dest=- can"
        )
    if kind == "image" and destination:
        raise InvalidInputError("--output type=image goes to the store and has no dest")
    return BuildOutput(kind, destination, is_pushed)


async def deliver(
    engine: EngineApi, built: BuiltImage, outputs: tuple[BuildOutput, ...], arguments: Arguments
) -> None:
    """Bring a result to where it is wanted.

    Raises:
        EngineError: It cannot be.
    """
    for one in outputs:
        if one.kind in _FILES:
            await _write_files(engine, built, one)
        elif one.kind in _ARCHIVES and one.destination:
            target = 1 if one.destination == _STDOUT else Path(one.destination)
            options = SaveOptions(format=_ARCHIVES[one.kind])
            await engine.save_images(built.names or (built.image_id,), target, options=options)
        elif one.is_pushed:
            for name in built.names:
                with transfer_lines(2) as listener:
                    pushed = await engine.push_image(name, progress=listener)
                output.write_message(f"Pushed {name}, digest {pushed.digest}")
    if path := arguments.text("metadata-file"):
        details = await engine.inspect_image(built.image_id)
        document = {
            "buildx.build.ref": built.build_id,
            "containerimage.config.digest": built.image_id,
            "containerimage.digest": details.digest,
            "image.name": ",".join(built.names),
        }
        write_file("metadata", path, json.dumps(document, indent=2) + "\n")
    is_files = bool(outputs) and all(one.kind in _FILES for one in outputs)
    if is_files and not built.names and not arguments.is_on("load"):
        # As Docker's: who wants files wants no image, and the steps stay in the cache.
        with contextlib.suppress(EngineError):
            await engine.remove_image(built.image_id)


def write_file(what: str, path: str, text: str) -> None:
    """Write a small file that somebody asked for.

    Raises:
        CopyRefusedError: It cannot be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CopyRefusedError(f"cannot write {what} to {path}: {error.strerror}") from None


async def _write_files(engine: EngineApi, built: BuiltImage, wanted: BuildOutput) -> None:
    """The files of an image, through a container that never starts."""
    from tui.cli.making import COMMANDS as MAKING

    request = ContainerRequest(image=built.image_id, command=_NO_COMMAND, entrypoint=())
    container = (await engine.create_container(request)).container_id
    try:
        if wanted.kind == "local":
            await asyncio.to_thread(os.makedirs, wanted.destination, exist_ok=True)
            words = [f"{container}:/.", wanted.destination]
            await perform(engine, MAKING, "cp", ["--quiet", *words])
        else:
            words = [] if wanted.destination == _STDOUT else ["-o", wanted.destination]
            await perform(engine, MAKING, "export", [*words, container])
    except OSError as error:
        raise CopyRefusedError(f"cannot write {wanted.destination}: {error.strerror}") from None
    finally:
        await engine.remove_container(container)


async def perform(
    engine: EngineApi, commands: tuple[Command, ...], name: str, words: list[str]
) -> int:
    """Do what another command of the command line does."""
    command = next(one for one in commands if one.name == name)
    arguments = parse(
        words, command.options, command=name, stops_at_operand=command.stops_at_operand
    )
    return await command.action(engine, arguments)
