"""What every engine tells of itself: events of the past and of now, what can be cleaned up."""

import asyncio
import time

import pytest

from engine.types import ContainerRequest, PruneFilter

DEADLINE_SECONDS = 30


@pytest.fixture
async def image(any_engine, image):
    return (await any_engine.inspect_image(image)).summary.image_id


async def happened(engine, **times):
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [
            (event.subject.value, event.action, event.name)
            async for batch in engine.follow_events(**times)
            for event in batch
        ]


async def test_events_of_the_past_are_given_up_to_a_time(any_engine, image):
    begun_ns = time.time_ns()
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    await any_engine.rename_container("web", "front")
    between_ns = time.time_ns()
    await any_engine.remove_container("front")
    told = await happened(any_engine, since_ns=begun_ns, until_ns=between_ns)
    assert told == [("container", "create", "web"), ("container", "rename", "front")]
    assert ("image", "load", "starter:latest") in await happened(any_engine, until_ns=begun_ns)


async def test_events_go_on_from_the_past_to_the_present(any_engine, image):
    begun_ns = time.time_ns()
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    batches = any_engine.follow_events(since_ns=begun_ns)
    async with asyncio.timeout(DEADLINE_SECONDS):
        (first,) = await anext(batches)
        await any_engine.remove_container("web")
        (second,) = await anext(batches)
    await batches.aclose()
    assert [first.action, second.action] == ["create", "destroy"]


async def test_an_event_of_a_container_has_its_labels_and_its_image(any_engine, image):
    begun_ns = time.time_ns()
    request = ContainerRequest(image=image, name="web", labels=(("team", "blue"),))
    await any_engine.create_container(request)
    await any_engine.remove_container("web")
    batches = any_engine.follow_events(since_ns=begun_ns, until_ns=time.time_ns())
    events = [event async for batch in batches for event in batch]
    assert [event.attribute("team") for event in events] == ["blue", "blue"]


async def test_a_prune_of_containers_takes_what_does_not_run_and_what_the_filter_means(
    any_engine, image
):
    for name, team in (("old", "blue"), ("kept", "red"), ("busy", "blue")):
        labels = (("team", team),)
        command = ("sleep", "1000")
        request = ContainerRequest(image=image, name=name, labels=labels, command=command)
        await any_engine.create_container(request)
    await any_engine.start_container("busy")
    wanted = PruneFilter(label_filters=("team=blue",))
    pruned = await any_engine.prune_containers(wanted)
    assert len(pruned.container_ids) == 1
    assert sorted(one.name for one in await any_engine.list_containers()) == ["busy", "kept"]
    nothing = await any_engine.prune_containers(PruneFilter(created_before=1.0))
    assert nothing.container_ids == ()
    await any_engine.prune_containers(PruneFilter(label_filters=("!team=red",)))
    assert sorted(one.name for one in await any_engine.list_containers()) == ["busy", "kept"]
    await any_engine.prune_containers(PruneFilter())
    assert [one.name for one in await any_engine.list_containers()] == ["busy"]
    await any_engine.remove_container("busy", is_forced=True)


async def test_a_prune_of_images_leaves_those_that_a_container_has(any_engine, image):
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    assert (await any_engine.prune_images(PruneFilter(), includes_named=True)).deleted == ()
    await any_engine.prune_containers(PruneFilter())
    assert (await any_engine.prune_images(PruneFilter())).deleted == ()
    mistaken = PruneFilter(label_filters=("no-such-label",))
    assert (await any_engine.prune_images(mistaken, includes_named=True)).deleted == ()
    pruned = await any_engine.prune_images(PruneFilter(), includes_named=True)
    assert pruned.untagged == ("starter:latest",)
    assert pruned.deleted[0] == image
    assert pruned.freed_bytes > 0
    assert await any_engine.list_images() == ()


async def test_the_details_of_the_disk_usage_name_everything_and_what_nobody_needs(
    any_engine, image
):
    usage = await any_engine.disk_usage_details()
    assert [one.image.image_id for one in usage.images] == [image]
    assert usage.unused_layers_bytes == usage.layers_bytes > 0
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    await any_engine.create_volume("data")
    usage = await any_engine.disk_usage_details()
    assert usage.unused_layers_bytes == 0
    assert [one.container.name for one in usage.containers] == ["web"]
    assert [one.volume.name for one in usage.volumes] == ["data"]
    await any_engine.remove_container("web")
    await any_engine.remove_volume("data")


async def test_a_check_of_a_whole_store_counts_what_it_looked_at_and_finds_nothing(
    any_engine, image
):
    steps = []
    check = await any_engine.check_store(progress=lambda progress: steps.append(progress.step))
    assert check.problems == ()
    assert check.is_whole
    assert check.image_count == 1
    assert check.layer_count == (await any_engine.inspect_image(image)).summary.layer_count
    assert check.blob_count == 2
    assert check.read_bytes > 0
    assert any(step.startswith("Verifying layer") for step in steps)
    assert (await any_engine.check_store(repairs=True)).problems == ()
