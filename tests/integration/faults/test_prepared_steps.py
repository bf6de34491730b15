"""What builds have ahead of time is lost, or of no use any more: the build goes on with another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.errors import BuildStepError
from engine.types import BuildChanged, BuildOutput, BuildRequest, BuildStepState
from tests.integration.faults.conftest import children_named
from tests.processes import ended

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildEvent, BuildProgress

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


async def limit_with_room(lane: int, count: int) -> int:
    """How many descriptors a lane may have so that it can open just that many more.

    When it has let go of the control groups that its children join.
    """
    directory = Path(f"/proc/{lane}/fd")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with contextlib.suppress(FileNotFoundError):
                links = {int(one.name): one.readlink() for one in directory.iterdir()}
                if not any(link.name == "tasks" for link in links.values()):
                    free = (number for number in itertools.count() if number not in links)
                    return next(itertools.islice(free, count, None))
            await asyncio.sleep(0)


def sleeping_below(lane: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in lane.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "sleep":
                found.append(child)
    return found


class SleepingBuild:
    """A build whose steps say something and then sleep, until they are woken up."""

    def __init__(self, engine: EngineApi, request: BuildRequest) -> None:
        self._engine = engine
        self._has_news = asyncio.Event()
        self.output = b""
        self.progress: BuildProgress
        self._building = asyncio.create_task(engine.build_image(request, listener=self._hear))

    def _hear(self, event: BuildEvent) -> None:
        if isinstance(event, BuildOutput):
            self.output += event.data
            self._has_news.set()
        if isinstance(event, BuildChanged):
            self.progress = event.progress

    async def said(self, text: bytes) -> int:
        """Wait for it; the process id of the lane."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while text not in self.output:
                self._has_news.clear()
                await self._has_news.wait()
        return await one_named(launcher_of(self._engine), "lamella-lane")

    async def wake_up(self) -> None:
        lane = psutil.Process(await one_named(launcher_of(self._engine), "lamella-lane"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (sleeping := sleeping_below(lane)):  # noqa: ASYNC110
                await asyncio.sleep(0)
        sleeping[0].kill()

    async def end(self) -> None:
        await asyncio.wait_for(self._building, DEADLINE_SECONDS)


async def test_the_first_process_of_the_next_step_is_killed_while_it_waits(
    engine: EngineApi,
) -> None:
    request = BuildRequest(dockerfile_content=TWO_STEPS, names=("made",), network="none")
    build = SleepingBuild(engine, request)
    lane = await build.said(b"ready")
    # The program has its own name by now, so it is the one that waits.
    waiting = await one_named(lane, "lamella-lane")
    os.kill(waiting, signal.SIGKILL)
    await ended(waiting)
    await build.wake_up()
    await build.end()

    newest = (await engine.inspect_image("made")).layers[-1]
    tree = await engine.list_layer_files("made", newest.position)
    assert [one.path for one in tree.entries if one.change.value == "added"] == ["two"]


@pytest.mark.root
async def test_a_next_step_that_cannot_be_prepared_is_not_what_the_one_before_fails_for(
    engine: EngineApi,
) -> None:
    request = BuildRequest(
        dockerfile_content=b"FROM starter:latest\nRUN echo one; sleep 1000; true\n"
        b"RUN echo two > /two\nRUN echo three\n",
        network="none",
    )
    build = SleepingBuild(engine, request)
    lane = await build.said(b"one")
    await one_named(lane, "lamella-lane")
    limits = resource.prlimit(lane, resource.RLIMIT_NOFILE)
    # Enough for what a step comes with, and not for another first process.
    limit = await limit_with_room(lane, 2)
    resource.prlimit(lane, resource.RLIMIT_NOFILE, (limit, limits[1]))
    await build.wake_up()
    with pytest.raises(BuildStepError, match="Too many open files"):
        await build.end()

    states = {step.text: step.state for step in build.progress.steps}
    assert states["RUN echo two > /two"] is BuildStepState.DONE
    assert states["RUN echo three"] is BuildStepState.FAILED


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
