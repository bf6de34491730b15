"""Monitors are killed at every moment of a container's life; nothing is lost or left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.containers.states import read_container_state
from engine.errors import ContainerStateError, MonitorLostError
from engine.types import ContainerRequest, ContainerStatus, NetworkOptions
from tests.integration.faults.conftest import children_named, groups_of
from tests.processes import ended
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.types import LoadedImage

STARTS = 24


def monitors_of(launcher: int) -> set[int]:
    """Those that have their container, unlike the spare one."""
    found = children_named(launcher, "lamella-monitor")
    return {monitor for monitor in found if not waiting_starters(monitor)}


def waiting_starters(monitor: int) -> set[int]:
    """The starter of a spare monitor, until it has a container to start."""
    try:
        return children_named(monitor, "lamella-spare")
    except FileNotFoundError:  # it was killed
        return set()


async def spare_of(launcher: int) -> tuple[int, int]:
    """The monitor that waits for a container, and its starter."""
    # Nothing tells of it.
    while True:
        for monitor in children_named(launcher, "lamella-monitor"):
            for starter in waiting_starters(monitor):
                return monitor, starter
        await asyncio.sleep(0)


async def kill(*process_ids: int) -> None:
    """Kill the first, and wait for the end of all of them."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_ids[0], signal.SIGKILL)
    for process_id in process_ids:
        await ended(process_id)


@pytest.mark.root
@pytest.mark.parametrize("victim", ["monitor", "starter"])
async def test_a_start_that_is_killed_leaves_nothing_and_can_be_tried_again(
    engine: Engine, config: EngineConfig, starter_image: LoadedImage, victim: str
) -> None:
    drawn = random.Random(7)
    outcomes = set()
    created = await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sleep", "infinity"))
    )
    identity = created.container_id
    await engine._supervisor.ensure_launcher()
    round_count = 0
    # As often as it takes until one is met between its order and its answer.
    while round_count < STARTS or "lost" not in outcomes:
        round_count += 1
        monitor, starter = await spare_of(engine._supervisor.launcher_process_id)
        starting = asyncio.create_task(engine.start_container("web"))
        for _ in range(drawn.randrange(120)):
            await asyncio.sleep(0)
        await kill(*((monitor, starter) if victim == "monitor" else (starter,)))
        try:
            await starting
        except MonitorLostError:
            outcomes.add("lost")
        else:
            outcomes.add("ran")
            # It may have been started by others, or have been handed over.
            with contextlib.suppress(ContainerStateError):
                await engine.kill_container("web")
            assert (await engine.wait_container("web")).exit_code == 137
        summary = (await engine.inspect_container("web")).summary
        assert summary.status in {ContainerStatus.CREATED, ContainerStatus.EXITED}
        assert groups_of(identity) == []
        assert left_in_staging(config.root) == []
    await engine.start_container("web")
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.RUNNING


async def test_a_spare_monitor_that_is_killed_is_not_missed(
    engine: Engine, starter_image: LoadedImage
) -> None:
    request = ContainerRequest(image="starter", command=("true",))
    for _ in range(3):
        await engine.start_container((await engine.create_container(request)).container_id)
        await kill(*(await spare_of(engine._supervisor.launcher_process_id)))
    created = await engine.create_container(request)
    await engine.start_container(created.container_id)
    assert (await engine.wait_container(created.container_id)).exit_code == 0


async def test_a_spare_monitor_goes_with_the_engine(
    config: EngineConfig, starter_image: LoadedImage
) -> None:
    async with Engine.open(config) as engine:
        await engine._supervisor.ensure_launcher()
        spare = await spare_of(engine._supervisor.launcher_process_id)
    for process_id in spare:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)


async def test_a_spare_monitor_goes_with_the_engine_though_one_that_passed_it_by_lives_on(
    config: EngineConfig, starter_image: LoadedImage
) -> None:
    request = ContainerRequest(
        image="starter",
        name="web",
        command=("sleep", "infinity"),
        network=NetworkOptions(mode="host"),
    )
    async with Engine.open(config) as engine:
        await engine.create_container(request)
        await engine._supervisor.ensure_launcher()
        spare = await spare_of(engine._supervisor.launcher_process_id)
        # A spare monitor is in a network of its own: this one cannot have it.
        await engine.start_container("web")
        assert await spare_of(engine._supervisor.launcher_process_id) == spare
    for process_id in spare:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)
    async with Engine.open(config) as engine:
        await engine.remove_container("web", is_forced=True)


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


@pytest.mark.root
async def test_a_monitor_holds_what_its_container_needs_and_nothing_of_the_launchers(
    engine: Engine, config: EngineConfig, starter_image: LoadedImage
) -> None:
    held = []
    for name in ("first", "second"):
        created = await engine.create_container(
            ContainerRequest(image="starter", name=name, command=("sleep", "infinity"))
        )
        await engine.start_container(name)
        monitor = read_container_state(config, created.container_id).monitor_process_id
        kinds = descriptors_of(monitor)
        while "lock" not in kinds or kinds.count("socket") > 1:
            # It has still to take over the program, and to let go of the channel for that.
            await asyncio.sleep(0)
            kinds = descriptors_of(monitor)
        held.append(kinds)
    # Its socket of calls; the program's output and errors; its lock; what tells of the program's
    # end and of memory.
    assert held[0] == held[1]
    assert held[0].count("socket") == 1
    assert held[0].count("pipe") == 2
    assert held[0].count("lock") == 1
    assert held[0].count("null") == 3
    assert len(held[0]) <= 10


def descriptors_of(process_id: int) -> list[str]:
    """What a process has open: `socket`, `pipe`, or the last part of a path."""
    kinds = []
    for entry in os.listdir(f"/proc/{process_id}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            link = os.readlink(f"/proc/{process_id}/fd/{entry}")
            kinds.append(link.partition(":")[0].rpartition("/")[2])
    return sorted(kinds)
