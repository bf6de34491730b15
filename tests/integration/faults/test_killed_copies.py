"""Applications, launchers, workers and monitors are killed at each step of commit and copies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.containers.states import read_container_state
from engine.errors import EngineError
from engine.types import CommitRequest, ContainerRequest, ContainerStatus
from tests.accounts import can_pause
from tests.integration.faults.test_killed_monitors import children_named
from tests.processes import ended
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config import EngineConfig
    from engine.operations import Progress
    from engine.types import LoadedImage

CHECKOUT = Path(__file__).resolve().parents[3]
SIZE = 24 << 20

# Each step of a commit, and the function that is about to run there.
COMMIT_STEPS = {
    "before the pause": "engine.containers.commit_freeze:pause_container",
    "while paused": "engine.images.commits:CommitMaker.pack",
    "before the sync": "engine.images.commits:CommitMaker.publish",
    "before the rename": "engine.images.catalog:StoreCatalog._move_into_place",
    "before the record": "engine.images.catalog:StoreCatalog._record_of",
    "before the event": "engine.images.catalog:StoreCatalog._tell",
    "before the thaw": "engine.containers.commit_freeze:unpause_container",
}
COPY_STEPS = {
    "before the worker": "engine.containers.copying:ContainerCopies._run",
    "at the first data": "engine.snapshots.tree_tar:TreePacker.add",
    "before the event": "engine.containers.services:ContainerServices.tell",
}

_APPLICATION = """
import asyncio, importlib, os, signal, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.types import CommitRequest

root, run, step, what, *rest = sys.argv[1:]
module_name, _, path = step.partition(":")
holder = importlib.import_module(module_name)
*owners, name = path.split(".")
for owner in owners:
    holder = getattr(holder, owner)

def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Engine.open(EngineConfig(root=Path(root), run=Path(run))) as engine:
        setattr(holder, name, die)
        if what == "commit":
            await engine.commit_container("web", CommitRequest(name="mine"))
        else:
            await engine.copy_to_container("web", *rest)

asyncio.run(main())
"""


async def start_web(engine: Engine) -> str:
    """A running container with a file that takes a while to pack."""
    script = f"dd if=/dev/urandom of=/large bs=1048576 count={SIZE >> 20} 2>/dev/null; echo made"
    created = await engine.create_container(
        ContainerRequest(
            image="starter", name="web", command=("sh", "-c", f"{script}; exec sleep 1000")
        )
    )
    await engine.start_container("web")
    async for _batch in engine.follow_logs("web", is_following=True):
        break
    return created.container_id


async def nothing_is_left(engine: Engine, config: EngineConfig) -> None:
    """What was half done has gone."""
    await engine._services.staging.sweep()
    await engine._images.sweep()
    assert left_in_staging(config.root) == []
    known = {
        layer.chain_id.removeprefix("sha256:")
        for image in await engine.list_images()
        for layer in (await engine.inspect_image(image.image_id)).layers
        if layer.chain_id
    }
    assert set(os.listdir(config.layers_directory)) == known


async def commit_succeeds(engine: Engine) -> None:
    made = await engine.commit_container("web", CommitRequest(name="mine"))
    assert made.entry_count == 1
    assert made.size_bytes == SIZE
    details = await engine.inspect_image("mine")
    tree = await engine.list_layer_files("mine", len(details.layers) - 1)
    assert [entry.path for entry in tree.entries] == ["large"]


async def is_running(config: EngineConfig) -> bool:
    """Whether the next engine that opens lets the container run."""
    async with Engine.open(config) as engine:
        with engine.subscribe() as events:
            while True:
                status = (await engine.inspect_container("web")).summary.status
                if status is not ContainerStatus.PAUSED:
                    return status is ContainerStatus.RUNNING
                async for _event in events:
                    break


async def kill_application(config: EngineConfig, step: str, *words: str) -> None:
    arguments = (str(config.root), str(config.run), step, *words)
    killed = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _APPLICATION, *arguments),
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


@pytest.mark.root
async def test_an_application_that_is_killed_at_any_step_of_a_commit_leaves_nothing(
    engine: Engine, config: EngineConfig, starter_image: LoadedImage
) -> None:
    if not can_pause(engine):
        pytest.skip("this host cannot pause (`lamella info`)")
    await start_web(engine)
    for name, step in COMMIT_STEPS.items():
        await kill_application(config, step, "commit")
        assert await is_running(config), name
        await nothing_is_left(engine, config)
        # Whoever looks finds all of the image or nothing of it.
        names = {name for image in await engine.list_images() for name in image.names}
        if "mine:latest" in names:
            await engine.remove_image("mine")
        await commit_succeeds(engine)
        await engine.remove_image("mine")
        await nothing_is_left(engine, config)


@pytest.mark.root
async def test_an_application_that_is_killed_at_any_step_of_a_copy_leaves_nothing(
    engine: Engine, config: EngineConfig, starter_image: LoadedImage, tmp_path: Path
) -> None:
    source = tmp_path / "sent"
    source.write_bytes(os.urandom(SIZE))
    identity = await start_web(engine)
    for is_stopped in (False, True):
        if is_stopped:
            await engine.kill_container("web")
        for step in COPY_STEPS.values():
            await kill_application(config, step, "copy", str(source), "/sent")
            # Nobody else can lock the container as long as a worker of the dead one is there.
            await engine.copy_to_container("web", str(source), "/sent")
            await engine.copy_from_container("web", "/sent", f"{tmp_path}/back")
            assert (tmp_path / "back").read_bytes() == source.read_bytes()
            changed = [change.path for change in await engine.list_changes("web")]
            assert changed == ["large", "sent"]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert identity not in mounts


@pytest.mark.root
@pytest.mark.parametrize("victim", ["worker", "launcher"])
@pytest.mark.parametrize("what", ["commit", "copy in", "copy out", "export"])
async def test_one_of_our_processes_that_is_killed_on_the_way_is_said_and_can_be_tried_again(
    engine: Engine,
    config: EngineConfig,
    starter_image: LoadedImage,
    tmp_path: Path,
    victim: str,
    what: str,
) -> None:
    source = tmp_path / "sent"
    source.write_bytes(os.urandom(SIZE))
    await start_web(engine)
    reader, writer = os.pipe()
    killed: set[int] = set()

    def kill() -> None:
        launcher = engine._supervisor.launcher_process_id
        killed.update(children_named(launcher, "lamella-worker"))
        if victim == "launcher":
            killed.add(launcher)
            os.kill(launcher, signal.SIGKILL)
        for process_id in killed - {launcher}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    def on_progress(progress: Progress) -> None:
        # Something was moved, and nothing is finished.
        if progress.done and not killed:
            kill()

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "commit": lambda: engine.commit_container(
            "web", CommitRequest(name="mine"), progress=on_progress
        ),
        "copy in": lambda: engine.copy_to_container(
            "web", str(source), "/sent", progress=on_progress
        ),
        "copy out": lambda: engine.copy_from_container(
            "web", "/large", f"{tmp_path}/back", progress=on_progress
        ),
        # Nobody reads the pipe: it stops where the pipe is full.
        "export": lambda: engine.export_container("web", writer, progress=on_progress),
    }
    try:
        call = asyncio.ensure_future(calls[what]())
        if what == "export":
            launcher = engine._supervisor.launcher_process_id
            # Nothing tells of it before its pipe is full.
            while not children_named(launcher, "lamella-worker"):  # noqa: ASYNC110
                await asyncio.sleep(0)
            kill()
        # One that is asked of the next launcher again must not wait for a reader.
        os.close(reader)
        reader = -1
        with contextlib.suppress(EngineError):
            await call
    finally:
        for descriptor in {reader, writer} - {-1}:
            os.close(descriptor)
    for process_id in killed:
        await ended(process_id)
    await nothing_is_left(engine, config)
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.RUNNING
    if not (tmp_path / "back").exists():
        await engine.copy_from_container("web", "/large", f"{tmp_path}/back")
    assert (tmp_path / "back").stat().st_size == SIZE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "sent"]
    changed = [change.path for change in await engine.list_changes("web")]
    assert changed in (["large"], ["large", "sent"])
    await engine.copy_to_container("web", str(source), "/sent")
    made = await engine.commit_container("web", CommitRequest(name="mine"))
    assert made.size_bytes == 2 * SIZE


@pytest.mark.root
@pytest.mark.parametrize("what", ["commit", "copy"])
async def test_a_monitor_that_is_killed_meanwhile_does_not_take_the_copy_along(
    engine: Engine,
    config: EngineConfig,
    starter_image: LoadedImage,
    tmp_path: Path,
    what: str,
) -> None:
    identity = await start_web(engine)
    state = read_container_state(config, identity)
    is_killed = False

    def on_progress(_progress: Progress) -> None:
        nonlocal is_killed
        if not is_killed:
            is_killed = True
            os.kill(state.monitor_process_id, signal.SIGKILL)

    with contextlib.suppress(EngineError):
        if what == "commit":
            await engine.commit_container("web", CommitRequest(name="x"), progress=on_progress)
        else:
            await engine.copy_from_container(
                "web", "/large", f"{tmp_path}/first", progress=on_progress
            )
    assert is_killed
    assert (await engine.wait_container("web")).error == "monitor was killed"
    await nothing_is_left(engine, config)
    await commit_succeeds(engine)
    await engine.copy_from_container("web", "/large", f"{tmp_path}/second")
    assert (tmp_path / "second").stat().st_size == SIZE
