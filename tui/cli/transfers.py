"""`pull`: images from registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui.cli import output
from tui.cli.command import Command
from tui.cli.options import Option
from tui.cli.transfer_lines import transfer_lines

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import PulledImage
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

    def say(text: str) -> None:
        output.write_all(descriptor, f"{output.printable(text)}\n".encode())

    say(f"{name.ending or 'latest'}: Pulling from {name.path}")
    with transfer_lines(descriptor) as listener:
        pulled = await engine.pull_image(reference, platform=platform, progress=listener)
    say(f"Digest: {pulled.digest}")
    state = "Downloaded newer image" if pulled.is_new else "Image is up to date"
    say(f"Status: {state} for {pulled.name}")
    for warning in pulled.warnings:
        output.write_message(f"WARNING: {warning}")
    return pulled


async def pull(engine: EngineApi, arguments: Arguments) -> int:
    """Pull one image."""
    (reference,) = arguments.operands
    name = read_name(reference)
    platform = arguments.text("platform") or ""
    if arguments.is_on("quiet"):
        pulled = await engine.pull_image(reference, platform=platform)
        for warning in pulled.warnings:
            output.write_message(f"WARNING: {warning}")
    else:
        if not name.ending:
            output.write_line("Using default tag: latest")
        await pull_with_lines(engine, reference, platform=platform, descriptor=1)
    output.write_line(name.canonical)
    return 0


COMMANDS = (
    Command(
        "pull",
        "NAME[:TAG|@DIGEST]",
        "Get an image from a registry; layers that are here are not fetched again.",
        pull,
        (
            PLATFORM,
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
