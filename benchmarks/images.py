"""Rows about images: loading and unpacking."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import PeerMissingError, Place, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_NAME = "localhost/large:latest"


async def load(place: Place) -> Result:
    """Load and unpack an image of 120 MB."""
    result = Result()
    archive = str(place.large_archive)

    def timed(
        work: Callable[[], Awaitable[object]], clean: Callable[[], Awaitable[object]]
    ) -> Timed:
        async def side() -> float:
            clock = Clock()
            await work()
            seconds = clock.seconds
            await clean()
            return seconds

        return side

    sides: dict[str, Timed] = {
        "lamella": timed(
            lambda: run(*place.lamella, "load", "-q", archive),
            lambda: run(*place.lamella, "rmi", "-f", _NAME),
        )
    }
    try:
        words, environment = place.podman
        sides["podman load"] = timed(
            lambda: run(*words, "load", "-q", "-i", archive, environment=environment),
            lambda: run(*words, "rmi", "-f", _NAME, environment=environment),
        )
    except PeerMissingError as error:
        result.skipped.append(f"podman: {error}")
    if shutil.which("skopeo") and shutil.which("umoci"):
        layout, bundle = place.top / "layout", place.top / "unpacked"

        async def copy_and_unpack() -> None:
            source, target = f"docker-archive:{archive}", f"oci:{layout}:large"
            await run("skopeo", "copy", "-q", "--insecure-policy", source, target)
            await run("umoci", "raw", "unpack", "--image", f"{layout}:large", bundle)

        sides["skopeo copy and umoci unpack"] = timed(
            copy_and_unpack, lambda: run("rm", "-rf", str(layout), str(bundle))
        )
    else:
        result.skipped.append("skopeo, umoci: not installed")
    for name in list(sides):
        if name != "lamella":
            try:
                await sides[name]()
            except PeerMissingError as error:
                result.skipped.append(f"{name}: {error}")
                del sides[name]
    result.figures += compare("load and unpack 120 MB", await interleave(sides, rounds=3))
    return result
