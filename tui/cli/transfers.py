"""`pull`, `push` and `peek`: images from and to registries, and looked at there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.errors import NotFoundError
from tui import format as formats
from tui.cli import docker_texts, output
from tui.cli.command import Command
from tui.cli.documents import document, indented
from tui.cli.images import NO_TRUNCATION, wants_json
from tui.cli.layer_files import SHOW, wanted_files, write_content, write_files
from tui.cli.options import PLATFORM, Option, UsageError
from tui.cli.transfer_lines import transfer_lines

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import LayerTransfer, PulledImage, RemoteImage
    from tui.cli.options import Arguments

_DOCKER_HUB = "docker.io"


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
    platform = arguments.text("platform") or ""
    if not arguments.is_on("all-tags"):
        if not name.ending and not is_quiet:
            output.write_line("Using default tag: latest")
        await _push_one(engine, reference, platform, is_quiet=is_quiet)
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
        await _push_one(engine, known, platform, is_quiet=is_quiet)
    return 0


async def _push_one(engine: EngineApi, reference: str, platform: str, *, is_quiet: bool) -> None:
    name = read_name(reference)
    if is_quiet:
        await engine.push_image(reference, platform=platform)
        output.write_line(name.canonical)
        return
    output.write_line(f"The push refers to repository [{name.domain}/{name.path}]")
    with transfer_lines() as listener:
        pushed = await engine.push_image(reference, platform=platform, progress=listener)
    ending = name.ending or "latest"
    output.write_line(f"{ending}: digest: {pushed.digest} size: {pushed.size_bytes}")


async def peek(engine: EngineApi, arguments: Arguments) -> int:
    """Show the steps of an image in a registry, the files of one of them, or one of these."""
    (reference,) = arguments.operands
    platform = arguments.text("platform") or ""
    has_json = wants_json(arguments, "peek")
    wanted = wanted_files(arguments, "peek", has_json=has_json)
    if wanted is not None:
        position, path = wanted
        if path is not None:
            write_content(
                await engine.read_remote_file(reference, position, path, platform=platform)
            )
        else:
            tree = await engine.list_remote_layer_files(reference, position, platform=platform)
            write_files(tree, has_json=has_json)
        return 0
    image = await engine.peek_image(reference, platform=platform)
    if has_json:
        output.write_text(indented([document(image)]))
    else:
        _write_steps(image, is_whole=arguments.is_on("no-trunc"))
    return 0


def _write_steps(image: RemoteImage, *, is_whole: bool) -> None:
    missing = {one.digest: one.size_bytes for one in image.layers if not one.is_present}
    size, rest = docker_texts.size(image.size_bytes), docker_texts.size(sum(missing.values()))
    output.write_line(f"{image.name}  {image.platform}  {size}, {rest} to fetch")
    output.write_line(f"Digest: {image.digest}")
    if len(image.platforms) > 1:
        output.write_line(f"Platforms: {', '.join(image.platforms)}")
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


COMMANDS = (
    Command(
        "peek",
        "NAME[:TAG|@DIGEST]",
        "Look at an image in a registry without pulling it, newest step first.",
        peek,
        (
            PLATFORM,
            Option("files", "", "STEP", "List the files of one step; fetches its layer alone"),
            SHOW,
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
            PLATFORM._replace(summary="Push it only if it is for this: linux/arm64, linux/arm/v7"),
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
