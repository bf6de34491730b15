"""What is started again that no monitor is left to start."""

import dataclasses

import pytest

from engine.containers.creation import create_container
from engine.containers.lifecycle import current_state, exclusively, start_container
from engine.containers.resumption import is_to_be_resumed, resume_container, resume_containers
from engine.containers.states import write_container_state
from engine.errors import StartError
from engine.runtime.spec import StateRecord
from engine.types import ContainerRequest, RestartPolicy

WANTED = (("no", False), ("always", True), ("unless-stopped", True), ("on-failure", True))


async def make(world, policy="always", name="web", retries=0):
    created = await create_container(
        world.services,
        ContainerRequest(
            image="web",
            name=name,
            restart_policy=RestartPolicy(name=policy, maximum_retry_count=retries),
        ),
    )
    return await world.table.get(created.container_id)


def restart_host(world, record):
    """Let a container's last start be of another run of the kernel."""
    state = dataclasses.replace(world.state(record), boot_id="another", started_at_ns=1)
    write_container_state(world.config, record.container_id, state)


async def is_resumed(world, record):
    await resume_containers(world.services)
    return record.container_id in world.monitors.locks


@pytest.mark.parametrize(
    ("policy", "exit_code", "is_stopped", "expected"),
    [
        ("no", 1, False, False),
        ("always", 0, False, True),
        ("always", 143, True, True),
        ("unless-stopped", 0, False, True),
        ("unless-stopped", 143, True, False),
        ("on-failure", 0, False, False),
        ("on-failure", 1, False, True),
    ],
)
async def test_after_a_reboot_the_policy_says_what_is_started(
    world, policy, exit_code, is_stopped, expected
):
    record = await make(world, policy)
    await start_container(world.services, record)
    world.monitors.end(record.container_id, exit_code, is_stopped=is_stopped)
    assert not await is_resumed(world, record)
    restart_host(world, record)
    assert await is_resumed(world, record) is expected


@pytest.mark.parametrize(("policy", "expected"), WANTED)
async def test_one_that_ran_when_the_host_went_down_is_started_again(world, policy, expected):
    record = await make(world, policy)
    await start_container(world.services, record)
    world.monitors.kill(record.container_id)
    restart_host(world, record)
    assert (await current_state(world.services, record)).error == "host was restarted"
    assert await is_resumed(world, record) is expected


@pytest.mark.parametrize(("policy", "expected"), WANTED)
async def test_one_whose_monitor_was_killed_is_started_again_and_that_counts(
    world, policy, expected
):
    record = await make(world, policy)
    await start_container(world.services, record)
    world.monitors.kill(record.container_id)
    state = await current_state(world.services, record)
    assert (state.error, state.awaits_restart) == ("monitor was killed", expected)
    assert await is_resumed(world, record) is expected
    assert world.state(record).restart_count == int(expected)


async def test_a_monitor_that_is_killed_again_and_again_uses_the_retries_up(world):
    record = await make(world, "on-failure", retries=2)
    await start_container(world.services, record)
    for _ in range(2):
        world.monitors.kill(record.container_id)
        await current_state(world.services, record)
        assert await is_resumed(world, record)
    world.monitors.kill(record.container_id)
    await current_state(world.services, record)
    assert not await is_resumed(world, record)


async def test_one_that_somebody_was_stopping_when_its_monitor_was_killed_stays_stopped(world):
    record = await make(world, "unless-stopped")
    await start_container(world.services, record)
    world.monitors._write(record.container_id, is_stopped_by_person=True)
    world.monitors.kill(record.container_id)
    assert not (await current_state(world.services, record)).awaits_restart
    assert not await is_resumed(world, record)


async def test_one_that_waited_for_its_restart_ended_as_it_was_told_then(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors._write(
        record.container_id, status="restarting", exit_code=3, restart_count=4, next_start_at_ns=9
    )
    world.monitors.kill(record.container_id)
    told = world.events()
    state = await current_state(world.services, record)
    assert (state.status, state.exit_code, state.restart_count) == ("exited", 3, 4)
    assert "while it waited to restart" in state.error
    assert state.next_start_at_ns == 0
    assert world.events() == told
    assert await is_resumed(world, record)
    assert world.state(record).restart_count == 4


async def test_one_that_cannot_be_started_is_not_tried_at_every_look(world, cannot_start):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.end(record.container_id, 0)
    restart_host(world, record)
    world.monitors.start_error = cannot_start
    with pytest.raises(StartError):
        await resume_container(world.services, record.container_id)
    world.monitors.start_error = None
    assert not await is_resumed(world, record)
    assert world.state(record).error == cannot_start.message


async def test_one_that_somebody_works_on_is_left_to_him(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.end(record.container_id, 0)
    restart_host(world, record)
    async with exclusively(world.services, record):
        assert not await is_resumed(world, record)
    assert await is_resumed(world, record)


async def test_one_that_never_ran_or_is_gone_is_not_started(world):
    record = await make(world)
    assert not await is_resumed(world, record)
    assert not is_to_be_resumed(record, StateRecord(status="dead"), boot_id="x")
    await world.table.delete(record.container_id)
    await resume_container(world.services, record.container_id)
    assert world.monitors.locks == {}
