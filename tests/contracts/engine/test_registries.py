"""What every engine makes of registries: the real one and the one of memory."""

import pytest

from engine.errors import (
    FileNotInLayerError,
    ImageForPlatformNotFoundError,
    ImageNotFoundError,
    InvalidReferenceError,
    RemoteImageNotFoundError,
)
from engine.types import TransferStatus
from tests.fakes import FakeEngine
from tests.registries import push_files, run_registry


@pytest.fixture
def address(any_engine, tmp_path):
    """A registry with `tiny:1`, of two layers."""
    if isinstance(any_engine, FakeEngine):
        any_engine.remote_names.add("localhost:5000/tiny:1")
        yield "localhost:5000"
        return
    with run_registry(tmp_path / "registry") as registry:
        push_files(f"{registry.address}/tiny:1", {"one": b"1"}, {"two": b"2"})
        yield registry.address


async def test_a_pull_brings_an_image_under_its_name(any_engine, address):
    told = []
    pulled = await any_engine.pull_image(f"{address}/tiny:1", progress=told.append)
    assert pulled.is_new
    assert pulled.name == f"{address}/tiny:1"
    (image,) = await any_engine.list_images()
    assert image.image_id == pulled.image_id
    assert image.names == (pulled.name,)
    digests = dict.fromkeys(transfer.digest for transfer in told)
    assert len(digests) == 2
    for digest in digests:
        statuses = [transfer.status for transfer in told if transfer.digest == digest]
        assert statuses[0] is TransferStatus.WAITING
        assert statuses[-1] is TransferStatus.DONE


async def test_a_second_pull_says_that_everything_is_here(any_engine, address):
    first = await any_engine.pull_image(f"{address}/tiny:1")
    told = []
    second = await any_engine.pull_image(f"{address}/tiny:1", progress=told.append)
    assert not second.is_new
    assert second.image_id == first.image_id
    assert [transfer.status for transfer in told] == [TransferStatus.EXISTS] * 2


async def test_a_name_that_is_not_there_is_said(any_engine, address):
    with pytest.raises(RemoteImageNotFoundError, match=f"manifest for {address}/tiny:2 not found"):
        await any_engine.pull_image(f"{address}/tiny:2")


async def test_what_is_no_name_is_asked_of_nobody(any_engine):
    with pytest.raises(InvalidReferenceError):
        await any_engine.pull_image("localhost:5000/Tiny")


async def test_what_was_pushed_can_be_pulled(any_engine, address):
    pulled = await any_engine.pull_image(f"{address}/tiny:1")
    await any_engine.tag_image(pulled.name, f"{address}/other:2")
    told = []
    pushed = await any_engine.push_image(f"{address}/other:2", progress=told.append)
    assert pushed.name == f"{address}/other:2"
    assert pushed.digest == pulled.digest
    assert told[0].status is TransferStatus.PREPARING
    assert told[-1].status in {TransferStatus.PUSHED, TransferStatus.MOUNTED}
    again = await any_engine.pull_image(f"{address}/other:2")
    assert again.image_id == pulled.image_id


async def test_a_second_push_sends_nothing(any_engine, address):
    pulled = await any_engine.pull_image(f"{address}/tiny:1")
    told = []
    await any_engine.push_image(pulled.name, progress=told.append)
    last = {transfer.digest: transfer.status for transfer in told}
    assert list(last.values()) == [TransferStatus.PRESENT] * 2


async def test_what_is_not_here_cannot_be_pushed(any_engine):
    with pytest.raises(ImageNotFoundError, match="No such image: localhost:5000/none:latest"):
        await any_engine.push_image("localhost:5000/none")
    with pytest.raises(InvalidReferenceError, match="cannot push a digest reference"):
        await any_engine.push_image(f"localhost:5000/none@sha256:{'0' * 64}")


async def test_a_look_at_an_image_shows_its_layers_and_brings_none(any_engine, address):
    seen = await any_engine.peek_image(f"{address}/tiny:1")
    assert seen.name == f"{address}/tiny:1"
    assert seen.platform.startswith("linux/")
    assert seen.config.command == ("/none",)
    assert [layer.is_present for layer in seen.layers] == [False, False]
    assert seen.size_bytes == sum(layer.size_bytes for layer in seen.layers) > 0
    assert await any_engine.list_images() == ()
    await any_engine.pull_image(seen.name)
    again = await any_engine.peek_image(seen.name)
    assert [layer.is_present for layer in again.layers] == [True, True]


async def test_the_files_of_a_layer_are_listed_without_the_image(any_engine, address):
    for position, path in enumerate(("one", "two")):
        tree = await any_engine.list_remote_layer_files(f"{address}/tiny:1", position)
        assert [(entry.path, entry.size_bytes) for entry in tree.entries] == [(path, 1)]
    assert await any_engine.list_images() == ()
    with pytest.raises(ImageNotFoundError):
        await any_engine.list_remote_layer_files(f"{address}/tiny:1", 2)
    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.peek_image(f"{address}/tiny:2")


async def test_a_file_of_a_layer_is_read_without_the_image(any_engine, address):
    name = f"{address}/tiny:1"
    for position, path in enumerate(("one", "/two")):
        file = await any_engine.read_remote_file(name, position, path)
        assert (file.path, file.size_bytes, file.content) == (
            path.strip("/"),
            1,
            str(position + 1).encode(),
        )
        assert file.is_complete
    assert await any_engine.list_images() == ()
    with pytest.raises(FileNotInLayerError, match=r"Could not find the file two in .* \(step 0\)"):
        await any_engine.read_remote_file(name, 0, "two")
    with pytest.raises(ImageNotFoundError):
        await any_engine.read_remote_file(name, 2, "two")
    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.read_remote_file(f"{address}/tiny:2", 0, "one")


async def test_an_image_for_another_platform_is_not_pushed(any_engine, address):
    pulled = await any_engine.pull_image(f"{address}/tiny:1")
    await any_engine.tag_image(pulled.name, f"{address}/other:1")
    with pytest.raises(ImageForPlatformNotFoundError, match=r"specified platform \(linux/s390x\)"):
        await any_engine.push_image(f"{address}/other:1", platform="linux/s390x")
    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.peek_image(f"{address}/other:1")
    details = await any_engine.inspect_image(pulled.name)
    own = f"{details.operating_system}/{details.architecture}"
    await any_engine.push_image(f"{address}/other:1", platform=own)
    seen = await any_engine.peek_image(f"{address}/other:1")
    assert seen.platforms == (own,)
