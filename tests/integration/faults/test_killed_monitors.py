"""Monitors are killed at every moment of a container's life; nothing is lost or left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.containers.states import read_container_state
from engine.errors import MonitorLostError
from engine.types import ContainerRequest, ContainerStatus
from tests.integration.faults.conftest import children_of, groups_of
from tests.processes import ended

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.types import LoadedImage

STARTS = 24


def children_named(launcher: int, name: str) -> set[int]:
    """The launcher's children that call themselves so: `lamella-monitor`, `lamella-spare`."""
    found = set()
    for process_id in children_of(launcher):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process_id}/comm").read_text().strip() == name:
                found.add(process_id)
    return found


def monitors_of(launcher: int) -> set[int]:
    """Those that have their container, unlike the spare one."""
    return children_named(launcher, "lamella-monitor")


async def kill_next_monitor(launcher: int, known: set[int], yields: int) -> None:
    """Kill the monitor that starts a container next, some turns of the loop after it has begun."""
    # Nothing tells of it, and it must be caught early.
    while not (fresh := monitors_of(launcher) - known):  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(yields):
        await asyncio.sleep(0)
    for process_id in fresh:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)
        await ended(process_id)


@pytest.mark.root
async def test_a_start_whose_monitor_is_killed_leaves_nothing_and_can_be_tried_again(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    drawn = random.Random(7)
    outcomes = set()
    created = await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sleep", "infinity"))
    )
    identity = created.container_id
    await engine._supervisor.ensure_launcher()
    launcher = engine._supervisor.launcher_process_id
    for _ in range(STARTS):
        known = monitors_of(launcher)
        starting = asyncio.create_task(engine.start_container("web"))
        await kill_next_monitor(launcher, known, drawn.randrange(120))
        try:
            await starting
        except MonitorLostError:
            assert groups_of(identity) == []
            outcomes.add("lost")
        else:
            outcomes.add("ran")
            assert (await engine.wait_container("web")).error == "monitor was killed"
        summary = (await engine.inspect_container("web")).summary
        assert summary.status in {ContainerStatus.CREATED, ContainerStatus.EXITED}
        assert groups_of(identity) == []
        assert list((config.root / "staging").glob("[!.]*")) == []
    await engine.start_container("web")
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.RUNNING
    assert "lost" in outcomes


async def test_a_spare_monitor_that_is_killed_is_not_missed(
    engine: Engine, starter_image: LoadedImage
) -> None:
    request = ContainerRequest(image="starter", command=("true",))
    for _ in range(3):
        await engine.start_container((await engine.create_container(request)).container_id)
        launcher = engine._supervisor.launcher_process_id
        while not (spares := children_named(launcher, "lamella-spare")):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for process_id in spares:
            os.kill(process_id, signal.SIGKILL)
            await ended(process_id)
    created = await engine.create_container(request)
    await engine.start_container(created.container_id)
    assert (await engine.wait_container(created.container_id)).exit_code == 0


async def test_a_spare_monitor_goes_with_the_engine(
    config: EngineConfig, starter_image: LoadedImage
) -> None:
    async with Engine.open(config) as engine:
        await engine._supervisor.ensure_launcher()
        launcher = engine._supervisor.launcher_process_id
        while not (spares := children_named(launcher, "lamella-spare")):  # noqa: ASYNC110
            await asyncio.sleep(0)
    for process_id in spares:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)


@pytest.mark.root
async def test_a_set_user_id_program_does_not_outlive_its_monitor(
    engine: Engine, config: EngineConfig, setuid_archive: Path
) -> None:
    await engine.load_images(setuid_archive)
    identity = await start_set_user_id(engine)
    state = read_container_state(config, identity)
    os.kill(state.monitor_process_id, signal.SIGKILL)
    status = await engine.wait_container("web")
    assert (status.exit_code, status.error) == (137, "monitor was killed")
    await ended(state.process_id)
    assert groups_of(identity) == []


@pytest.mark.root
async def test_one_whose_monitor_was_killed_while_nobody_looked_is_ended_by_the_next_engine(
    config: EngineConfig, setuid_archive: Path
) -> None:
    async with Engine.open(config) as engine:
        await engine.load_images(setuid_archive)
        identity = await start_set_user_id(engine)
    state = read_container_state(config, identity)
    os.kill(state.monitor_process_id, signal.SIGKILL)
    await ended(state.monitor_process_id)
    # The kernel forgets whom to kill when a set-user-id program begins.
    os.kill(state.process_id, 0)
    async with Engine.open(config) as engine:
        summary = (await engine.inspect_container("web")).summary
        assert (summary.status, summary.error) == (ContainerStatus.EXITED, "monitor was killed")
        await ended(state.process_id)
        assert groups_of(identity) == []
        await engine.remove_container("web")


async def start_set_user_id(engine: Engine) -> str:
    created = await engine.create_container(
        ContainerRequest(image="setuid:1", name="web", command=("/bin/sleep", "1000"), user="1000")
    )
    await engine.start_container("web")
    return created.container_id
