"""What every engine makes of its containers: the real one and the one of memory."""

import asyncio
import contextlib
import io
import os
import tarfile

import pytest

from engine.errors import (
    ContainerNotFoundError,
    CopyRefusedError,
    FileNotInContainerError,
    FileNotInLayerError,
    InvalidInputError,
    InvalidReferenceError,
)
from engine.types import CommitRequest, ContainerRequest, ContainerStatus

WRITES = ("sh", "-c", "echo x > /tmp/new; while :; do sleep 1; done")


async def changed_paths(engine):
    return [change.path for change in await engine.list_changes("web")]


@pytest.fixture
async def container(any_engine, image):
    created = await any_engine.create_container(
        ContainerRequest(image=image, name="web", command=WRITES)
    )
    await any_engine.start_container("web")
    # Nothing tells of a file.
    while "tmp/new" not in await changed_paths(any_engine):  # noqa: ASYNC110
        await asyncio.sleep(0)
    yield created
    with contextlib.suppress(ContainerNotFoundError):
        await any_engine.remove_container("web", is_forced=True)


async def test_a_commit_puts_one_layer_on_those_of_the_image(any_engine, container, image):
    before = await any_engine.inspect_image(image)
    steps = []
    made = await any_engine.commit_container(
        "web",
        CommitRequest(name="mine", author="Ada", message="a file more"),
        progress=steps.append,
    )
    after = await any_engine.inspect_image("mine:latest")
    assert made.name == "mine:latest"
    assert after.summary.image_id == made.image_id
    assert after.summary.names == ("mine:latest",)
    assert after.layers[:-1] != ()
    assert [layer.diff_id for layer in after.layers[:-1]] == [
        layer.diff_id for layer in before.layers
    ]
    assert after.layers[-1].comment == "a file more"
    assert not after.layers[-1].is_empty
    assert after.layers[-1].size_bytes == made.size_bytes
    assert after.author == "Ada"
    assert steps != []
    tree = await any_engine.list_layer_files("mine:latest", len(after.layers) - 1)
    assert "tmp/new" in [entry.path for entry in tree.entries]


async def test_a_commit_leaves_the_container_as_it_was(any_engine, container):
    before = await any_engine.inspect_container("web")
    await any_engine.commit_container("web", CommitRequest())
    after = await any_engine.inspect_container("web")
    assert after == before
    assert after.summary.status is not ContainerStatus.PAUSED


async def test_a_name_moves_to_the_newest_commit(any_engine, container):
    first = await any_engine.commit_container("web", CommitRequest(name="mine:1"))
    second = await any_engine.commit_container("web", CommitRequest(name="mine:1", message="2"))
    assert (await any_engine.inspect_image("mine:1")).summary.image_id == second.image_id
    assert (await any_engine.inspect_image(first.image_id)).summary.names == ()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (CommitRequest(name="Not A Name"), InvalidReferenceError),
        (CommitRequest(changes=("RUN true",)), InvalidInputError),
        (CommitRequest(changes=("EXPOSE many",)), InvalidInputError),
    ],
)
async def test_a_commit_that_makes_no_sense_makes_no_image(any_engine, container, request_, error):
    before = await any_engine.list_images()
    with pytest.raises(error):
        await any_engine.commit_container("web", request_)
    assert await any_engine.list_images() == before


async def test_a_container_that_is_not_there_cannot_be_committed(any_engine):
    with pytest.raises(ContainerNotFoundError):
        await any_engine.commit_container("nobody", CommitRequest())


async def written(call):
    """What a call writes to the descriptor that it gets."""
    with os.fdopen(os.memfd_create("archive"), "w+b") as file:
        await call(file.fileno())
        file.seek(0)
        return file.read()


async def test_a_file_goes_into_a_container_and_comes_out_again(any_engine, container, tmp_path):
    (tmp_path / "note").write_bytes(b"hello")
    into = await any_engine.copy_to_container("web", str(tmp_path / "note"), "/tmp")
    assert (into.size_bytes, into.entry_count, into.warnings) == (5, 1, ())
    out = await any_engine.copy_from_container("web", "/tmp/note", str(tmp_path / "note"))
    assert out == into


async def test_a_path_comes_out_as_a_tar(any_engine, container):
    data = await written(lambda end: any_engine.archive_from_container("web", "/tmp/new", end))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        assert member.name == "new"
        assert archive.extractfile(member).read() == b"x\n"


async def test_a_tar_goes_in_and_is_part_of_what_is_exported(any_engine, container):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("sent")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    with os.fdopen(os.memfd_create("archive"), "w+b") as file:
        file.write(stream.getvalue())
        file.seek(0)
        await any_engine.extract_to_container("web", file.fileno(), "/tmp")
    data = await written(lambda end: any_engine.export_container("web", end))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("tmp/sent").read() == b"abc"
        assert archive.extractfile("tmp/new").read() == b"x\n"


async def test_what_is_not_there_is_not_copied(any_engine, container, tmp_path):
    with pytest.raises(FileNotInContainerError, match="Could not find the file /no in container"):
        await any_engine.copy_from_container("web", "/no", str(tmp_path))
    with pytest.raises(CopyRefusedError, match="no such file or directory"):
        await any_engine.copy_to_container("web", str(tmp_path / "no"), "/tmp")
    with pytest.raises(ContainerNotFoundError):
        await any_engine.copy_from_container("nobody", "/tmp/new", str(tmp_path))
    assert list(tmp_path.rglob("no")) == []


async def test_a_file_of_the_writable_layer_is_read(any_engine, container):
    tree = await any_engine.list_writable_files("web")
    assert "tmp/new" in [entry.path for entry in tree.entries]
    found = await any_engine.read_writable_file("web", "/tmp/new")
    assert found.path == "tmp/new"
    assert found.is_complete
    assert found.content
    with pytest.raises(FileNotInLayerError, match="not-there in the writable layer of web"):
        await any_engine.read_writable_file("web", "not-there")
    with pytest.raises(ContainerNotFoundError):
        await any_engine.read_writable_file("nobody", "tmp/new")
