"""Changing containers: what is refused in Docker's words, and what becomes of the rest."""

import pytest

from engine.containers.creation import create_container
from engine.containers.lifecycle import start_container
from engine.containers.update import merge_limits, update_container, updated
from engine.errors import ContainerStateError, EngineError, InvalidInputError, SyscallError
from engine.types import ContainerRequest, ContainerUpdate, ResourceLimits, RestartPolicy

MEGABYTES = 1 << 20


async def make(world, **fields):
    created = await create_container(
        world.services, ContainerRequest(image="web", name="web", **fields)
    )
    return await world.table.get(created.container_id)


def test_what_is_not_asked_for_stays_and_zero_takes_away():
    current = ResourceLimits(
        memory_bytes=64 * MEGABYTES, cpu_count=0.5, pids=9, cpu_shares=3, cpuset_cpus="0"
    )
    assert merge_limits(current, ResourceLimits()) == current
    assert merge_limits(current, ResourceLimits(pids=-1)).pids is None
    assert merge_limits(ResourceLimits(), ResourceLimits(cpu_count=0.5)).pids is None
    asked = ResourceLimits(memory_bytes=0, cpu_count=0, pids=0, cpu_shares=0)
    assert merge_limits(current, asked) == ResourceLimits(cpuset_cpus="0")
    asked = ResourceLimits(memory_bytes=32 * MEGABYTES, cpuset_cpus="0-1")
    assert merge_limits(current, asked) == ResourceLimits(
        memory_bytes=32 * MEGABYTES, cpu_count=0.5, pids=9, cpu_shares=3, cpuset_cpus="0-1"
    )


@pytest.mark.parametrize(
    ("current", "update", "text"),
    [
        (
            ResourceLimits(memory_bytes=64 * MEGABYTES, memory_swap_bytes=80 * MEGABYTES),
            ContainerUpdate(limits=ResourceLimits(memory_bytes=90 * MEGABYTES)),
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time",
        ),
        (
            ResourceLimits(cpu_quota_microseconds=50_000),
            ContainerUpdate(limits=ResourceLimits(cpu_count=0.5)),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            ResourceLimits(cpu_count=0.5),
            ContainerUpdate(limits=ResourceLimits(cpu_period_microseconds=50_000)),
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            ResourceLimits(),
            ContainerUpdate(restart_policy=RestartPolicy(name="always")),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)
def test_contradictions_are_refused_in_dockers_words(current, update, text):
    with pytest.raises(InvalidInputError) as failure:
        updated(
            update,
            container_id="abc",
            limits=current,
            restart_policy=RestartPolicy(),
            is_removed_on_exit=True,
        )
    assert failure.value.message == f"Cannot update container abc: {text}"
    assert failure.value.hint


async def test_asking_for_nothing_is_refused(world):
    record = await make(world)
    with pytest.raises(InvalidInputError, match="you must provide one or more flags"):
        await update_container(world.services, record, ContainerUpdate())


async def test_one_that_does_not_run_has_it_at_the_next_start(world):
    record = await make(world)
    update = ContainerUpdate(
        limits=ResourceLimits(cpu_count=0.5), restart_policy=RestartPolicy(name="always")
    )
    await update_container(world.services, record, update)
    fresh = await world.table.get(record.container_id)
    assert (fresh.limits.cpu_count, fresh.restart_policy.name) == (0.5, "always")
    assert world.events()[-1] == "update"
    await start_container(world.services, fresh)
    spec = world.monitors.specs[record.container_id]
    assert (spec.cgroup.cpu_quota_microseconds, spec.restart.policy) == (50_000, "always")


async def test_one_that_runs_has_it_at_once(world):
    record = await make(world)
    await start_container(world.services, record)
    update = ContainerUpdate(limits=ResourceLimits(pids=7))
    await update_container(world.services, record, update)
    assert world.monitors.specs[record.container_id].cgroup.pids == 7
    assert (await world.table.get(record.container_id)).limits.pids == 7


async def test_what_the_kernel_refuses_is_not_written_down(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.update_error = SyscallError("write", 16, "'6291456' to memory.limit_in_bytes")
    update = ContainerUpdate(limits=ResourceLimits(cpu_count=0.5))
    with pytest.raises(EngineError, match=f"Cannot update container {record.container_id}: "):
        await update_container(world.services, record, update)
    assert (await world.table.get(record.container_id)).limits == record.limits
    assert "update" not in world.events()


async def test_a_limit_that_the_host_does_not_give_is_said(world):
    record = await make(world)
    update = ContainerUpdate(limits=ResourceLimits(memory_bytes=64 * MEGABYTES))
    assert await update_container(world.services, record, update) == (
        "--memory has no effect: no controller",
    )


async def test_one_that_is_being_removed_is_not_changed(world):
    record = await make(world)
    await world.remove_tree(world.config.container_directory(record.container_id))
    update = ContainerUpdate(limits=ResourceLimits(pids=7))
    with pytest.raises(ContainerStateError, match="marked for removal"):
        await update_container(world.services, record, update)
