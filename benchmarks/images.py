"""Rows about images: loading and unpacking, and the memory that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.long_layers import write_long_layout
from benchmarks.measure import Clock, Figure, Result, Timed, compare, interleave
from benchmarks.place import PeerMissingError, Place, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ROUNDS = 3
_SECONDS_BETWEEN_LOOKS = 0.02


def _timed(work: Callable[[], Awaitable[object]], clean: Callable[[], Awaitable[object]]) -> Timed:
    async def side() -> float:
        # What the side before has written is not this one's to wait for.
        await run("sync")
        clock = Clock()
        await work()
        seconds = clock.seconds
        await clean()
        return seconds

    return side


async def load(place: Place) -> Result:
    """Load 120 MB of files, a Debian with one gzip layer of 142 MB, and 119 layers."""
    result = Result()
    with ExitStack() as stack:
        docker: tuple[str, ...] | None = None
        try:
            docker = stack.enter_context(place.docker())
        except PeerMissingError as error:
            result.skipped.append(f"docker: {error}")
        plain = place.large_archive
        what = "load and unpack 120 MB"
        sides = await _sides(place, plain, docker, result)
        samples = await interleave(sides, rounds=_ROUNDS, has_warmed_up=True)
        result.figures += compare(what, samples)
        for what, archive in (
            ("load Debian, a gzip layer of 142 MB", lambda: place.debian_archive),
            ("load 119 gzip layers", lambda: place.many_archive),
        ):
            try:
                compressed, layout = place.compressed(archive())
            except PeerMissingError as error:
                result.skipped.append(f"{what}: {error}")
                continue
            sides = await _sides(place, compressed, docker, result, layout=layout)
            samples = await interleave(sides, rounds=_ROUNDS, has_warmed_up=True)
            result.figures += compare(what, samples)
    return result


async def _sides(
    place: Place,
    archive: Path,
    docker: tuple[str, ...] | None,
    result: Result,
    *,
    layout: Path | None = None,
) -> dict[str, Timed]:
    """Everybody who can load an archive; umoci and we take the layout, with digests of blobs."""
    name = f"localhost/{archive.name.partition('.')[0]}:latest"
    sides = {"lamella": _own_side(place, layout or archive)}
    try:
        words, environment = place.podman
        sides["podman load"] = _peer_side(words, environment, archive, name)
    except PeerMissingError as error:
        result.skipped.append(f"podman: {error}")
    if docker is not None:
        sides["docker load"] = _peer_side(docker, {}, archive, name)
    if shutil.which("skopeo") and shutil.which("umoci"):
        is_copied = layout is None
        peer = "skopeo copy and umoci unpack" if is_copied else "umoci unpack"
        sides[peer] = _umoci_side(
            place, archive, layout or place.top / "layout", is_copied=is_copied
        )
    else:
        result.skipped.append("skopeo, umoci: not installed")
    for peer in list(sides):
        try:
            await sides[peer]()
        except PeerMissingError as error:
            result.skipped.append(f"{peer}: {error}")
            del sides[peer]
    return sides


def _own_side(place: Place, source: Path) -> Timed:
    async def remove() -> None:
        ids = (await run(*place.lamella, "images", "-q", "--no-trunc")).decode().split()
        await run(*place.lamella, "rmi", "-f", *ids)

    return _timed(lambda: run(*place.lamella, "load", "-q", source), remove)


def _peer_side(
    words: tuple[str, ...], environment: dict[str, str], archive: Path, name: str
) -> Timed:
    return _timed(
        lambda: run(*words, "load", "-q", "-i", archive, environment=environment),
        lambda: run(*words, "rmi", "-f", name, environment=environment),
    )


def _umoci_side(place: Place, archive: Path, layout: Path, *, is_copied: bool) -> Timed:
    bundle = place.top / "unpacked"

    async def unpack() -> None:
        if is_copied:
            source, target = f"docker-archive:{archive}", f"oci:{layout}:it"
            await run("skopeo", "copy", "-q", "--insecure-policy", source, target)
        await run("umoci", "raw", "unpack", "--image", f"{layout}:it", bundle)

    made = (bundle, layout) if is_copied else (bundle,)
    return _timed(unpack, lambda: run("rm", "-rf", *made))


async def memory(place: Place) -> Result:
    """The most memory of all processes together, with a layer of 2 GB."""
    result = Result()
    archive = place.heavy_archive
    await _measure_memory(result, place, "load", "load", "-q", str(archive))
    name, saved = "localhost/heavy:latest", str(place.top / "heavy-saved.tar")
    await _measure_memory(result, place, "save as gzip", "save", "-q", "--format", "oci-archive",
                          "--compress-layers", "gzip", "-o", saved, name)  # fmt: skip
    try:
        with place.registry() as address:
            remote = f"{address}/heavy:latest"
            await run(*place.lamella, "tag", name, remote)
            await _measure_memory(result, place, "push", "push", "-q", remote)
            await run(*place.lamella, "rmi", "-f", name, remote)
            await _measure_memory(result, place, "pull", "pull", "-q", remote)
            await run(*place.lamella, "rmi", "-f", remote)
            layout, remote = write_long_layout(place.top / "long"), f"{address}/long:latest"
            await run(
                "skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
                f"oci:{layout}:it", f"docker://{remote}",
            )  # fmt: skip
            await _measure_memory(
                result, place, "pull, zstd with a window of 64 MiB", "pull", "-q", remote
            )
    except PeerMissingError as error:
        result.skipped.append(f"registry: {error}")
    return result


async def _measure_memory(result: Result, place: Place, what: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *place.lamella, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    own_peaks: dict[int, int] = {}
    together = 0
    end = asyncio.create_task(process.wait())
    while not end.done():
        shares = 0
        for process_id in _family(process.pid):
            with contextlib.suppress(OSError, IndexError):
                own_peaks[process_id] = _kilobytes(process_id, "status", "VmHWM:")
                shares += _kilobytes(process_id, "smaps_rollup", "Pss:")
        together = max(together, shares)
        await asyncio.wait((end,), timeout=_SECONDS_BETWEEN_LOOKS)
    if await end:
        raise PeerMissingError(f"lamella {what} failed")
    result.figures.append(
        Figure(
            f"memory of a {what}; layer of 2 GB",
            together / 1e3,
            "MB PSS",
            note=f"own peaks of all {len(own_peaks)} processes, with what they share in each: "
            f"{sum(own_peaks.values()) / 1e3:.0f} MB",
        )
    )


def _kilobytes(process_id: int, file: str, field: str) -> int:
    text = Path(f"/proc/{process_id}/{file}").read_text()
    return int(text.partition(field)[2].split()[0])


def _family(process_id: int) -> list[int]:
    """A process and all below it."""
    found = [process_id]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                found += map(int, children.split())
    return found
