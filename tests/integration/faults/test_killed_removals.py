"""Images are added and removed at once, and whoever does it is killed: the store stays whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.images.layout import MadeImage, MadeLayer, write_layout
from engine.oci.documents import ConfigSection
from engine.runtime.supervisor import Supervisor
from engine.snapshots.tar_writer import TarEntry
from engine.types import PruneFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.config import EngineConfig

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 30

COLLECTING_STEPS = (
    "engine.images.collector:StoreCollector.delete",
    "engine.images.collector:StoreCollector._move_unknown_layers",
    "engine.images.collector:StoreCollector._remove_blobs",
    "engine.store.blobs:BlobStore.remove",
    "engine.store.blobs:BlobStore.remove 2",
    "engine.images.removal:ImageRemoval._tell_deleted",
    "engine.store.staging:StagingArea._drop",
)
ADDING_STEPS = (
    "engine.store.claims:ClaimRecords.claim_layers",
    "engine.images.catalog:StoreCatalog._with_directory",
    "engine.images.catalog:StoreCatalog.publish",
    "engine.images.mending:LayerMender.place",
    "engine.images.mending:LayerMender.place 2",
    "engine.images.catalog:StoreCatalog._add_blobs",
    "engine.store.blobs:BlobStore.adopt 2",
    "engine.images.catalog:StoreCatalog._record_of",
    "engine.store.image_records:ImageRecords.insert",
    "engine.images.catalog:StoreCatalog._tell",
    "engine.images.catalog:StoreCatalog.release",
    "engine.store.staging:StagingArea._drop",
)

# Does one thing, or (`for ever`) the same again and again; is killed as it comes to a step.
_APPLICATION = """
import asyncio, contextvars, importlib, os, signal, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.types import ImportRequest, PruneFilter

root, run, step, what, archive = sys.argv[1:]
# What the engine does of itself in the background comes to the same steps.
is_acting = contextvars.ContextVar("is_acting", default=False)

def break_at(step):
    place, _, count = step.partition(" ")
    module_name, _, path = place.partition(":")
    holder = importlib.import_module(module_name)
    *owners, name = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    work, left = getattr(holder, name), [int(count or 1)]
    def broken(*arguments, **options):
        left[0] -= is_acting.get()
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **options)
    setattr(holder, name, broken)

async def act(engine):
    is_acting.set(True)
    if what == "load":
        await engine.load_images(Path(archive))
    elif what == "rmi":
        await engine.remove_image("web:1")
    elif what == "pull":
        await engine.pull_image(archive)
    elif what == "repair":
        await engine.check_store(repairs=True)
    elif what == "save":
        await engine.save_images(["web:1", "web:2"], Path(archive))
    elif what == "import":
        await engine.import_image(Path(archive), ImportRequest(name="mine"))
    else:
        await engine.prune_images(PruneFilter(), includes_named=True)

async def main():
    async with Engine.open(EngineConfig(root=Path(root), run=Path(run))) as engine:
        if step != "for ever":
            break_at(step)
            await act(engine)
            return
        print("ready", flush=True)
        while True:
            await act(engine)

asyncio.run(main())
"""


def layer(*paths: str) -> MadeLayer:
    entries = tuple(
        TarEntry(path=path, mode=stat.S_IFREG | 0o644, content=path.encode() * 1000)
        for path in paths
    )
    return MadeLayer(created_by=f"COPY {' '.join(paths)}", entries=entries)


BASE, ONE, TWO = layer("base"), layer("one", "more"), layer("two")


def layout_of(directory: Path, **images: tuple[MadeLayer, ...]) -> Path:
    config = ConfigSection(cmd=("/none",))
    write_layout(
        directory,
        [
            MadeImage(name=name.replace("_", ":"), layers=layers, config=config)
            for name, layers in images.items()
        ],
    )
    return directory


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two images that share their lowest layer."""
    return layout_of(tmp_path / "both", web_1=(BASE, ONE), web_2=(BASE, TWO))


def command(config: EngineConfig, step: str, what: str, archive: Path | str) -> tuple[str, ...]:
    return (
        sys.executable, "-c", _APPLICATION, str(config.root), str(config.run), step, what,
        str(archive),
    )  # fmt: skip


def begun(words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE)


def names_in(directory: Path) -> set[str]:
    return set(os.listdir(directory)) - {".gate"} if directory.is_dir() else set()


async def require_whole(engine: Engine, config: EngineConfig) -> None:
    """Sweep as every start does, and verify that nothing is wrong and nothing left over."""
    await engine._services.staging.sweep()
    await engine._images.sweep()
    check = await engine.check_store()
    assert check.problems == ()
    assert len(names_in(config.layers_directory)) == check.layer_count
    assert len(names_in(config.blobs_directory / "sha256")) == check.blob_count
    async with asyncio.timeout(30):
        # The engine's own sweep may be at work beside, with what this one would have taken.
        while names_in(config.staging_directory):
            await engine._services.staging.sweep()


async def image_names(engine: Engine) -> set[str]:
    return {name for image in await engine.list_images() for name in image.names}


async def killed(config: EngineConfig, step: str, what: str, archive: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        command(config, step, what, archive),
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize("what", ["rmi", "prune"])
@pytest.mark.parametrize("step", COLLECTING_STEPS)
async def test_a_removal_that_is_killed_leaves_the_image_or_nothing_of_it(
    config: EngineConfig, archive: Path, step: str, what: str
) -> None:
    async with Engine.open(config) as engine:
        await engine.load_images(archive)
    await killed(config, step, what, archive)
    async with Engine.open(config) as engine:
        await require_whole(engine, config)
        others = {"web:2"} if what == "rmi" else set()
        is_decided = step != COLLECTING_STEPS[0]
        assert await image_names(engine) == (others if is_decided else {"web:1", "web:2"})
        await engine.load_images(archive)
        await require_whole(engine, config)
        await engine.prune_images(PruneFilter(), includes_named=True)
        assert await engine.list_images() == ()
        await require_whole(engine, config)
        assert names_in(config.layers_directory) == set()


@pytest.mark.parametrize("step", ADDING_STEPS)
async def test_a_load_that_is_killed_leaves_whole_images_or_none(
    config: EngineConfig, archive: Path, tmp_path: Path, step: str
) -> None:
    async with Engine.open(config) as engine:
        await engine.load_images(layout_of(tmp_path / "one", web_0=(BASE,)))
    await killed(config, step, "load", archive)
    async with Engine.open(config) as engine:
        await require_whole(engine, config)
        assert "web:0" in await image_names(engine)
        await engine.load_images(archive)
        await require_whole(engine, config)
        assert await image_names(engine) == {"web:0", "web:1", "web:2"}
        # The dead load's claims hold nothing any more.
        await engine.prune_images(PruneFilter(), includes_named=True)
        assert names_in(config.layers_directory) == set()


@pytest.fixture
def seeds() -> Iterator[random.Random]:
    return random.Random(4)


async def test_loads_and_prunes_at_once_that_are_killed_at_random_moments(
    config: EngineConfig, archive: Path, tmp_path: Path, seeds: random.Random
) -> None:
    other = layout_of(tmp_path / "other", web_3=(BASE, ONE, TWO))
    kinds = (("load", archive), ("load", other), ("prune", archive))
    for _round in range(8):
        processes = [begun(command(config, "for ever", what, source)) for what, source in kinds]
        try:
            for process in processes:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
            seeds.shuffle(processes)
            for process in processes:
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, seeds.uniform(0.05, 0.5))
                process.kill()
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        async with Engine.open(config) as engine:
            await require_whole(engine, config)
            for name in await image_names(engine):
                details = await engine.inspect_image(name)
                assert (await engine.list_layer_files(name, len(details.layers) - 1)).entries


async def test_who_removes_does_not_wait_for_a_load_nor_take_what_it_counts_on(
    config: EngineConfig, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_unpacking, may_unpack = asyncio.Event(), asyncio.Event()
    run_job = Supervisor.run_job

    async def held_up(self: Supervisor, job: str, *arguments: object, **options: object) -> bytes:
        if job == "unpack-archive":
            is_unpacking.set()
            await may_unpack.wait()
        return await run_job(self, job, *arguments, **options)  # type: ignore[arg-type]

    async with Engine.open(config) as loader, Engine.open(config) as remover:
        await loader.load_images(layout_of(tmp_path / "one", web_0=(BASE,)))
        (base,) = names_in(config.layers_directory)
        monkeypatch.setattr(Supervisor, "run_job", held_up)
        loading = asyncio.create_task(loader.load_images(archive))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await is_unpacking.wait()
            assert {image.names for image in await loader.list_images()} == {("web:0",)}
            removed = await remover.remove_image("web:0")
            await remover.prune_images(PruneFilter(), includes_named=True)
            await loader.prune_images(PruneFilter(), includes_named=True)
        # Removed, but its layer is what the load stands on.
        assert len(removed.deleted) == 1
        assert names_in(config.layers_directory) == {base}
        may_unpack.set()
        await loading
        assert await image_names(remover) == {"web:1", "web:2"}
        await require_whole(remover, config)
        await loader.prune_images(PruneFilter(), includes_named=True)
        assert names_in(config.layers_directory) == set()
