"""Each limit, read by the container from its own control group."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import InvalidInputError
from engine.types import ContainerRequest, ResourceLimits

if TYPE_CHECKING:
    from engine.api import EngineApi

    from .conftest import Run

pytestmark = pytest.mark.root

MEGABYTES = 1 << 20
# The file on v1 and on v2; hosts with both have one of them.
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "both": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "nodes": ("cpuset/cpuset.mems", "cpuset.mems"),
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "period": ("cpu/cpu.cfs_period_us", "cpu.max"),
    "pids": ("pids/pids.max", "pids.max"),
}


def script(*names: str) -> str:
    """Print which file there is and what is in it."""
    parts = []
    for name in names:
        v1, v2 = FILES[name]
        v1 = (
            v1.replace("cpu/", "cpu,cpuacct/")
            if os.path.isdir("/sys/fs/cgroup/cpu,cpuacct")
            else v1
        )
        parts.append(f"if [ -e {v1} ]; then echo 1 $(cat {v1}); else echo 2 $(cat {v2}); fi")
    return "cd /sys/fs/cgroup; " + "; ".join(parts)


async def test_memory_swap_and_reservation_reach_the_group(run: Run) -> None:
    limits = ResourceLimits(
        memory_bytes=32 * MEGABYTES,
        memory_swap_bytes=40 * MEGABYTES,
        memory_reservation_bytes=16 * MEGABYTES,
    )
    said = await run(script("memory", "both", "reservation"), limits=limits)
    memory, both, reservation = said.lines
    assert memory.split()[1] == str(32 * MEGABYTES)
    assert both in {f"1 {40 * MEGABYTES}", f"2 {8 * MEGABYTES}"}
    assert reservation.split()[1] == str(16 * MEGABYTES)


async def test_without_a_word_about_swap_it_is_as_much_as_the_memory(run: Run) -> None:
    said = await run(script("both"), limits=ResourceLimits(memory_bytes=32 * MEGABYTES))
    assert said.lines[0] in {f"1 {64 * MEGABYTES}", f"2 {32 * MEGABYTES}"}


async def test_swap_can_be_had_without_limit(run: Run) -> None:
    limits = ResourceLimits(memory_bytes=32 * MEGABYTES, memory_swap_bytes=-1)
    (line,) = (await run(script("both"), limits=limits)).lines
    version, value = line.split()
    assert value == "max" if version == "2" else int(value) > 1 << 60


async def test_swappiness_is_set_or_said_to_be_discarded(run: Run, engine: EngineApi) -> None:
    limits = ResourceLimits(memory_bytes=32 * MEGABYTES, memory_swappiness=7)
    said = await run("cat /sys/fs/cgroup/memory/memory.swappiness || :", limits=limits)
    if engine.host.cgroup_mode == "v2":
        pytest.skip("cgroup v2 has no swappiness; tests/unit/cgroups has the warning")
    assert said.lines == ["7"]


async def test_shares_and_quota_reach_the_group(run: Run) -> None:
    limits = ResourceLimits(
        cpu_shares=512, cpu_period_microseconds=50_000, cpu_quota_microseconds=20_000
    )
    shares, quota, period = (await run(script("shares", "quota", "period"), limits=limits)).lines
    assert shares in {"1 512", "2 59"}
    assert (quota, period) in {("1 20000", "1 50000"), ("2 20000 50000",) * 2}


async def test_it_runs_on_the_processors_that_were_asked_for(run: Run) -> None:
    last = max(os.sched_getaffinity(0))
    limits = ResourceLimits(cpuset_cpus=str(last), cpuset_memory_nodes="0")
    said = await run(
        f"{script('cpus', 'nodes')}; grep Cpus_allowed_list /proc/self/status", limits=limits
    )
    cpus, nodes, allowed = said.lines
    assert (cpus.split()[1], nodes.split()[1], allowed.split()[1]) == (str(last), "0", str(last))


async def test_the_weight_of_its_disk_use_is_set_or_said_to_be_discarded(run: Run) -> None:
    files = "blkio/blkio.weight blkio/blkio.bfq.weight io.bfq.weight io.weight"
    looks = f"cd /sys/fs/cgroup; for f in {files}; do [ -e $f ] && cat $f; done; exit 0"
    said = await run(looks, limits=ResourceLimits(block_weight=300))
    assert not said.text or "300" in said.text or "2930" in said.text


async def test_processes_can_be_without_limit(run: Run) -> None:
    (line,) = (await run(script("pids"), limits=ResourceLimits(pids=-1))).lines
    assert line.split()[1] == "max"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (ResourceLimits(cpuset_cpus="4000"), "Requested CPUs are not available - requested 4000"),
        (
            ResourceLimits(cpuset_memory_nodes="0-900"),
            "Requested memory nodes are not available - requested 0-900",
        ),
    ],
)
async def test_processors_that_the_host_does_not_have_are_refused(
    engine: EngineApi, starter_image: object, limits: ResourceLimits, text: str
) -> None:
    with pytest.raises(InvalidInputError, match=text):
        await engine.create_container(ContainerRequest(image="starter", limits=limits))
    assert await engine.list_containers() == ()


async def test_inspect_shows_the_limits(engine: EngineApi, starter_image: object) -> None:
    limits = ResourceLimits(memory_bytes=32 * MEGABYTES, cpu_shares=512, cpuset_cpus="0", pids=9)
    await engine.create_container(ContainerRequest(image="starter", name="one", limits=limits))
    assert (await engine.inspect_container("one")).limits == limits
