"""`pull`, `push` and `peek`: images from and to registries, and looked at there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import LimitError, NotFoundError
from tui import format as formats
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.documents import document, indented
from tui.cli.images import NO_TRUNCATION, wants_json
from tui.cli.options import Option, UsageError
from tui.cli.transfer_lines import transfer_lines

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import FileContent, FileEntry, LayerTransfer, PulledImage, RemoteImage
    from tui.cli.options import Arguments

_DOCKER_HUB = "docker.io"
PLATFORM = Option(
    "platform", "", "PLATFORM", "Of the image: linux/arm64, linux/arm/v7; this host's without it"
)


class _Name(NamedTuple):
    """A name as it was typed, with what it leaves out; the engine says whether it is one."""

    domain: str
    path: str
    ending: str
    """The tag or the digest; empty if there is neither."""

    @property
    def canonical(self) -> str:
        """With everything written out."""
        joint = "@" if ":" in self.ending else ":"
        return f"{self.domain}/{self.path}{joint}{self.ending or 'latest'}"


def read_name(text: str) -> _Name:
    """Take a name apart; raises nothing."""
    name, _, ending = text.partition("@")
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
        ending = ending or tag
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        if first not in {_DOCKER_HUB, f"index.{_DOCKER_HUB}"}:
            return _Name(first, rest, ending)
        name = rest
    return _Name(_DOCKER_HUB, name if "/" in name else f"library/{name}", ending)


async def pull_with_lines(
    engine: EngineApi, reference: str, *, platform: str, descriptor: int
) -> PulledImage:
    """Pull an image and show it; what it says goes to a descriptor."""
    name = read_name(reference)
    has_begun = False

    def say(text: str) -> None:
        output.write_all(descriptor, f"{output.printable(text)}\n".encode())

    def begin() -> None:
        # Not before it is there.
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            say(f"{name.ending or 'latest'}: Pulling from {name.path}")

    with transfer_lines(descriptor) as listener:

        def on_transfer(transfer: LayerTransfer, /) -> None:
            begin()
            listener(transfer)

        pulled = await engine.pull_image(reference, platform=platform, progress=on_transfer)
        begin()
    say(f"Digest: {pulled.digest}")
    state = "Downloaded newer image" if pulled.is_new else "Image is up to date"
    say(f"Status: {state} for {pulled.name}")
    for warning in pulled.warnings:
        output.write_message(f"WARNING: {warning}")
    return pulled


async def pull(engine: EngineApi, arguments: Arguments) -> int:
    """Pull one image, or every tag of a repository."""
    (reference,) = arguments.operands
    name = read_name(reference)
    platform = arguments.text("platform") or ""
    if arguments.is_on("all-tags"):
        if name.ending:
            raise UsageError("a tag cannot be used with --all-tags", command="pull")
        for tag in await engine.list_remote_tags(reference):
            await _pull_one(engine, f"{reference}:{tag}", arguments, platform)
        output.write_line(f"{name.domain}/{name.path}")
        return 0
    if not name.ending and not arguments.is_on("quiet"):
        output.write_line("Using default tag: latest")
    await _pull_one(engine, reference, arguments, platform)
    output.write_line(name.canonical)
    return 0


async def _pull_one(engine: EngineApi, reference: str, arguments: Arguments, platform: str) -> None:
    if arguments.is_on("quiet"):
        pulled = await engine.pull_image(reference, platform=platform)
        for warning in pulled.warnings:
            output.write_message(f"WARNING: {warning}")
    else:
        await pull_with_lines(engine, reference, platform=platform, descriptor=1)


async def push(engine: EngineApi, arguments: Arguments) -> int:
    """Push one image, or every tag of a repository."""
    (reference,) = arguments.operands
    name = read_name(reference)
    is_quiet = arguments.is_on("quiet")
    if not arguments.is_on("all-tags"):
        if not name.ending and not is_quiet:
            output.write_line("Using default tag: latest")
        await _push_one(engine, reference, is_quiet=is_quiet)
        return 0
    if name.ending:
        raise UsageError("a tag cannot be used with --all-tags", command="push")
    wanted = (name.domain, name.path)
    names = [known for image in await engine.list_images() for known in image.names]
    tagged = sorted(known for known in names if read_name(known)[:2] == wanted)
    if not tagged:
        raise NotFoundError(
            f"An image does not exist locally with the tag: {reference}",
            hint="`lamella images` lists what is here",
        )
    for known in tagged:
        await _push_one(engine, known, is_quiet=is_quiet)
    return 0


async def _push_one(engine: EngineApi, reference: str, *, is_quiet: bool) -> None:
    name = read_name(reference)
    if is_quiet:
        await engine.push_image(reference)
        output.write_line(name.canonical)
        return
    output.write_line(f"The push refers to repository [{name.domain}/{name.path}]")
    with transfer_lines() as listener:
        pushed = await engine.push_image(reference, progress=listener)
    ending = name.ending or "latest"
    output.write_line(f"{ending}: digest: {pushed.digest} size: {pushed.size_bytes}")


async def peek(engine: EngineApi, arguments: Arguments) -> int:
    """Show the steps of an image in a registry, the files of one of them, or one of these."""
    (reference,) = arguments.operands
    platform = arguments.text("platform") or ""
    has_json = wants_json(arguments, "peek")
    step, path = arguments.text("files"), arguments.text("show")
    if path is not None and (step is None or has_json):
        raise UsageError("--show needs --files STEP, and no --format", command="peek")
    if step is not None:
        if not step.isdecimal():
            raise LimitError("--files", step, "the number of a step")
        if path is not None:
            shown = await engine.read_remote_file(reference, int(step), path, platform=platform)
            _write_content(shown)
            return 0
        tree = await engine.list_remote_layer_files(reference, int(step), platform=platform)
        if has_json:
            output.write_text(indented([document(entry) for entry in tree.entries]))
            return 0
        output.write_table(
            ("CHANGE", "SIZE", "PATH"),
            [
                (str(entry.change), docker_texts.size(entry.size_bytes), _path(entry))
                for entry in tree.entries
            ],
        )
        return 0
    image = await engine.peek_image(reference, platform=platform)
    if has_json:
        output.write_text(indented([document(image)]))
    else:
        _write_steps(image, is_whole=arguments.is_on("no-trunc"))
    return 0


def _write_content(file: FileContent) -> None:
    """Pass a file on as it is, or as lines that a terminal can be shown."""
    if sys.stdout.isatty():
        output.write_text(file.content.decode("utf-8", "replace").removesuffix("\n"))
    else:
        output.write_all(1, file.content)
    if not file.is_complete:
        shown, whole = docker_texts.size(len(file.content)), docker_texts.size(file.size_bytes)
        output.write_message(f"WARNING: this is the first {shown} of {whole}")


def _write_steps(image: RemoteImage, *, is_whole: bool) -> None:
    missing = {one.digest: one.size_bytes for one in image.layers if not one.is_present}
    size, rest = docker_texts.size(image.size_bytes), docker_texts.size(sum(missing.values()))
    output.write_line(f"{image.name}  {image.platform}  {size}, {rest} to fetch")
    output.write_line(f"Digest: {image.digest}")
    rows: list[tuple[str, ...]] = []
    for layer in reversed(image.layers):
        digest, step = layer.digest or "-", formats.instruction(layer.created_by)
        rows.append(
            (
                str(layer.position),
                digest if is_whole else output.short_id(digest),
                "-" if layer.is_empty else docker_texts.size(layer.size_bytes),
                "yes" if layer.is_present else "",
                step if is_whole else output.shorten(step, 60),
            )
        )
    output.write_table(("STEP", "LAYER", "SIZE", "HERE", "CREATED BY"), rows)


def _path(entry: FileEntry) -> str:
    return f"{entry.path} -> {entry.link_target}" if entry.link_target else entry.path


COMMANDS = (
    Command(
        "peek",
        "NAME[:TAG|@DIGEST]",
        "Look at an image in a registry without pulling it, newest step first.",
        peek,
        (
            PLATFORM,
            Option("files", "", "STEP", "List the files of one step; fetches its layer alone"),
            Option("show", "", "PATH", "Show a file of that step instead, up to 1 MiB of it"),
            Option("format", "", "json", "The whole as JSON"),
            NO_TRUNCATION,
        ),
        (1, 1),
        only_looks=True,
    ),
    Command(
        "push",
        "NAME[:TAG]",
        "Give an image to the registry that its name is of.",
        push,
        (
            Option("all-tags", "a", "", "Push every tag of the repository"),
            Option("quiet", "q", "", "Print only the name"),
        ),
        (1, 1),
        details=(
            "Layers that the registry has are not sent. `lamella tag IMAGE HOST/NAME:TAG` gives an",
            "image the name of where it goes.",
            "",
        ),
    ),
    Command(
        "pull",
        "NAME[:TAG|@DIGEST]",
        "Get an image from a registry; layers that are here are not fetched again.",
        pull,
        (
            PLATFORM,
            Option("all-tags", "a", "", "Pull every tag of the repository"),
            Option("quiet", "q", "", "Print only the name"),
        ),
        (1, 1),
        details=(
            "A pull that was cut short is gone on with where it was. Names without a registry",
            "are Docker Hub's.",
            "",
        ),
    ),
)
