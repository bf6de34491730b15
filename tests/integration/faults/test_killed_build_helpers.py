"""What builds have ahead of time is killed while it waits: the build goes on with another."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.types import BuildOutput, BuildRequest
from tests.integration.faults.conftest import children_named
from tests.processes import ended

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildEvent

pytestmark = pytest.mark.usefixtures("starter_image")

DEADLINE_SECONDS = 60
TWO_STEPS = b"FROM starter:latest\nRUN echo ready; sleep 1000; echo one > /one\nRUN echo two > /two"
ONE_FILE = b"FROM starter:latest\nRUN echo one > /one"


def launcher_of(engine: EngineApi) -> int:
    return engine._supervisor.launcher_process_id  # type: ignore[attr-defined]


async def one_named(parent: int, name: str) -> int:
    """Wait for a process's only child of that name."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found := children_named(parent, name)) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return found.pop()


async def test_the_first_process_of_the_next_step_is_killed_while_it_waits(
    engine: EngineApi,
) -> None:
    runs = asyncio.Event()

    def listen(event: BuildEvent) -> None:
        if isinstance(event, BuildOutput):
            runs.set()

    request = BuildRequest(dockerfile_content=TWO_STEPS, names=("made",), network="none")
    building = asyncio.create_task(engine.build_image(request, listener=listen))
    await runs.wait()
    lane = await one_named(launcher_of(engine), "lamella-lane")
    # The program has its own name by now, so it is the one that waits.
    waiting = await one_named(lane, "lamella-lane")
    os.kill(waiting, signal.SIGKILL)
    await ended(waiting)
    (sleeping,) = (
        child for child in psutil.Process(lane).children(recursive=True) if child.name() == "sleep"
    )
    sleeping.kill()
    await asyncio.wait_for(building, DEADLINE_SECONDS)

    newest = (await engine.inspect_image("made")).layers[-1]
    tree = await engine.list_layer_files("made", newest.position)
    assert [one.path for one in tree.entries if one.change.value == "added"] == ["two"]


async def test_builds_take_turns_with_the_process_that_makes_layers(engine: EngineApi) -> None:
    request = BuildRequest(
        dockerfile_content=ONE_FILE, names=("made",), network="none", uses_cache=False
    )
    made = (await engine.build_image(request)).image_id
    first = await one_named(launcher_of(engine), "lamella-worker")
    await engine.build_image(request)
    assert await one_named(launcher_of(engine), "lamella-worker") == first

    os.kill(first, signal.SIGKILL)
    await ended(first)

    assert (await engine.build_image(request)).image_id == made
    assert await one_named(launcher_of(engine), "lamella-worker") != first
