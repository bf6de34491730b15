"""Pulls from a registry in memory: what is fetched, what is waited for, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import pytest

from engine.config import EngineConfig
from engine.containers.surroundings import prepare_surroundings
from engine.errors import (
    ArchiveError,
    DigestMismatchError,
    NoSpaceError,
    PlatformMismatchError,
    RegistryUnreachableError,
    RemoteImageNotFoundError,
)
from engine.images.library import ImageLibrary
from engine.runtime.supervisor import Supervisor
from engine.snapshots.writable import remove_tree
from engine.store.database import Database
from engine.store.staging import StagingArea
from engine.types import TransferStatus
from tests.integration.images.memory_registry import MemoryRegistry

NAME = "registry.test/web:1"


class CountingRunner:
    """Runs jobs in workers, and remembers which."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.calls: list[str] = []

    async def run_job(self, job: str, arguments: bytes, **options) -> bytes:
        self.calls.append(job)
        return await self._supervisor.run_job(job, arguments, **options)


class Puller:
    """A library over a store, and what its pulls told."""

    def __init__(
        self, library: ImageLibrary, runner: CountingRunner, registry: MemoryRegistry
    ) -> None:
        self.library = library
        self.runner = runner
        self.transfers = library.transfers(registry.connect)
        self.told: list[tuple[str, TransferStatus]] = []
        self._news = asyncio.Event()

    async def pull(self, name: str = NAME, platform: str = ""):
        return await self.transfers.pull(name, platform=platform, progress=self._note)

    def _note(self, transfer) -> None:
        said = (transfer.digest, transfer.status)
        if said not in self.told:
            self.told.append(said)
            self._news.set()

    async def until(self, digest: str, status: TransferStatus) -> None:
        """Wait until something was told of a layer."""
        while (digest, status) not in self.told:
            self._news.clear()
            await self._news.wait()

    def statuses(self, digest: str) -> list[TransferStatus]:
        return [status for told, status in self.told if told == digest]


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
async def open_puller(tmp_path, registry):
    """Open libraries over one store, as several applications have them."""
    config = EngineConfig(root=tmp_path / "store", run=tmp_path / "run")
    surroundings = await asyncio.to_thread(prepare_surroundings, config)
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> Puller:
            runner = CountingRunner(
                await stack.enter_async_context(Supervisor.open(surroundings.mapping))
            )

            async def remove(path):
                await remove_tree(runner, path)

            database = await stack.enter_async_context(await Database.open(config.database_path))
            library = ImageLibrary(
                config=config,
                database=database,
                staging=StagingArea(config.staging_directory, remove_tree=remove),
                runner=runner,
                is_rootless=surroundings.mapping is not None,
            )
            stack.callback(library.close)
            return Puller(library, runner, registry)

        yield make


@pytest.fixture
async def puller(open_puller):
    return await open_puller()


@pytest.fixture
def image(registry, tmp_path):
    """An image of three layers; returns the digests of their blobs."""
    layers = [
        registry.add_layer(tmp_path / "tar", {f"file-{number}": os.urandom(100_000)})
        for number in range(3)
    ]
    registry.add_image(NAME, layers)
    return [digest for _, digest in layers]


def files(tmp_path, directory: str) -> list[str]:
    return sorted(path.name for path in (tmp_path / "store" / directory).glob("[!.]*"))


async def test_a_pull_brings_an_image_with_its_blobs_and_leaves_nothing_else(
    puller, registry, image, tmp_path
):
    pulled = await puller.pull()
    assert pulled.is_new
    assert pulled.name == NAME
    details = await puller.library.inspect(NAME)
    assert details.summary.image_id == pulled.image_id
    assert details.digest == pulled.digest
    manifest, config = pulled.digest, pulled.image_id
    kept = {digest.removeprefix("sha256:") for digest in (manifest, config, *image)}
    assert {path.name for path in (tmp_path / "store/blobs/sha256").iterdir()} == kept
    assert len(files(tmp_path, "layers")) == 3
    assert files(tmp_path, "staging") == []
    assert files(tmp_path, "downloads") == []
    assert list((tmp_path / "run").rglob("lock")) == []
    for digest in image:
        assert puller.statuses(digest)[0] is TransferStatus.WAITING
        assert puller.statuses(digest)[-1] is TransferStatus.DONE
    assert registry.fetched == {digest: len(registry.blobs[digest]) for digest in image}


async def test_a_second_pull_moves_no_blob(puller, registry, image):
    first = await puller.pull()
    registry.fetched.clear()
    puller.told.clear()
    second = await puller.pull()
    assert not second.is_new
    assert second.image_id == first.image_id
    assert registry.fetched == {}
    assert puller.told == [(digest, TransferStatus.EXISTS) for digest in image]


async def test_layers_that_another_image_has_are_not_fetched(puller, registry, image, tmp_path):
    await puller.pull()
    registry.fetched.clear()
    base = registry.add_layer(tmp_path / "tar", {"more": b"more"})
    layers = [
        (step.diff_id, digest)
        for step, digest in zip((await puller.library.inspect(NAME)).layers, image, strict=True)
    ]
    registry.add_image("registry.test/more:1", [*layers, base])
    await puller.pull("registry.test/more:1")
    assert registry.fetched == {base[1]: len(registry.blobs[base[1]])}


async def test_an_image_is_found_by_the_digest_that_it_was_pulled_by(puller, registry, image):
    pulled = await puller.pull()
    name = f"registry.test/web@{pulled.digest}"
    registry.manifests[name] = registry.manifests[NAME]
    again = await puller.pull(name)
    assert not again.is_new
    assert (await puller.library.inspect(name)).summary.names == (NAME,)


async def test_a_tag_that_moved_leaves_the_old_image_without_a_name(
    puller, registry, image, tmp_path
):
    first = await puller.pull()
    registry.add_image(NAME, [registry.add_layer(tmp_path / "tar", {"new": b"new"})])
    second = await puller.pull()
    assert second.is_new
    assert second.image_id != first.image_id
    names = {one.image_id: one.names for one in await puller.library.list_images()}
    assert names == {first.image_id: (), second.image_id: (NAME,)}


@pytest.mark.parametrize("position", [0, 2])
async def test_a_lost_connection_loses_nothing_that_has_come(puller, registry, image, position):
    blob = image[position]
    registry.cuts[blob] = 60_000
    with pytest.raises(RegistryUnreachableError):
        await puller.pull()
    assert await puller.library.list_images() == ()
    await puller.pull()
    assert registry.fetched == {digest: len(registry.blobs[digest]) for digest in image}


async def test_a_cancelled_pull_is_gone_on_with(puller, registry, image, tmp_path):
    registry.gates[image[2]] = threading.Event()
    task = asyncio.create_task(puller.pull())
    await puller.until(image[1], TransferStatus.DONE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path, "staging") == []
    assert files(tmp_path, "layers") == []
    registry.gates[image[2]].set()
    await puller.pull()
    assert registry.fetched == {digest: len(registry.blobs[digest]) for digest in image}


async def test_a_blob_that_came_damaged_is_fetched_once_more(puller, registry, image):
    registry.damages[image[1]] = 1
    await puller.pull()
    assert registry.fetched[image[1]] == 2 * len(registry.blobs[image[1]])
    assert registry.fetched[image[0]] == len(registry.blobs[image[0]])


async def test_a_blob_that_stays_damaged_is_no_image(puller, registry, image, tmp_path):
    registry.damages[image[1]] = 10
    with pytest.raises(ArchiveError):
        await puller.pull()
    assert registry.damages[image[1]] == 8
    assert await puller.library.list_images() == ()
    assert files(tmp_path, "layers") == []
    assert image[1].removeprefix("sha256:") not in files(tmp_path, "downloads")


async def test_a_layer_other_than_the_config_says_is_no_image(puller, registry, tmp_path):
    one = registry.add_layer(tmp_path / "tar", {"one": b"one"})
    two = registry.add_layer(tmp_path / "tar", {"two": b"two"})
    registry.add_image(NAME, [(one[0], two[1])])
    with pytest.raises(DigestMismatchError):
        await puller.pull()
    # Fetched once: the blob is what the manifest says.
    assert registry.fetched[two[1]] == len(registry.blobs[two[1]])


async def test_two_pulls_of_one_image_at_once_fetch_every_layer_once(open_puller, registry, image):
    first, second = await open_puller(), await open_puller()
    pulled = await asyncio.gather(first.pull(), second.pull())
    assert pulled[0].image_id == pulled[1].image_id
    assert registry.fetched == {digest: len(registry.blobs[digest]) for digest in image}
    assert [one.names for one in await first.library.list_images()] == [(NAME,)]
    assert [*first.runner.calls, *second.runner.calls].count("unpack-stack") == 1


async def test_a_pull_that_waits_goes_on_when_the_other_one_is_cancelled(
    open_puller, registry, image
):
    first, second = await open_puller(), await open_puller()
    registry.gates[image[2]] = threading.Event()
    task = asyncio.create_task(first.pull())
    await first.until(image[1], TransferStatus.DONE)
    waiting = asyncio.create_task(second.pull())
    await second.until(image[0], TransferStatus.WAITING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    registry.gates[image[2]].set()
    assert (await waiting).is_new
    assert registry.fetched == {digest: len(registry.blobs[digest]) for digest in image}


async def test_the_same_blob_at_two_places_is_fetched_once(puller, registry, tmp_path):
    layer = registry.add_layer(tmp_path / "tar", {"file": b"x"})
    registry.add_image(NAME, [layer, layer])
    await puller.pull()
    assert registry.fetched == {layer[1]: len(registry.blobs[layer[1]])}
    assert (await puller.library.inspect(NAME)).summary.layer_count == 2


async def test_a_removal_beside_a_pull_waits_for_nothing_and_takes_nothing(
    puller, registry, image, tmp_path
):
    await puller.pull()
    layers = [
        (step.diff_id, digest)
        for step, digest in zip((await puller.library.inspect(NAME)).layers, image, strict=True)
    ]
    top = registry.add_layer(tmp_path / "tar", {"top": b"top"})
    registry.add_image("registry.test/top:1", [*layers, top])
    registry.gates[top[1]] = threading.Event()
    registry.has_begun.clear()
    task = asyncio.create_task(puller.pull("registry.test/top:1"))
    await asyncio.to_thread(registry.has_begun.wait)
    await puller.library.remove(NAME)
    registry.gates[top[1]].set()
    await task
    assert (await puller.library.inspect("registry.test/top:1")).summary.layer_count == 4
    assert len(files(tmp_path, "layers")) == 4


async def test_what_was_pulled_for_another_platform_is_refused_by_name(puller, image):
    with pytest.raises(PlatformMismatchError, match="linux/s390x was asked for"):
        await puller.pull(platform="linux/s390x")


async def test_a_name_that_the_registry_does_not_have_is_said(puller):
    with pytest.raises(RemoteImageNotFoundError, match=r"manifest for registry\.test/none:1 not"):
        await puller.pull("registry.test/none:1")


async def test_an_image_that_cannot_fit_is_refused_before_anything_is_fetched(
    puller, registry, image
):
    manifest = registry.manifests[NAME]
    size = str(len(registry.blobs[image[2]])).encode()
    registry.manifests[NAME] = manifest.replace(b'"size":' + size, b'"size":' + b"9" * 17)
    with pytest.raises(NoSpaceError):
        await puller.pull()
    assert registry.fetched == {}
