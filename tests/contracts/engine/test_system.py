"""What every engine tells of itself: events of the past and of now, what can be cleaned up."""

import asyncio
import time

import pytest

from engine.types import ContainerRequest

DEADLINE_SECONDS = 30


@pytest.fixture
async def image(any_engine):
    return (await any_engine.make_starter_image()).image_id


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
