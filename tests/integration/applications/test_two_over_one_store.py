"""Two engines, and the command line, over one store: each learns what the others do by itself."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from engine.events import Event
from engine.types import ContainerRequest, ContainerStatus
from tests.accounts import can_pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from engine.api import EngineApi
    from engine.events import EventSubscription
    from engine.types import ContainerSummary, LoadedImage
    from tests.conftest import StorePaths

    Step = tuple[str, Callable[[EngineApi], Awaitable[object]], ContainerStatus]

DEADLINE_SECONDS = 20.0
SLEEPS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
async def other(
    store_paths: StorePaths, engine: EngineApi, starter_image: LoadedImage
) -> AsyncIterator[EngineApi]:
    async with open_engine(root=store_paths.root, run=store_paths.run) as opened:
        yield opened


async def seen(subscription: EventSubscription, action: str, name: str) -> Event:
    """Wait for an event, passing over those that belong to the change before."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for event in subscription:
            if isinstance(event, Event) and (event.action, event.name) == (action, name):
                return event
    raise AssertionError("the engine was closed")


async def find(engine: EngineApi, name: str) -> ContainerSummary | None:
    return next((row for row in await engine.list_containers() if row.name == name), None)


async def test_each_engine_sees_what_the_other_does_to_containers(
    engine: EngineApi, other: EngineApi
) -> None:
    await engine.create_container(
        ContainerRequest(image="starter:latest", name="web", command=SLEEPS)
    )
    freezing: tuple[Step, ...] = (
        ("pause", lambda one: one.pause_container("web"), ContainerStatus.PAUSED),
        ("unpause", lambda one: one.unpause_container("web"), ContainerStatus.RUNNING),
    )
    steps: tuple[Step, ...] = (
        ("start", lambda one: one.start_container("web"), ContainerStatus.RUNNING),
        *(freezing if can_pause(engine) else ()),
        ("die", lambda one: one.stop_container("web"), ContainerStatus.EXITED),
    )
    for actor, watcher in ((engine, other), (other, engine)):
        for action, act, status in steps:
            with watcher.subscribe() as events:
                await act(actor)
                await seen(events, action, "web")
            found = await find(watcher, "web")
            assert found is not None
            assert found.status is status


async def test_a_rename_and_a_removal_reach_the_other_engine(
    engine: EngineApi, other: EngineApi
) -> None:
    with other.subscribe() as events:
        await engine.create_container(ContainerRequest(image="starter:latest", name="old"))
        await seen(events, "create", "old")
        assert await find(other, "old") is not None
        await engine.rename_container("old", "new")
        await seen(events, "rename", "new")
        assert await find(other, "old") is None
        assert await find(other, "new") is not None
        await engine.remove_container("new")
        await seen(events, "destroy", "new")
    assert await find(other, "new") is None


async def test_a_tag_and_its_removal_reach_the_other_engine(
    engine: EngineApi, other: EngineApi
) -> None:
    with other.subscribe() as events:
        await engine.tag_image("starter:latest", "mine:1")
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for event in events:
                if isinstance(event, Event) and event.action == "tag":
                    break
    assert any("mine:1" in image.names for image in await other.list_images())
    with other.subscribe() as events:
        await engine.remove_image("mine:1")
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for event in events:
                if isinstance(event, Event) and event.action == "untag":
                    break
    assert not any("mine:1" in image.names for image in await other.list_images())


async def test_the_command_line_is_seen_too(
    engine: EngineApi, starter_image: LoadedImage, store_paths: StorePaths
) -> None:
    with engine.subscribe() as events:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tui", *store_paths.options),
            *("run", "-d", "--name", "cli", "starter:latest", *SLEEPS),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await seen(events, "start", "cli")
            found = await find(engine, "cli")
            assert found is not None
            assert found.status is ContainerStatus.RUNNING
        finally:
            assert await process.wait() == 0
