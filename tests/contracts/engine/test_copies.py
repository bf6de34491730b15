"""What every engine makes of its containers: the real one and the one of memory."""

import asyncio
import contextlib

import pytest

from engine.errors import ContainerNotFoundError, InvalidInputError, InvalidReferenceError
from engine.types import CommitRequest, ContainerRequest, ContainerStatus

IMAGE = "starter:latest"
WRITES = ("sh", "-c", "echo x > /tmp/new; while :; do sleep 1; done")


async def changed_paths(engine):
    return [change.path for change in await engine.list_changes("web")]


@pytest.fixture
async def container(any_engine):
    await any_engine.make_starter_image()
    created = await any_engine.create_container(
        ContainerRequest(image=IMAGE, name="web", command=WRITES)
    )
    await any_engine.start_container("web")
    # Nothing tells of a file.
    while "tmp/new" not in await changed_paths(any_engine):  # noqa: ASYNC110
        await asyncio.sleep(0)
    yield created
    with contextlib.suppress(ContainerNotFoundError):
        await any_engine.remove_container("web", is_forced=True)


async def test_a_commit_puts_one_layer_on_those_of_the_image(any_engine, container):
    before = await any_engine.inspect_image(IMAGE)
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
