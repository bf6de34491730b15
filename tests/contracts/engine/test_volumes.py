"""What every engine does with volumes: the real one and the one of memory."""

import pytest

from engine.errors import InvalidInputError, VolumeNotFoundError


async def names(engine):
    return [one.name for one in await engine.list_volumes()]


async def test_a_volume_is_made_listed_and_removed(any_engine):
    made = await any_engine.create_volume("files", labels=(("use", "test"),))
    assert (made.name, made.labels, made.is_anonymous) == ("files", (("use", "test"),), False)
    assert made.mount_point.endswith("volumes/files/_data")
    assert await any_engine.list_volumes() == (made,)
    assert await any_engine.inspect_volume("files") == made
    assert await any_engine.measure_volume("files") == 0
    await any_engine.remove_volume("files")
    assert await any_engine.list_volumes() == ()


async def test_one_that_is_there_is_left_as_it_is(any_engine):
    first = await any_engine.create_volume("files", labels=(("use", "first"),))
    assert await any_engine.create_volume("files", labels=(("use", "second"),)) == first


async def test_one_without_a_name_is_anonymous(any_engine):
    made = await any_engine.create_volume()
    assert len(made.name) == 64
    assert made.is_anonymous
    assert dict(made.labels) == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize("name", ["x", "../up", "a/b", ".hidden", "with space", "é" * 3])
async def test_what_cannot_be_a_name_is_refused(any_engine, name):
    with pytest.raises(InvalidInputError, match="create "):
        await any_engine.create_volume(name)
    assert await any_engine.list_volumes() == ()


async def test_what_is_not_there_is_said_by_its_name(any_engine):
    for call in (
        any_engine.inspect_volume,
        any_engine.measure_volume,
        any_engine.remove_volume,
    ):
        with pytest.raises(VolumeNotFoundError, match="get nothing-here: no such volume"):
            await call("nothing-here")
    await any_engine.remove_volume("nothing-here", is_forced=True)


async def test_prune_removes_what_nobody_uses_and_spares_names_unless_told(any_engine):
    await any_engine.create_volume("named", labels=(("keep", "no"),))
    await any_engine.create_volume("kept", labels=(("keep", "yes"),))
    anonymous = (await any_engine.create_volume()).name
    assert (await any_engine.prune_volumes()).names == (anonymous,)
    pruned = await any_engine.prune_volumes(includes_named=True, label_filters=("!keep=yes",))
    assert pruned.names == ("named",)
    assert await names(any_engine) == ["kept"]


async def test_subscribers_hear_of_it(any_engine):
    with any_engine.subscribe() as events:
        await any_engine.create_volume("files")
        await any_engine.remove_volume("files")
        await any_engine.prune_volumes()
        heard = []
        async for event in events:
            heard.append((event.subject, event.action, event.subject_id))
            if event.action == "prune":
                break
    assert heard == [
        ("volume", "create", "files"),
        ("volume", "destroy", "files"),
        ("volume", "prune", ""),
    ]
