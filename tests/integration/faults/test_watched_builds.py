"""Applications beside the one that a build runs in see how far it is, and that it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.types import BuildStatus, BuildStepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import BuildProgress
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 60
_APPLICATION = """
import asyncio, sys
from pathlib import Path
from engine.api import open_engine
from engine.types import BuildRequest

root, run, last = sys.argv[1:]
text = f"FROM starter\\nRUN echo one > /one\\nRUN {last}\\nRUN echo three\\n"

async def main():
    async with open_engine(root=Path(root), run=Path(run)) as engine:
        request = BuildRequest(
            dockerfile_content=text.encode(), names=("elsewhere",), network="none"
        )
        await engine.build_image(request)

asyncio.run(main())
"""


def start(store: StorePaths, last: str) -> subprocess.Popen[bytes]:
    """Another application, which builds three steps."""
    return subprocess.Popen(
        (sys.executable, "-c", _APPLICATION, str(store.root), str(store.run), last), cwd=CHECKOUT
    )


async def seen(engine: EngineApi, is_so: Callable[[BuildProgress], bool]) -> BuildProgress:
    """Wait until the only build of the list is so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await engine.list_builds("elsewhere:latest")
            if found and is_so(found[0]):
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0)


def is_at_the_second_step(progress: BuildProgress) -> bool:
    # The layer below has its place a moment later.
    is_running = progress.steps[2].state is BuildStepState.RUNNING
    return is_running and progress.steps[1].chain_id is not None


async def test_a_build_is_seen_while_it_runs_and_when_it_was_killed(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    other = start(store_paths, "sleep 1000")
    try:
        progress = await seen(engine, is_at_the_second_step)
        assert progress.status is BuildStatus.RUNNING
    finally:
        killed_at = time.time()
        os.kill(other.pid, signal.SIGKILL)
        await asyncio.to_thread(other.wait)

    progress = await seen(engine, lambda one: one.status is not BuildStatus.RUNNING)
    assert progress.status is BuildStatus.FAILED
    assert progress.error == "the application that it ran in was killed"
    assert [step.state for step in progress.steps] == [
        BuildStepState.DONE, BuildStepState.DONE, BuildStepState.CANCELLED, BuildStepState.SKIPPED,
    ]  # fmt: skip
    assert progress.steps[2].error == progress.error
    assert progress.ended_at is not None
    assert progress.ended_at >= killed_at - 2
    assert os.listdir(store_paths.run / "builds") == []


async def test_a_build_that_ends_well_is_never_taken_for_killed(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    other = start(store_paths, "sleep 2.5")
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard: list[BuildStatus] = []
            while not heard or heard[-1] is BuildStatus.RUNNING:
                heard += [one.status for one in await engine.list_builds("elsewhere:latest")]
                await asyncio.sleep(0)
    finally:
        assert await asyncio.to_thread(other.wait, DEADLINE_SECONDS) == 0

    assert BuildStatus.RUNNING in heard
    assert heard[-1] is BuildStatus.DONE
    assert os.listdir(store_paths.run / "builds") == []
