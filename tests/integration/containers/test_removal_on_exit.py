"""`--rm`: gone when it has ended, but not before whoever shows its output has had all of it."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.containers.removal import hold_container, remove_after_exit
from engine.containers.states import read_container_state
from engine.errors import ContainerNotFoundError
from engine.types import ContainerRequest, ContainerStatus
from tests.processes import ended

IMAGE = "starter:latest"


@pytest.fixture
def config(store_paths):
    return EngineConfig(root=store_paths.root, run=store_paths.run)


async def create(engine, script, name="web"):
    created = await engine.create_container(
        ContainerRequest(
            image=IMAGE, name=name, command=("sh", "-c", script), is_removed_on_exit=True
        )
    )
    return created.container_id


async def read_lines(engine, reference="web", **options):
    batches = engine.follow_logs(reference, **options)
    return [line.text async for batch in batches for line in batch]


def leftovers(config, container_id):
    places = (
        config.container_directory(container_id),
        config.container_run_directory(container_id),
    )
    return [place for place in places if place.exists()]


async def test_one_that_is_held_stays_until_the_last_holder_has_let_go(
    engine, starter_image, config
):
    async with Engine.open(config) as other:
        container_id = await create(engine, "echo one; exit 4")
        async with other.hold_container("web"):
            async with engine.hold_container("web"):
                await engine.start_container("web")
                assert (await engine.wait_container("web")).exit_code == 4
            assert (await other.wait_container("web")).exit_code == 4
            assert await read_lines(other, is_following=True) == [b"one"]
        assert await engine.list_containers() == ()
    assert leftovers(config, container_id) == []


async def test_two_who_let_go_at_once_leave_nothing(engine, starter_image, config):
    async with Engine.open(config) as other:
        container_id = await create(engine, "exit 0")
        both_hold, both_saw_the_end = asyncio.Barrier(2), asyncio.Barrier(2)

        async def hold(holder):
            async with holder.hold_container("web"):
                await both_hold.wait()
                if holder is engine:
                    await engine.start_container("web")
                    await engine.wait_container("web")
                await both_saw_the_end.wait()

        await asyncio.gather(hold(engine), hold(other))
        assert await engine.list_containers() == ()
    assert leftovers(config, container_id) == []


async def test_who_is_cancelled_while_letting_go_removes_it_all_the_same(
    engine, starter_image, config
):
    container_id = await create(engine, "exit 0")
    has_ended = asyncio.Event()

    async def hold():
        async with engine.hold_container("web"):
            await engine.start_container("web")
            await engine.wait_container("web")
            # Who follows the events has seen the end, and that it is held.
            await read_lines(engine, is_following=True)
            has_ended.set()

    holder = asyncio.create_task(hold())
    await has_ended.wait()
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert await engine.list_containers() == ()
    assert leftovers(config, container_id) == []


async def test_holding_does_not_keep_from_removing_by_hand(engine, starter_image, config):
    container_id = await create(engine, "while :; do sleep 0.1; done")
    async with engine.hold_container("web"):
        await engine.start_container("web")
        await engine.remove_container("web", is_forced=True)
        assert await engine.list_containers() == ()
    assert leftovers(config, container_id) == []


async def test_one_that_is_gone_cannot_be_held(engine, starter_image, config):
    container_id = await create(engine, "exit 0")
    record = await engine._containers.find("web")
    await engine.remove_container("web")
    with pytest.raises(ContainerNotFoundError):
        async with hold_container(engine._services, record):
            pass
    assert leftovers(config, container_id) == []


async def test_one_that_did_not_run_stays(engine, starter_image):
    container_id = await create(engine, "exit 0")
    async with engine.hold_container("web"):
        pass
    await remove_after_exit(engine._services, container_id)
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.CREATED


@pytest.mark.parametrize("is_following", [False, True])
async def test_the_log_of_one_that_never_ran_is_empty(engine, starter_image, is_following):
    await create(engine, "echo never")
    assert await read_lines(engine, is_following=is_following) == []


_APPLICATION = """
import asyncio, os, signal, sys
from pathlib import Path
from engine.api import open_engine

async def main():
    async with open_engine(root=Path(sys.argv[1]), run=Path(sys.argv[2])) as engine:
        async with engine.hold_container("web"):
            await engine.start_container("web")
            if sys.argv[3] == "ended":
                await engine.wait_container("web")
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["running", "ended"])
async def test_one_whose_application_was_killed_is_removed_at_the_next_start(
    store_paths, starter_image, config, moment
):
    async with Engine.open(config) as engine:
        script = "exit 3" if moment == "ended" else "while :; do sleep 0.1; done"
        container_id = await create(engine, script)
    killed = await asyncio.to_thread(
        subprocess.run,
        (
            sys.executable, "-c", _APPLICATION, str(store_paths.root), str(store_paths.run), moment,
        ),
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    if moment == "running":
        await end_container(config, container_id)
    assert leftovers(config, container_id) != []

    async with Engine.open(config) as engine:
        assert await engine.list_containers() == ()
    assert leftovers(config, container_id) == []


async def end_container(config, container_id):
    """Kill the program, and wait until its monitor has written that down and ended too."""
    state = read_container_state(config, container_id)
    os.kill(state.process_id, signal.SIGKILL)
    await ended(state.monitor_process_id)


async def test_what_has_ended_can_be_started_and_removed_at_once(engine, starter_image):
    # A monitor writes the end down before it lets its lock go.
    for _ in range(20):
        created = await engine.create_container(ContainerRequest(image=IMAGE, command=("true",)))
        for _ in range(2):
            await engine.start_container(created.container_id)
            await engine.wait_container(created.container_id)
        await engine.remove_container(created.container_id)
