"""Limits and restart policy of a container that runs, changed without a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import EngineError
from engine.types import ContainerUpdate, ResourceLimits, RestartPolicy

if TYPE_CHECKING:
    from engine.api import Engine
    from tests.integration.lifecycle.conftest import Store

MEGABYTES = 1 << 20
WAITS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
FILLS = "head -c 30000000 /dev/zero >/dev/shm/full; echo full; exec sleep 1000"


def skip_without(engine: Engine, *controllers: str) -> None:
    missing = engine._services.cgroups.missing_limits
    for controller in controllers:
        if controller in missing:
            pytest.skip(f"no {controller}: {missing[controller]}")


def limit(store: Store, identity: str, v1: str, v2: str) -> str:
    """What a file of the container's group says."""
    for path in store.state(identity).cgroup_paths:
        for name in (v1, v2):
            file = Path(path, name)
            if file.exists():
                return file.read_text().strip()
    raise AssertionError(f"neither {v1} nor {v2}")


async def test_limits_of_one_that_runs_change_at_once_and_stay(store: Store) -> None:
    async with store.engine() as engine:
        skip_without(engine, "memory", "pids", "cpu")
        identity = await store.start(engine, *WAITS)
        first = store.state(identity).process_id
        limits = ResourceLimits(memory_bytes=64 * MEGABYTES, pids=50, cpu_count=0.5)
        assert await engine.update_container("web", ContainerUpdate(limits=limits)) == ()
        assert store.state(identity).process_id == first
        for _ in range(2):
            memory = limit(store, identity, "memory.limit_in_bytes", "memory.max")
            quota = limit(store, identity, "cpu.cfs_quota_us", "cpu.max")
            assert (memory, quota.split()[0]) == (str(64 * MEGABYTES), "50000")
            assert limit(store, identity, "pids.max", "pids.max") == "50"
            await engine.restart_container("web")
        limits = ResourceLimits(memory_bytes=0, pids=0, cpu_count=0)
        await engine.update_container("web", ContainerUpdate(limits=limits))
        assert limit(store, identity, "pids.max", "pids.max") == "max"
        assert limit(store, identity, "cpu.cfs_quota_us", "cpu.max").split()[0] in {"-1", "max"}
        memory = limit(store, identity, "memory.limit_in_bytes", "memory.max")
        assert memory == "max" or int(memory) > 1 << 60
        assert store.actions(identity, "update") == ["update"] * 2
        shown = (await engine.inspect_container("web")).limits
        assert (shown.memory_bytes, shown.pids, shown.cpu_count) == (None, None, None)


async def test_a_paused_container_can_be_changed(store: Store) -> None:
    async with store.engine() as engine:
        skip_without(engine, "pids")
        identity = await store.start(engine, *WAITS)
        await engine.pause_container("web")
        limits = ResourceLimits(pids=33)
        await engine.update_container("web", ContainerUpdate(limits=limits))
        assert limit(store, identity, "pids.max", "pids.max") == "33"
        await engine.unpause_container("web")


async def test_what_the_kernel_refuses_changes_nothing(store: Store) -> None:
    async with store.engine() as engine:
        skip_without(engine, "memory")
        identity = await store.start(engine, "sh", "-c", FILLS)
        async for batch in engine.follow_logs("web", is_following=True):
            if any(line.text == b"full" for line in batch):
                break
        if not any(
            Path(path, "memory.limit_in_bytes").exists()
            for path in store.state(identity).cgroup_paths
        ):
            pytest.skip("cgroup v2 kills instead of refusing")
        limits = ResourceLimits(memory_bytes=6 * MEGABYTES, memory_swap_bytes=6 * MEGABYTES, pids=9)
        with pytest.raises(EngineError, match=f"Cannot update container {identity}: "):
            await engine.update_container("web", ContainerUpdate(limits=limits))
        assert int(limit(store, identity, "memory.limit_in_bytes", "memory.max")) > 1 << 60
        assert limit(store, identity, "pids.max", "pids.max") == "2048"
        assert (await engine.inspect_container("web")).limits.memory_bytes is None
        assert store.actions(identity, "update") == []


@pytest.mark.root
async def test_a_restart_policy_holds_from_the_moment_it_is_given(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS)
        policy = RestartPolicy(name="on-failure", maximum_retry_count=1)
        await engine.update_container("web", ContainerUpdate(restart_policy=policy))
        assert (await engine.inspect_container("web")).restart_policy == policy
        await store.kill(store.state(identity).process_id)
        await store.until_told(identity, "start", 2)
        await engine.update_container(
            "web", ContainerUpdate(restart_policy=RestartPolicy(name="no"))
        )
        await store.kill(store.state(identity).process_id)
        await store.until_told(identity, "die", 2)
        assert (await engine.wait_container("web")).exit_code == 137
