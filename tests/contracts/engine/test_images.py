"""Names of images: the real engine and the one of memory."""

import pytest

from engine.errors import (
    FileNotInLayerError,
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
)
from engine.types import MAXIMUM_VIEWED_BYTES, FileKind


async def names(engine):
    return {image.image_id: set(image.names) for image in await engine.list_images()}


async def test_a_name_is_given_as_people_write_it(any_engine, image):
    image_id = (await any_engine.inspect_image(image)).summary.image_id
    for name in ("web", "docker.io/library/site", "localhost:5000/team/web:1", "web"):
        await any_engine.tag_image(image_id, name)
    assert await names(any_engine) == {
        image_id: {image, "web:latest", "site:latest", "localhost:5000/team/web:1"}
    }


async def test_a_name_of_one_of_several_can_be_taken_away(any_engine, image):
    image_id = (await any_engine.inspect_image(image)).summary.image_id
    await any_engine.tag_image(image, "web:1")
    removed = await any_engine.remove_image("web:1")
    assert (removed.untagged, removed.deleted) == (("web:1",), ())
    assert await names(any_engine) == {image_id: {image}}


async def test_what_is_no_name_is_given_to_nothing(any_engine, image):
    before = await names(any_engine)
    for name in ("Web", "a:b:c", f"web@sha256:{'0' * 64}"):
        with pytest.raises(InvalidReferenceError):
            await any_engine.tag_image(image, name)
    with pytest.raises(ImageNotFoundError):
        await any_engine.tag_image("not-there", "web")
    assert await names(any_engine) == before


async def first_file(engine, image):
    """A file of some step, that is larger than nothing and smaller than what is shown."""
    for layer in (await engine.inspect_image(image)).layers:
        for entry in (await engine.list_layer_files(image, layer.position)).entries:
            if entry.kind is FileKind.FILE and 0 < entry.size_bytes < MAXIMUM_VIEWED_BYTES:
                return layer.position, entry
    raise AssertionError("the image has no such file")


async def test_a_file_of_a_layer_is_read(any_engine, image):
    position, entry = await first_file(any_engine, image)
    for path in (entry.path, f"/{entry.path}"):
        found = await any_engine.read_layer_file(image, position, path)
        assert (found.path, found.size_bytes) == (entry.path, entry.size_bytes)
        assert found.is_complete


async def test_what_a_layer_has_not_is_said(any_engine, image):
    position, entry = await first_file(any_engine, image)
    directory = entry.path.rpartition("/")[0]
    with pytest.raises(InvalidInputError, match=f"{directory} is no file: directory"):
        await any_engine.read_layer_file(image, position, directory)
    with pytest.raises(FileNotInLayerError, match=rf"nothing/here in .* \(step {position}\)"):
        await any_engine.read_layer_file(image, position, "nothing/here")
    for number in (-1, 1000):
        with pytest.raises(ImageNotFoundError):
            await any_engine.read_layer_file(image, number, entry.path)
        with pytest.raises(ImageNotFoundError):
            await any_engine.list_layer_files(image, number)
    with pytest.raises(ImageNotFoundError):
        await any_engine.read_layer_file("not-there", 0, entry.path)
