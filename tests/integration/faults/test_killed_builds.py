"""Builds that are killed or cancelled: what was finished serves the next one, nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from engine.types import BuildOutput, BuildRequest, BuildStatus, BuildStepState
from tests.command_line import CommandLine
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

DOCKERFILE = """FROM starter:latest
RUN echo one > /one
RUN echo two > /two; echo ready; {wait}
RUN echo three > /three
"""
FOREVER = "while :; do read x < /dev/zero; done"


@pytest.fixture
def lamella(store_paths: StorePaths) -> CommandLine:
    return CommandLine(store_paths)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(wait=FOREVER))
    return tmp_path


def test_a_killed_build_has_not_worked_for_nothing(lamella, context, store_paths):
    process = lamella.open("build", "--network", "none", "--progress", "plain", str(context))
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(b"ready"):
            break
    # What is finished is recorded while the next step runs already.
    while "RUN echo one" not in lamella.text("builder", "ls"):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    (context / "Dockerfile").write_text(DOCKERFILE.format(wait="true"))
    told = lamella("build", "--network", "none", str(context)).stderr.decode()
    assert "#2 CACHED" in told
    assert "#3 DONE" in told
    # A start that meets somebody who makes something there leaves it to the next one.
    while left_in_staging(store_paths.root):
        lamella("images")
    assert "no problems" in lamella.text("fsck")


async def test_a_cancelled_build_ends_at_once_and_leaves_nothing(engine, context, store_paths):
    ready = asyncio.Event()
    heard = []

    def listen(event):
        heard.append(event)
        if isinstance(event, BuildOutput) and b"ready" in event.data:
            ready.set()

    request = BuildRequest(context=context, network="none")
    building = asyncio.create_task(engine.build_image(request, listener=listen))
    await asyncio.wait_for(ready.wait(), 60)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    await engine._services.staging.finish()
    last = heard[-1].progress
    assert last.status is BuildStatus.CANCELLED
    assert [step.state for step in last.steps] == [
        BuildStepState.DONE, BuildStepState.DONE, BuildStepState.CANCELLED, BuildStepState.SKIPPED,
    ]  # fmt: skip
    assert left_in_staging(store_paths.root) == []
    # What waits for the next build has no need to.
    await engine._close_lanes()
    assert list((store_paths.run / "containers").iterdir()) == []


async def test_two_builds_of_one_context_at_once_make_one_image(engine, tmp_path):
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(wait="true"))
    request = BuildRequest(context=tmp_path, network="none")

    first, second = await asyncio.gather(engine.build_image(request), engine.build_image(request))

    assert first.image_id == second.image_id
    assert (await engine.check_store()).is_whole
