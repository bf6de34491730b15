"""What a container needs of its image stays as long as the container does."""

import asyncio

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.errors import ImageInUseError, ImageNotFoundError
from engine.store import locks
from engine.types import ContainerRequest

IMAGE = "starter:latest"


@pytest.fixture
def config(store_paths):
    return EngineConfig(root=store_paths.root, run=store_paths.run)


def layer_names(config):
    return {entry.name for entry in config.layers_directory.iterdir()}


@pytest.fixture
def waiting_for_a_lock(monkeypatch):
    """Set as soon as anybody has to wait for a lock."""
    waiting = asyncio.Event()
    wait_for_done = locks._LockWait.__init__

    def note(self, descriptor, *, is_shared):
        wait_for_done(self, descriptor, is_shared=is_shared)
        waiting.set()

    monkeypatch.setattr(locks._LockWait, "__init__", note)
    return waiting


async def test_an_image_is_not_removed_under_a_container_that_is_being_made(
    engine, starter_image, config, monkeypatch, waiting_for_a_lock
):
    removals = []
    async with Engine.open(config) as other:
        prepare = engine._services.rootfs.prepare

        async def prepare_while_the_image_is_removed(record, directory):
            removing = asyncio.create_task(other.remove_image(IMAGE))
            removals.append(removing)
            await asyncio.wait(
                {removing, asyncio.create_task(waiting_for_a_lock.wait())},
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert not removing.done()
            await prepare(record, directory)

        monkeypatch.setattr(engine._services.rootfs, "prepare", prepare_while_the_image_is_removed)
        await engine.create_container(ContainerRequest(image=IMAGE, name="web", command=("true",)))
        with pytest.raises(ImageInUseError, match="web"):
            await removals[0]
    await engine.start_container("web")
    assert (await engine.wait_container("web")).exit_code == 0


async def test_a_container_that_is_not_made_lets_go_of_the_image(
    engine, starter_image, monkeypatch
):
    async def fail(record, directory):
        raise ImageNotFoundError("broken on purpose")

    monkeypatch.setattr(engine._services.rootfs, "prepare", fail)
    with pytest.raises(ImageNotFoundError):
        await engine.create_container(ContainerRequest(image=IMAGE, name="web"))
    assert (await engine.remove_image(IMAGE)).deleted


async def test_a_removed_image_leaves_a_stopped_container_its_layers(engine, starter_image, config):
    command = ("sh", "-c", "cat /added && exit; echo kept > /added; exit 1")
    await engine.create_container(ContainerRequest(image=IMAGE, name="web", command=command))
    await engine.start_container("web")
    assert (await engine.wait_container("web")).exit_code == 1
    before = layer_names(config)
    removed = await engine.remove_image(starter_image.image_id, is_forced=True)
    assert removed.deleted == (starter_image.image_id,)
    assert await engine.list_images() == ()
    assert layer_names(config) == before

    await engine.start_container("web")
    assert (await engine.wait_container("web")).exit_code == 0
    lines = [line.text async for batch in engine.follow_logs("web", tail=1) for line in batch]
    assert lines == [b"kept"]
    assert [change.path for change in await engine.list_changes("web")] == ["added"]
