"""Names of images: the real engine and the one of memory."""

import pytest

from engine.errors import ImageNotFoundError, InvalidReferenceError


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
