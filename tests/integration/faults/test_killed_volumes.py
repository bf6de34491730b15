"""An application is killed at each step of making, filling and removing a volume."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.types import ContainerRequest, MountRequest

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.types import LoadedImage

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 30

# Each step is a function of the library or of the records, and whether it is killed before or
# after it; `copying` is killed as soon as the worker that copies has its request.
_APPLICATION = """
import asyncio, os, signal, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.runtime.supervisor import Supervisor
from engine.store.container_records import ContainerRecords
from engine.store.volume_records import VolumeRecords
from engine.types import ContainerRequest, MountRequest
from engine.volumes import library
from engine.volumes.library import VolumeLibrary

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

STEPS = {
    "made in staging": (library.os, "rename", "before"),
    "in place": (library.os, "rename", "after"),
    "filled": (VolumeLibrary, "_fill", "after"),
    "written down": (ContainerRecords, "insert", "before"),
    "given": (ContainerRecords, "insert", "after"),
    "created": (VolumeRecords, "insert", "before"),
    "forgotten": (VolumeRecords, "delete", "after"),
    "forgotten with its container": (ContainerRecords, "delete_with_volumes", "after"),
    "moved away": (VolumeLibrary, "_discard", "after"),
}

def break_at(step):
    if step == "copying":
        run_job = Supervisor.run_job
        async def watched(self, job, *arguments, **options):
            working = asyncio.ensure_future(run_job(self, job, *arguments, **options))
            if job == "fill-volume":
                for _ in range(int(sys.argv[5])):
                    await asyncio.sleep(0)
                die()
            return await working
        Supervisor.run_job = watched
        return
    owner, name, when = STEPS[step]
    work = getattr(owner, name)
    if name == "rename":
        class Os:
            def __getattr__(self, name):
                return getattr(os, name)
            def rename(self, *arguments, **options):
                if when == "before":
                    die()
                os.rename(*arguments, **options)
                die()
        library.os = Os()
        return
    async def broken(*arguments, **options):
        if when == "before":
            die()
        await work(*arguments, **options)
        die()
    setattr(owner, name, broken)

async def main():
    operation, step = sys.argv[3:5]
    config = EngineConfig(root=Path(sys.argv[1]), run=Path(sys.argv[2]))
    request = ContainerRequest(
        image="starter", name="web",
        mounts=(
            MountRequest(kind="volume", source="files", target="/etc"),
            MountRequest(kind="volume", source="", target="/usr"),
        ),
    )
    async with Engine.open(config) as engine:
        if operation == "run":
            break_at(step)
            await engine.create_container(request)
        elif operation == "create":
            break_at(step)
            await engine.create_volume("files")
        elif operation == "remove":
            await engine.create_volume("files")
            break_at(step)
            await engine.remove_volume("files")
        else:
            await engine.create_container(request)
            break_at(step)
            await engine.remove_container("web", removes_volumes=True)

asyncio.run(main())
"""


def names_in(directory: Path) -> set[str]:
    return set(os.listdir(directory)) - {".gate"} if directory.is_dir() else set()


async def leftovers(engine: Engine, config: EngineConfig, known: set[str]) -> dict[str, set[str]]:
    """What is there without a record, or with one and not there, by its place."""
    containers = {str(one.container_id) for one in await engine.list_containers()}
    found = {
        "volumes": names_in(config.volumes_directory) ^ known,
        "run": names_in(config.run / "volumes") - known,
        "containers": names_in(config.root / "containers") ^ containers,
        "staging": names_in(config.staging_directory),
    }
    return {place: names for place, names in found.items() if names}


async def whole(engine: Engine, config: EngineConfig) -> set[str]:
    """Wait until nothing is left that has no record; return the names of the volumes."""
    left: dict[str, set[str]] = {}
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                known = {volume.name for volume in await engine.list_volumes()}
                left = await leftovers(engine, config, known)
                if not left:
                    return known
    except TimeoutError:
        pytest.fail(f"left behind: {left}")


@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("run", "made in staging"),
        ("run", "in place"),
        *(("run", f"copying {turns}") for turns in (1, 20, 100, 400)),
        ("run", "filled"),
        ("run", "written down"),
        ("run", "given"),
        ("create", "made in staging"),
        ("create", "in place"),
        ("create", "created"),
        ("remove", "forgotten"),
        ("remove", "moved away"),
        ("rm -v", "forgotten with its container"),
        ("rm -v", "moved away"),
    ],
)
async def test_the_next_start_leaves_whole_volumes_only_and_a_retry_succeeds(
    config: EngineConfig, starter_image: LoadedImage, operation: str, step: str
) -> None:
    name, _, turns = step.partition(" ") if step.startswith("copying") else (step, "", "0")
    killed = await asyncio.to_thread(
        subprocess.run,
        (
            sys.executable,
            "-c",
            _APPLICATION,
            str(config.root),
            str(config.run),
            operation,
            name,
            turns,
        ),
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    async with Engine.open(config) as engine:
        known = await whole(engine, config)
        is_given = (operation, step) == ("run", "given")
        expected = {"run": 2 * is_given, "create": 0, "remove": 0, "rm -v": 1}
        assert len(known) == expected[operation]
        for summary in await engine.list_containers():
            await engine.remove_container(summary.container_id, removes_volumes=True)

        await engine.create_container(
            ContainerRequest(
                image="starter",
                name="again",
                command=("sh", "-c", "ls /etc /usr"),
                mounts=(
                    MountRequest(kind="volume", source="files", target="/etc"),
                    MountRequest(kind="volume", source="", target="/usr"),
                ),
            )
        )
        await engine.start_container("again")
        assert (await engine.wait_container("again")).exit_code == 0
        told = [line.text async for batch in engine.follow_logs("again") for line in batch]
        assert b"passwd" in told
        assert b"bin" in told
        await engine.remove_container("again", removes_volumes=True)
        await engine.remove_volume("files")
        assert await whole(engine, config) == set()
