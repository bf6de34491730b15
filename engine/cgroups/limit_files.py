"""Write a container's limits into the files of its group, in the words of v1 or v2.

Blocking, standard library alone: monitors use it, when a container starts and when its limits
are changed while it runs.
"""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING

from engine.cgroups.control_files import write_text
from engine.errors import SyscallError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.cgroups.group import Cgroup
    from engine.cgroups.limits import CgroupSpec

_FEWEST_SHARES, _MOST_SHARES = 2, 262_144


def write_limits(group: Cgroup, spec: CgroupSpec) -> list[str]:
    """Set every limit that `spec` has, and leave the others as they are; returns warnings.

    A limit whose controller or file is missing makes a warning.

    Raises:
        SyscallError: The kernel refused a value, such as less memory than is in use.
    """
    warnings: list[str] = []
    for is_asked, controller, write in (
        (spec.cpuset_cpus or spec.cpuset_memory_nodes, "cpuset", _limit_cpuset),
        (_asks_for_memory(spec), "memory", _limit_memory),
        (spec.cpu_quota_microseconds or spec.cpu_shares, "cpu", _limit_cpu),
        (spec.pids, "pids", _limit_pids),
    ):
        if not is_asked:
            continue
        path = group.path_of(controller)
        if path is None:
            warnings.append(
                f"the host gives no {controller} controller: the {controller} limit is discarded"
            )
        else:
            warnings += write(_Directory(path, is_v2=path == group.unified_path), spec)
    if spec.block_weight:
        warnings += _weigh_blocks(group, spec.block_weight)
    return warnings


@dataclass(frozen=True, slots=True)
class _Directory:
    """The group's directory in the hierarchy of one controller."""

    path: str
    is_v2: bool

    def has(self, name: str) -> bool:
        return os.path.exists(f"{self.path}/{name}")

    def write(self, name: str, value: int | str) -> None:
        write_text(f"{self.path}/{name}", str(value))


def cpu_weight(shares: int) -> int:
    """The v2 weight of 1 to 10,000 for shares of v1.

    The curve through 2, 1024 and 262144 shares at weights 1, 100 and 10,000 (opencontainers
    cgroups, ConvertCPUSharesToCgroupV2Value).
    """
    exponent = math.log2(min(max(shares, _FEWEST_SHARES), _MOST_SHARES))
    return min(math.ceil(10 ** ((exponent**2 + 125 * exponent) / 612 - 7 / 34)), 10_000)


def _asks_for_memory(spec: CgroupSpec) -> bool:
    return bool(
        spec.memory_bytes or spec.memory_reservation_bytes or spec.memory_swappiness is not None
    )


def _limit_cpuset(group: _Directory, spec: CgroupSpec) -> list[str]:
    if spec.cpuset_cpus:
        group.write("cpuset.cpus", spec.cpuset_cpus)
    if spec.cpuset_memory_nodes:
        group.write("cpuset.mems", spec.cpuset_memory_nodes)
    return []


def _limit_memory(group: _Directory, spec: CgroupSpec) -> list[str]:
    memory = spec.memory_bytes
    if memory:
        both = memory * 2 if spec.memory_swap_bytes is None else spec.memory_swap_bytes
        if not group.is_v2:
            _limit_memory_v1(group, memory, both)
        else:
            group.write("memory.max", memory)
            # Absent with swapaccount=0.
            if group.has("memory.swap.max"):
                group.write("memory.swap.max", "max" if both < 0 else both - memory)
    if spec.memory_reservation_bytes:
        name = "memory.low" if group.is_v2 else "memory.soft_limit_in_bytes"
        group.write(name, spec.memory_reservation_bytes)
    if spec.memory_swappiness is not None:
        if group.is_v2:
            return ["cgroup v2 has no swappiness of a container: --memory-swappiness is discarded"]
        group.write("memory.swappiness", spec.memory_swappiness)
    return []


def _limit_memory_v1(group: _Directory, memory: int, both: int) -> None:
    """At no time may memory alone be more than both together, so the order is not always this."""
    limits = [("memory.limit_in_bytes", memory)]
    if group.has("memory.memsw.limit_in_bytes"):
        limits.append(("memory.memsw.limit_in_bytes", both))
    try:
        for name, value in limits:
            group.write(name, value)
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        for name, value in reversed(limits):
            group.write(name, value)


def _limit_cpu(group: _Directory, spec: CgroupSpec) -> list[str]:
    quota, period = spec.cpu_quota_microseconds, spec.cpu_period_microseconds
    if quota and group.is_v2:
        group.write("cpu.max", f"{quota} {period}")
    elif quota:
        group.write("cpu.cfs_period_us", period)
        group.write("cpu.cfs_quota_us", quota)
    if spec.cpu_shares and group.is_v2:
        group.write("cpu.weight", cpu_weight(spec.cpu_shares))
    elif spec.cpu_shares:
        group.write("cpu.shares", spec.cpu_shares)
    return []


def _limit_pids(group: _Directory, spec: CgroupSpec) -> list[str]:
    group.write("pids.max", spec.pids or "max")
    return []


def _weigh_blocks(group: Cgroup, weight: int) -> list[str]:
    """Weigh by whatever scheduler the kernel has for it; Docker's words when there is none."""
    on_v1, on_v2 = group.path_of("blkio"), group.path_of("io")
    for path, name, value in (
        (on_v1, "blkio.weight", weight),
        (on_v1, "blkio.bfq.weight", weight),
        (on_v2, "io.bfq.weight", weight),
        # 10 to 1000 becomes 1 to 10,000.
        (on_v2, "io.weight", 1 + (weight - 10) * 9999 // 990),
    ):
        if path is not None and os.path.exists(f"{path}/{name}"):
            write_text(f"{path}/{name}", str(value))
            return []
    return [
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. "
        "Weight discarded."
    ]
