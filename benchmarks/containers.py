"""Rows about containers: start, a cold command, many at once, the monitor's memory, the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Clock, Figure, Result, Timed, compare, interleave
from benchmarks.place import IMAGE, LINES_BYTES, LINES_IMAGE, PeerMissingError, Place, run
from engine.api import EngineApi, open_engine
from engine.operations import carry_through
from engine.types import ContainerRequest, NetworkOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable


@contextlib.asynccontextmanager
async def small_engine(place: Place) -> AsyncIterator[EngineApi]:
    """An engine with the small image; its containers go at the end."""
    async with open_engine(root=place.top / "root", run=place.top / "run") as engine:
        await engine.load_images(place.small_archive)
        try:
            yield engine
        finally:
            await carry_through(_remove_all(engine))


async def _remove_all(engine: EngineApi) -> None:
    for summary in await engine.list_containers():
        await engine.remove_container(summary.container_id, is_forced=True)


def timed(*words: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> Timed:
    async def side() -> float:
        clock = Clock()
        await run(*words, environment=environment, cwd=cwd)
        return clock.seconds

    return side


async def working_peers(result: Result, candidates: dict[str, Timed]) -> dict[str, Timed]:
    """Keep the peers that work here, and say why the others do not."""
    working: dict[str, Timed] = {}
    for name, side in candidates.items():
        try:
            await side()
        except (PeerMissingError, OSError) as error:
            result.skipped.append(f"{name}: {error}")
        else:
            working[name] = side
    return working


async def podman_with_image(place: Place) -> tuple[tuple[str, ...], dict[str, str]]:
    words, environment = place.podman
    await run(*words, "load", "-q", "-i", place.small_archive, environment=environment)
    return words, environment


def _runtimes(place: Place, result: Result) -> dict[str, Timed]:
    """crun and runc over a bundle of busybox, with Podman's seccomp profile and without."""
    sides: dict[str, Timed] = {}
    for has_seccomp in (True, False):
        try:
            bundle = place.bundle("/bin/true", has_seccomp=has_seccomp)
        except (PeerMissingError, FileNotFoundError) as error:
            result.skipped.append(f"runtimes: {error}")
            continue
        name = f"bench-{os.getpid()}"
        suffix = "" if has_seccomp else ", no seccomp"
        for runtime, *options in (("crun",), ("crun", "--cgroup-manager=disabled"), ("runc",)):
            if shutil.which(runtime):
                what = " ".join([runtime, *options, "run"]) + suffix
                sides[what] = timed(runtime, *options, "run", name, cwd=bundle)
    return sides


async def start(place: Place) -> Result:
    """Start of a container, engine warm: request to exec, and all of it."""
    result = Result()
    async with small_engine(place) as engine:
        request = ContainerRequest(image=IMAGE, command=("true",))
        to_exec: list[float] = []
        to_answer: list[float] = []
        to_end: list[float] = []

        async def ours() -> float:
            whole = Clock()
            created = await engine.create_container(request)
            begun_ns = time.time_ns()
            clock = Clock()
            await engine.start_container(created.container_id)
            to_answer.append(clock.seconds)
            await engine.wait_container(created.container_id)
            to_end.append(clock.seconds)
            details = await engine.inspect_container(created.container_id)
            assert details.summary.started_at is not None
            to_exec.append(details.summary.started_at - begun_ns / 1e9)
            await engine.remove_container(created.container_id)
            return whole.seconds

        podman: dict[str, Timed] = {}
        try:
            words, environment = await podman_with_image(place)
            podman["podman run"] = timed(
                *words, "run", "--rm", "--network", "none", IMAGE, "true", environment=environment
            )
        except PeerMissingError as error:
            result.skipped.append(f"podman: {error}")
        peers = await working_peers(result, {**_runtimes(place, result), **podman})
        samples = await interleave({"lamella": ours, **peers}, rounds=20)
        engines = {name: samples[name] for name in peers if name in podman}
        runtimes = {name: samples[name] for name in peers if name not in podman}
        result.figures += compare("start: request to exec", {"lamella": to_exec[1:]})
        result.figures += compare("start: request to answer", {"lamella": to_answer[1:], **engines})
        # A runtime is given a root filesystem and writes no log; podman does all that we do.
        result.figures += compare("start to ended", {"lamella": to_end[1:], **runtimes})
        result.figures += compare(
            "create, start, wait, remove", {"lamella": samples["lamella"], **engines}
        )
    return result


async def cold(place: Place) -> Result:
    """`run --rm IMAGE true` from a shell, nothing running."""
    result = Result()
    await run(*place.lamella, "load", "-q", str(place.small_archive))
    sides = {"lamella": timed(*place.lamella, "run", "--rm", IMAGE, "true")}
    try:
        words, environment = await podman_with_image(place)
        candidates = {
            "podman run": timed(
                *words, "run", "--rm", "--network", "none", IMAGE, "true", environment=environment
            )
        }
        sides |= await working_peers(result, candidates)
    except PeerMissingError as error:
        result.skipped.append(f"podman: {error}")
    result.figures += compare("run --rm IMAGE true, cold", await interleave(sides, rounds=10))
    return result


async def many(place: Place) -> Result:
    """Fifty containers started at once, and what each monitor costs."""
    result = Result()
    async with small_engine(place) as engine:
        await start_many(engine, NetworkOptions(), result)
    return result


async def start_many(engine: EngineApi, options: NetworkOptions, result: Result) -> None:
    """Start fifty containers at once, and look at their monitors."""
    count = 50
    kind = " with a network" if options.attachments else ""
    request = ContainerRequest(image=IMAGE, command=("sleep", "1000"), network=options)
    created = [await engine.create_container(request) for _number in range(count)]
    clock = Clock()
    starts = (engine.start_container(one.container_id) for one in created)
    # Ended in the middle, it first lets all of them start: what runs can be removed.
    await carry_through(_together(starts))
    result.figures.append(Figure(f"{count} started at once{kind}", clock.seconds * 1000, "ms"))
    monitors = [await _monitor(engine, one.container_id) for one in created]
    sizes = [size for pid in monitors if (size := _proportional_bytes(pid))]
    if sizes:
        mean = sum(sizes) / len(sizes) / 1e6
        what = f"monitor's memory{kind}, {len(sizes)} of them"
        result.figures.append(Figure(what, mean, "MB PSS"))
    else:
        result.skipped.append("memory: smaps_rollup of a monitor needs root")


async def stats(place: Place) -> Result:
    """A sample of a hundred running containers, as the application and `stats` take it."""
    count, rounds = 100, 60
    async with small_engine(place) as engine:
        request = ContainerRequest(image=IMAGE, command=("sleep", "1000"))
        created = [await engine.create_container(request) for _number in range(count)]
        for one in created:
            await engine.start_container(one.container_id)
        identities = [one.container_id for one in created]
        await engine.sample_stats(identities)
        samples: list[float] = []
        for _number in range(rounds):
            await asyncio.sleep(0.05)
            clock = Clock()
            taken = await engine.sample_stats(identities)
            samples.append(clock.seconds)
            assert len(taken) == count
    return Result(compare(f"stats of {count} containers", {"lamella": samples}))


async def _together(works: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*works)


async def _monitor(engine: EngineApi, container_id: str) -> int:
    """The process id of a container's monitor: the parent of its first process."""
    process_id = (await engine.inspect_container(container_id)).process_id
    stat = Path(f"/proc/{process_id}/stat").read_text()  # noqa: ASYNC240
    return int(stat.rpartition(")")[2].split()[1])


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


async def log_pump(place: Place) -> Result:
    """How fast output goes through the monitor to the log file."""
    result = Result()
    # Written from a file in the image: a program that makes the lines would be what is measured.
    times = 40
    megabytes = times * LINES_BYTES / 1e6
    script = f"for i in $(seq {times}); do cat /lines; done"
    async with small_engine(place) as engine:
        await engine.load_images(place.lines_archive)
        request = ContainerRequest(image=LINES_IMAGE, command=("sh", "-c", script))

        async def ours() -> float:
            created = await engine.create_container(request)
            clock = Clock()
            await engine.start_container(created.container_id)
            await engine.wait_container(created.container_id)
            seconds = clock.seconds
            await engine.remove_container(created.container_id)
            return megabytes / seconds

        sides: dict[str, Timed] = {"lamella": ours}
        try:
            words, environment = place.podman
            await run(*words, "load", "-q", "-i", place.lines_archive, environment=environment)

            async def podman() -> float:
                clock = Clock()
                name = f"bench-{os.getpid()}"
                options = ("--network", "none", "--log-driver", "k8s-file", "--name", name)
                await run(
                    *words,
                    "run",
                    "-d",
                    *options,
                    LINES_IMAGE,
                    "sh",
                    "-c",
                    script,
                    environment=environment,
                )
                await run(*words, "wait", name, environment=environment)
                seconds = clock.seconds
                await run(*words, "rm", "-f", name, environment=environment)
                return megabytes / seconds

            sides |= await working_peers(result, {"podman with conmon": podman})
        except PeerMissingError as error:
            result.skipped.append(f"podman: {error}")
        samples = await interleave(sides, rounds=3)
        result.figures += compare(
            "log pump, 80-byte lines",
            samples,
            unit="MB/s",
            scale=1.0,
            is_better_when_lower=False,
            note="start and end included",
        )
    return result
