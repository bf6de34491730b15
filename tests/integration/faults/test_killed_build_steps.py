"""Whoever builds is killed at each step of a build: nothing half is used, nothing is left.

What is asked each time is the same: when the next application has looked, the store is whole and
has no more than what is recorded, no process, group or lease is left, what was finished is in the
cache, and the image is the one that a build makes that nobody disturbs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from engine.errors import EngineError
from engine.types import (
    BuildCacheFilter,
    BuildOutput,
    BuildRequest,
    BuildStepChanged,
    BuildStepState,
)
from tests.integration.faults.conftest import children_named
from tests.leaks import groups_of
from tests.processes import ended
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildEvent
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 60
DOCKERFILE = """\
FROM starter:latest AS made
RUN echo one > /one
RUN mkdir /many && for i in 1 2 3 4 5 6 7 8; do echo $i > /many/$i; done
FROM starter:latest
COPY site /site
RUN --mount=type=cache,target=/cache echo ready; echo two > /two
COPY --from=made /many /copied
RUN true
WORKDIR /srv/deep
"""

# Each step of a build, and the function that is about to run there, the so-manieth time.
STEPS = {
    "before the context": ("engine.build.builder:open_context", 1),
    "before the layers' process": ("engine.build.layer_processes:_SealingProcess._serve", 1),
    "before the first draft": ("engine.build.layers:LayerWorkshop.draft", 1),
    "before the last draft": ("engine.build.layers:LayerWorkshop.draft", 7),
    "before a lane": ("engine.api.build_lanes:BuildLanes._open", 1),
    "before a lane's process": ("engine.runtime.supervisor:Supervisor.open_lane", 1),
    "before a program": ("engine.build.preparing:run_program", 1),
    "before the last program": ("engine.build.preparing:run_program", 4),
    "before settling": ("engine.build.layers:LayerWorkshop.settle", 1),
    "before reading": ("engine.build.layers:LayerWorkshop.digest", 2),
    "before a copy": ("engine.build.file_steps:PreparedFiles.run", 1),
    "before a copy of a stage": ("engine.build.file_steps:PreparedFiles.run", 2),
    "before the first place": ("engine.build.layers:LayerWorkshop.put_into_place", 1),
    "before the last place": ("engine.build.layers:LayerWorkshop.put_into_place", 5),
    "between place and record": ("engine.build.cache:BuildCache.record", 1),
    "between the last place and its record": ("engine.build.cache:BuildCache.record", 5),
    "after a record": ("engine.build.layers:BuildLayer.place", 3),
    "before the sync": ("engine.build.builder:sync_staging", 1),
    "between sync and image": ("engine.images.catalog:StoreCatalog.publish", 1),
    "after the image": ("engine.build.cache:BuildCache.note_uses", 1),
    "before it is written down": ("engine.build.written_builds:WrittenBuilds._write_end", 1),
}

_APPLICATION = """
import asyncio, importlib, os, signal, sys
from pathlib import Path
from engine.api import open_engine
from engine.types import BuildRequest
import engine.build.builds, engine.build.builder, engine.api.build_lanes

root, run, context, step, count = sys.argv[1:]
module_name, _, path = step.partition(":")
holder = importlib.import_module(module_name)
*owners, name = path.split(".")
for owner in owners:
    holder = getattr(holder, owner)
work = getattr(holder, name)
left = int(count)

def die_or(*arguments, **options):
    global left
    left -= 1
    if not left:
        print(*os.listdir(Path(run, "containers")), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return work(*arguments, **options)

async def main():
    async with open_engine(root=Path(root), run=Path(run)) as engine:
        setattr(holder, name, die_or)
        request = BuildRequest(context=Path(context), names=("made",), most_parallel_steps=1)
        await engine.build_image(request)

asyncio.run(main())
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "site").mkdir(parents=True)
    for number in range(20):
        (directory / f"site/{number}").write_text(str(number))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


def recorded_layers(store: StorePaths) -> tuple[set[str], int]:
    """Every layer that the database has, and how many steps of builds."""
    with contextlib.closing(
        sqlite3.connect(f"file:{store.root}/lamella.db?mode=ro", uri=True)
    ) as db:
        layers = {
            row[0].removeprefix("sha256:") for row in db.execute("SELECT chain_id FROM layers")
        }
        (steps,) = db.execute("SELECT count(*) FROM build_steps").fetchone()
        (leases,) = db.execute("SELECT count(*) FROM network_leases").fetchone()
    assert leases == 0
    return layers, steps


async def nothing_is_left(engine: EngineApi, store: StorePaths, *lane_ids: str) -> None:
    """What was half done has gone, groups of lanes too; what there is, is recorded."""
    # What waits for the next build has no need to.
    await engine._close_builds()  # type: ignore[attr-defined]
    # An engine that has just started sweeps, too, and whoever comes second leaves it to the first.
    async with asyncio.timeout(DEADLINE_SECONDS):
        while left_in_staging(store.root):  # noqa: ASYNC110
            await asyncio.sleep(0)
        while {*os.listdir(store.root / "layers")} - {"reserve"} != recorded_layers(store)[0]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert [path.name for path in (store.run / "containers").glob("*")] == []
    assert [*groups_of(frozenset(lane_ids))] == []


async def build(engine: EngineApi, context: Path, **options: object) -> tuple[str, int]:
    """Build; the image's id, and how many steps the cache had."""
    request = BuildRequest(context=context, names=("made",), **options)  # type: ignore[arg-type]
    built = await asyncio.wait_for(engine.build_image(request), DEADLINE_SECONDS)
    return built.image_id, built.cached_count


async def swept(engine: EngineApi) -> None:
    """Wait for what an engine does behind its start."""
    await engine._services.staging.sweep()  # type: ignore[attr-defined]
    await engine._images.sweep()  # type: ignore[attr-defined]


@pytest.mark.parametrize("step", STEPS)
async def test_an_application_that_is_killed_at_a_step_leaves_whole_layers_only(
    step: str, store_paths: StorePaths, context: Path
) -> None:
    function, count = STEPS[step]
    killed = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _APPLICATION, str(store_paths.root), str(store_paths.run),
         str(context), function, str(count)),
        cwd=CHECKOUT, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await swept(engine)
        await nothing_is_left(engine, store_paths, *killed.stdout.decode().split())
        _layers, steps = recorded_layers(store_paths)
        assert (await engine.check_store()).is_whole
        image_id, cached = await build(engine, context)
        # FROM lines have no entry of their own.
        assert cached == steps
        assert (await engine.check_store()).is_whole
        assert image_id == (await build(engine, context, uses_cache=False))[0]
        assert (await build(engine, context)) == (image_id, 7)

        await engine.remove_image("made")
        await engine.prune_build_cache(BuildCacheFilter(includes_shared=True))
        await nothing_is_left(engine, store_paths)
        own = {layer.chain_id for layer in (await engine.inspect_image("starter")).layers}
        assert {f"sha256:{name}" for name in recorded_layers(store_paths)[0]} == own - {None}


VICTIMS = {
    "launcher": "the build goes on without it",
    "lamella-lane": "the process that ran the step was killed",
    "lamella-worker": "the worker that makes layers was killed",
}
MOMENTS = ("a program runs", "a layer is read", "files are copied")
SLOW = """\
FROM starter:latest
RUN dd if=/dev/zero of=/large bs=1048576 count=200 2>/dev/null
RUN echo ready; sleep 0.3; echo two > /two
COPY site /site
RUN echo three > /three
"""


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
async def test_one_of_our_processes_that_is_killed_costs_its_step_and_nothing_else(
    victim: str, moment: str, engine: EngineApi, store_paths: StorePaths, context: Path
) -> None:
    (context / "Dockerfile").write_text(SLOW)
    for number in range(2000):
        (context / f"site/{number}").write_text(str(number))
    killed: set[int] = set()
    lane_ids: set[str] = set()

    def kill() -> None:
        if killed:
            return
        launcher = engine._supervisor.launcher_process_id  # type: ignore[attr-defined]
        found = {launcher} if victim == "launcher" else children_named(launcher, victim)
        for process_id in found:
            os.kill(process_id, signal.SIGKILL)
        killed.update(found)
        lane_ids.update(os.listdir(store_paths.run / "containers"))

    def listen(event: BuildEvent) -> None:
        if moment == "a program runs" and isinstance(event, BuildOutput):
            kill()
        if not isinstance(event, BuildStepChanged):
            return
        step = event.step
        is_read = step.state is BuildStepState.DONE and step.position == 1 and not step.chain_id
        is_copied = step.state is BuildStepState.RUNNING and step.text.startswith("COPY")
        if (is_read and moment == "a layer is read") or (is_copied and moment == MOMENTS[2]):
            kill()

    failed = ""
    heard: list[BuildEvent] = []
    request = BuildRequest(context=context, names=("made",))
    try:
        await engine.build_image(
            request, listener=lambda event: (heard.append(event), listen(event))
        )
    except EngineError as error:
        failed = str(error)
    assert killed
    for process_id in killed:
        await ended(process_id)

    assert failed in {"", VICTIMS[victim]}, failed
    if victim == "launcher":
        assert not failed
    if failed:
        last = heard[-1].progress
        # Several, if it worked for several.
        assert {step.error for step in last.steps if step.state is BuildStepState.FAILED} == {
            failed
        }
    await nothing_is_left(engine, store_paths, *lane_ids)
    image_id, _cached = await build(engine, context)
    assert image_id == (await build(engine, context, uses_cache=False))[0]
    assert (await engine.check_store()).is_whole
