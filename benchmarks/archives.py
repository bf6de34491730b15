"""Rows about archives that are written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import PeerMissingError, Place, run

if TYPE_CHECKING:
    from pathlib import Path

_ROUNDS = 3


async def save(place: Place) -> Result:
    """Save 120 MB of files, a Debian and 119 layers with gzip layers, as OCI archives."""
    result = Result()
    for what, archive in (
        ("save 120 MB, gzip", lambda: place.large_archive),
        ("save Debian, gzip", lambda: place.debian_archive),
        ("save 119 layers, gzip", lambda: place.many_archive),
    ):
        try:
            sides = await _sides(place, archive(), result)
        except PeerMissingError as error:
            result.skipped.append(f"{what}: {error}")
            continue
        result.figures += compare(what, await interleave(sides, rounds=_ROUNDS))
    return result


async def _sides(place: Place, archive: Path, result: Result) -> dict[str, Timed]:
    name = f"localhost/{archive.stem}:latest"
    await run(*place.lamella, "load", "-q", archive)
    own = place.top / "lamella-saved.tar"
    options = ("--format", "oci-archive", "--compress-layers", "gzip", "-o", str(own))
    sides = {"lamella": _side((*place.lamella, "save", "-q", *options, name), own, {})}
    if shutil.which("skopeo"):
        copied = place.top / "skopeo-saved.tar"
        words = ("skopeo", "copy", "-q", "--insecure-policy", f"docker-archive:{archive}")
        sides["skopeo copy"] = _side((*words, f"oci-archive:{copied}:it"), copied, {})
    else:
        result.skipped.append("skopeo: not installed")
    try:
        podman, environment = place.podman
        await run(*podman, "load", "-q", "-i", archive, environment=environment)
        saved = place.top / "podman-saved.tar"
        words = (*podman, "save", "-q", "--format", "oci-archive", "-o", str(saved), name)
        sides["podman save"] = _side(words, saved, environment)
    except PeerMissingError as error:
        result.skipped.append(f"podman: {error}")
    return sides


def _side(words: tuple[str, ...], target: Path, environment: dict[str, str]) -> Timed:
    async def side() -> float:
        # What the side before has written is not this one's to wait for.
        await run("sync")
        clock = Clock()
        await run(*words, environment=environment)
        seconds = clock.seconds
        await run("rm", target)
        return seconds

    return side
