"""Whoever pulls, pushes, loads, saves, imports or prunes is killed when a seed says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.types import PruneFilter
from tests.integration.faults.test_killed_removals import (
    CHECKOUT,
    image_names,
    layer,
    layout_of,
    names_in,
    require_whole,
)
from tests.integration.registry.test_cut_pulls import arrived, blobs_sent, require_going_on
from tests.registries import push_files
from tests.unit.snapshots.tars import END, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StorePaths
    from tests.fault_proxy import FaultProxy

SEEDS = 12

# Says that it is ready, waits for a line, does one thing, and says so.
_APPLICATION = """
import asyncio, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.types import ImportRequest, PruneFilter

root, run, what, target = sys.argv[1:]

async def main():
    async with Engine.open(EngineConfig(root=Path(root), run=Path(run))) as engine:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        match what:
            case "pull": await engine.pull_image(target)
            case "push": await engine.push_image(target)
            case "load": await engine.load_images(Path(target))
            case "save": await engine.save_images(["kept:1", "kept:2"], Path(target))
            case "import": await engine.import_image(Path(target), ImportRequest(name="mine"))
            case "prune": await engine.prune_images(PruneFilter(), includes_named=True)
        print("done", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


class Victims:
    """Processes that are killed, over one store."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._seconds: dict[str, float] = {}

    async def measure(self, what: str, target: str) -> None:
        """Let work be done undisturbed: it is killed within the time that it takes."""
        process = self._begin(what, target)
        assert process.stdin is not None
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        begun = time.monotonic()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert await asyncio.to_thread(process.stdout.readline) == b"done\n"
        self._seconds[what] = time.monotonic() - begun
        await asyncio.to_thread(process.communicate, b"\n")
        assert process.returncode == 0

    async def kill(self, chance: random.Random, *work: tuple[str, str]) -> list[bool]:
        """Let each do its work, and kill it in the middle; returns which had ended theirs."""
        processes = [self._begin(*words) for words in work]
        try:
            for process in processes:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                process.stdin.flush()
            longest = max(self._seconds[what] for what, _target in work)
            moments = sorted(chance.uniform(0, 1.1 * longest) for _ in processes)
            begun = time.monotonic()
            for process, moment in zip(
                chance.sample(processes, len(processes)), moments, strict=True
            ):
                left = max(0.0, begun + moment - time.monotonic())
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, left)
                process.kill()
        finally:
            for process in processes:
                process.kill()
            said = [(await asyncio.to_thread(process.communicate))[0] for process in processes]
        return [b"done" in words for words in said]

    def _begin(self, what: str, target: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-c", _APPLICATION, str(self._config.root), str(self._config.run),
             what, target),
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def config(store_paths: StorePaths) -> EngineConfig:
    return EngineConfig(root=store_paths.root, run=store_paths.run)


@pytest.fixture
def victims(config: EngineConfig) -> Victims:
    return Victims(config)


@pytest.fixture
def image_id(proxy: FaultProxy) -> str:
    content = random.Random(0)
    layers = ({f"file-{number}": content.randbytes(150_000)} for number in range(3))
    return push_files(f"{proxy.upstream}/web:1", *layers)


@contextlib.asynccontextmanager
async def opened(config: EngineConfig) -> AsyncIterator[Engine]:
    """An engine that finds what the dead have left, and a store that is whole."""
    async with Engine.open(config) as engine:
        await require_whole(engine, config)
        yield engine
        await require_whole(engine, config)


async def prune(engine: Engine) -> None:
    await engine.prune_images(PruneFilter(), includes_named=True)


async def measure_pull(config: EngineConfig, victims: Victims, proxy: FaultProxy) -> dict[str, int]:
    """See how long a pull takes and what it fetches, and forget the image."""
    await victims.measure("pull", f"{proxy.address}/web:1")
    async with opened(config) as engine:
        sizes = blobs_sent(proxy)
        assert len(sizes) == 4
        await prune(engine)
    return sizes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [1, 2])
async def test_a_killed_pull_is_gone_on_with_and_nothing_that_came_is_fetched_again(
    count: int, config, store_paths, victims, proxy, image_id
) -> None:
    name = f"{proxy.address}/web:1"
    # Slow enough that most moments are within a layer.
    proxy.bytes_per_second = 400_000
    sizes = await measure_pull(config, victims, proxy)
    kept = 0
    for seed in range(SEEDS // count):
        chance = random.Random(seed)
        for _ in range(2):
            before = arrived(store_paths)
            proxy.requests.clear()
            ends = await victims.kill(chance, *[("pull", name)] * count)
            if count == 1 and not any(ends):
                require_going_on(proxy, before, sizes)
        before = arrived(store_paths)
        kept += len(before)
        proxy.requests.clear()
        async with opened(config) as engine:
            has_image = bool(await engine.list_images())
            pulled = await engine.pull_image(name)
            assert pulled.image_id == image_id
            if has_image:
                assert blobs_asked(proxy) == 0
            require_going_on(proxy, before, sizes)
            await prune(engine)
        assert names_in(config.downloads_directory) == set()
    # Of two, both have to be killed in time.
    assert kept or count == 2


def blobs_asked(proxy: FaultProxy) -> int:
    return sum(one.method == "GET" and "/blobs/" in one.path for one in proxy.requests)


@pytest.mark.timeout(300)
async def test_pulls_and_prunes_beside_each_other_that_are_killed_leave_a_whole_store(
    config, victims, proxy, image_id
) -> None:
    name = f"{proxy.address}/web:1"
    await measure_pull(config, victims, proxy)
    await victims.measure("prune", "")
    for seed in range(SEEDS // 2):
        chance = random.Random(seed)
        await victims.kill(chance, ("pull", name), ("prune", ""))
        async with opened(config) as engine:
            assert (await engine.pull_image(name)).image_id == image_id
            if seed % 2:
                await prune(engine)


@pytest.mark.timeout(300)
async def test_loads_and_prunes_that_are_killed_leave_whole_images_or_none(
    config, victims, tmp_path
) -> None:
    names = {"kept:1", "kept:2"}
    archive = str(layout_of(tmp_path / "a", kept_1=(layer("a"), layer("b")), kept_2=(layer("a"),)))
    await victims.measure("load", archive)
    await victims.measure("prune", "")
    for seed in range(SEEDS):
        chance = random.Random(seed)
        what = ("load", "prune")[seed % 2]
        async with opened(config) as engine:
            await prune(engine)
            if what == "prune":
                await engine.load_images(Path(archive))
        await victims.kill(chance, (what, archive))
        async with opened(config) as engine:
            # A load is of all images or of none; so is a prune.
            assert await image_names(engine) in (set(), names)
            await engine.load_images(Path(archive))
            assert await image_names(engine) == names


@pytest.mark.timeout(300)
async def test_a_save_that_is_killed_leaves_a_whole_archive_or_none(
    config, victims, tmp_path
) -> None:
    big = random.Random(0).randbytes(100).hex()
    layout = layout_of(tmp_path / "a", kept_1=(layer(big), layer("b")), kept_2=(layer(big),))
    saved = tmp_path / "saved"
    saved.mkdir()
    async with opened(config) as engine:
        await engine.load_images(layout)
        await engine.save_images(["kept:1", "kept:2"], tmp_path / "whole.tar")
    whole = (tmp_path / "whole.tar").read_bytes()
    await victims.measure("save", str(tmp_path / "again.tar"))
    written = 0
    for seed in range(SEEDS):
        await victims.kill(random.Random(seed), ("save", str(saved / "images.tar")))
        if names_in(saved):
            assert names_in(saved) == {"images.tar"}
            assert (saved / "images.tar").read_bytes() == whole
            (saved / "images.tar").unlink()
            written += 1
    assert written < SEEDS
    async with opened(config) as engine:
        assert await image_names(engine) == {"kept:1", "kept:2"}


@pytest.mark.timeout(300)
async def test_an_import_that_is_killed_leaves_an_image_or_nothing(
    config, victims, tmp_path
) -> None:
    tar = tmp_path / "root.tar"
    content = os.urandom(100_000)
    tar.write_bytes(b"".join(entry(b"f%d" % number, content) for number in range(20)) + END)
    await victims.measure("import", str(tar))
    async with opened(config) as engine:
        await prune(engine)
    for seed in range(SEEDS // 2):
        ends = await victims.kill(random.Random(seed), ("import", str(tar)))
        async with opened(config) as engine:
            names = await image_names(engine)
            assert names == {"mine:latest"} if any(ends) else names in (set(), {"mine:latest"})
            await prune(engine)
        assert names_in(config.layers_directory) == set()


@pytest.mark.timeout(300)
async def test_a_push_that_is_killed_leaves_a_registry_that_takes_the_next_one(
    config, victims, proxy, tmp_path
) -> None:
    layout = layout_of(tmp_path / "a", kept_1=(layer("a", "b"), layer("c")))
    async with opened(config) as engine:
        await engine.load_images(layout)
        await engine.tag_image("kept:1", f"{proxy.address}/pushed:first")
    await victims.measure("push", f"{proxy.address}/pushed:first")
    sent = 0
    for seed in range(SEEDS // 2):
        name = f"{proxy.address}/pushed:{seed}"
        async with opened(config) as engine:
            await engine.load_images(layout)
            await engine.tag_image("kept:1", name)
        ends = await victims.kill(random.Random(seed), ("push", name))
        async with opened(config) as engine:
            # Whatever of it is in the registry is whole, and is not sent again.
            pushed = await engine.push_image(name)
            proxy.requests.clear()
            assert (await engine.push_image(name)).digest == pushed.digest
            assert [one for one in proxy.requests if one.method in {"POST", "PATCH"}] == []
            before = (await engine.inspect_image(name)).summary.image_id
            await prune(engine)
            assert (await engine.pull_image(name)).image_id == before
            await prune(engine)
        sent += any(ends)
    assert sent < SEEDS // 2
