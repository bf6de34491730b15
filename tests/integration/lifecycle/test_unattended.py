"""What goes on with no application open: want of memory is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerStatus, ResourceLimits, RestartPolicy

if TYPE_CHECKING:
    from tests.integration.lifecycle.conftest import Store

MEGABYTES = 1 << 20
LIMITS = ResourceLimits(memory_bytes=16 * MEGABYTES, memory_swap_bytes=16 * MEGABYTES)
GROWS = "x=0123456789abcdef; while :; do x=$x$x; done"


def skip_without_memory(engine) -> None:
    missing = engine._services.cgroups.missing_limits
    if "memory" in missing:
        pytest.skip(f"no memory controller: {missing['memory']}")


async def test_a_killed_child_is_told_while_the_container_runs_on(store: Store) -> None:
    async with store.engine() as engine:
        skip_without_memory(engine)
        identity = await store.start(
            engine, "sh", "-c", f"sh -c '{GROWS}'; echo $?; exec sleep 1000", limits=LIMITS
        )
    await store.until_told(identity, "oom")
    async with store.engine() as engine:
        summary = (await engine.inspect_container("web")).summary
        assert (summary.status, summary.is_out_of_memory_killed) == (ContainerStatus.RUNNING, True)
        await engine.kill_container("web")
        assert (await engine.inspect_container("web")).summary.is_out_of_memory_killed
        assert store.actions(identity, "oom", "die") == ["oom", "die"]
        await engine.start_container("web")
        await store.until_told(identity, "oom", 2)


async def test_each_run_that_is_killed_is_told_and_restarted(store: Store) -> None:
    async with store.engine() as engine:
        skip_without_memory(engine)
        identity = await store.start(
            engine,
            "sh",
            "-c",
            GROWS,
            limits=LIMITS,
            restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1),
        )
    await store.until_monitor_has_ended(identity)
    assert store.actions(identity, "start", "oom", "die") == ["start", "oom", "die"] * 2
    async with store.engine() as engine:
        status = await engine.wait_container("web")
        assert (status.exit_code, status.is_out_of_memory_killed) == (137, True)
