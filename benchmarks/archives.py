"""Rows about archives that are written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import PeerMissingError, Place, run

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "localhost/large:latest"


async def save(place: Place) -> Result:
    """Save an image of 120 MB with gzip layers, as an OCI archive."""
    result = Result()
    archive = str(place.large_archive)
    await run(*place.lamella, "load", "-q", archive)

    def timed(words: tuple[str, ...], target: Path, environment: dict[str, str]) -> Timed:
        async def side() -> float:
            clock = Clock()
            await run(*words, environment=environment)
            seconds = clock.seconds
            await run("rm", str(target))
            return seconds

        return side

    own = place.top / "lamella-saved.tar"
    options = ("--format", "oci-archive", "--compress-layers", "gzip", "-o", str(own))
    sides = {"lamella": timed((*place.lamella, "save", "-q", *options, _NAME), own, {})}
    if shutil.which("skopeo"):
        copied = place.top / "skopeo-saved.tar"
        words = ("skopeo", "copy", "-q", "--insecure-policy", f"docker-archive:{archive}")
        sides["skopeo copy"] = timed((*words, f"oci-archive:{copied}:large"), copied, {})
    else:
        result.skipped.append("skopeo: not installed")
    try:
        podman, environment = place.podman
        await run(*podman, "load", "-q", "-i", archive, environment=environment)
        saved = place.top / "podman-saved.tar"
        words = (*podman, "save", "-q", "--format", "oci-archive", "-o", str(saved), _NAME)
        sides["podman save"] = timed(words, saved, environment)
    except PeerMissingError as error:
        result.skipped.append(f"podman: {error}")
    result.figures += compare("save 120 MB, gzip", await interleave(sides, rounds=3))
    return result
