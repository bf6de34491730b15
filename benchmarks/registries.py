"""Rows about registries: pulling from one on the loopback."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import PeerMissingError, Place, run

if TYPE_CHECKING:
    from pathlib import Path

_ROUNDS = 3


async def pull(place: Place) -> Result:
    """Pull a Debian with one gzip layer of 142 MB, and an image of 119 layers."""
    result = Result()
    with ExitStack() as stack:
        address = stack.enter_context(place.registry())
        peers: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        try:
            peers["podman pull"] = place.podman
        except PeerMissingError as error:
            result.skipped.append(f"podman: {error}")
        try:
            peers["docker pull"] = (stack.enter_context(place.docker()), {})
        except PeerMissingError as error:
            result.skipped.append(f"docker: {error}")
        for what, archive in (
            ("pull Debian, a layer of 396 MB", place.debian_archive),
            ("pull 119 layers", place.many_archive),
        ):
            name = f"{address}/{archive.stem}:latest"
            await _push(archive, name)
            sides = {
                "lamella": _side((*place.lamella, "pull", "-q"), (*place.lamella, "rmi"), name)
            }
            for peer, (words, environment) in peers.items():
                insecure = ("--tls-verify=false",) if "podman" in peer else ()
                sides[peer] = _side(
                    (*words, "pull", "-q", *insecure), (*words, "rmi"), name, environment
                )
            result.figures += compare(what, await interleave(sides, rounds=_ROUNDS))
    return result


async def _push(archive: Path, name: str) -> None:
    await run(
        "skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
        "--dest-compress-format", "gzip", f"docker-archive:{archive}", f"docker://{name}",
    )  # fmt: skip


def _side(
    pulling: tuple[str, ...],
    removing: tuple[str, ...],
    name: str,
    environment: dict[str, str] | None = None,
) -> Timed:
    async def side() -> float:
        # What the side before has written is not this one's to wait for.
        await run("sync")
        clock = Clock()
        await run(*pulling, name, environment=environment)
        seconds = clock.seconds
        await run(*removing, name, environment=environment)
        return seconds

    return side
