"""Change what a container that runs is limited to.

Blocking, standard library alone: monitors use it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.cgroups.control_files import write_text
from engine.cgroups.limit_files import write_limits
from engine.errors import SyscallError

if TYPE_CHECKING:
    from engine.cgroups.group import Cgroup
    from engine.cgroups.limits import CgroupSpec


def change_limits(group: Cgroup, earlier: CgroupSpec, later: CgroupSpec) -> list[str]:
    """Take away the limits that `later` no longer has, and set those that it has.

    Returns warnings: a limit whose controller or file is missing.

    Raises:
        SyscallError: The kernel refused a value, such as less memory than is in use. What was
            changed by then is as it was before, as far as the kernel lets it.
    """
    try:
        _lift_limits(group, earlier, later)
        return write_limits(group, later)
    except SyscallError:
        with contextlib.suppress(SyscallError):
            _lift_limits(group, later, earlier)
            write_limits(group, earlier)
        raise


def _lift_limits(group: Cgroup, earlier: CgroupSpec, later: CgroupSpec) -> None:
    for is_lifted, controller, v1_files, v2_files in (
        (
            earlier.memory_bytes and not later.memory_bytes,
            "memory",
            # Memory alone may never be more than memory and swap together.
            (("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")),
            (("memory.max", "max"), ("memory.swap.max", "max")),
        ),
        (
            earlier.memory_reservation_bytes and not later.memory_reservation_bytes,
            "memory",
            (("memory.soft_limit_in_bytes", "-1"),),
            (("memory.low", "0"),),
        ),
        (
            earlier.cpu_quota_microseconds and not later.cpu_quota_microseconds,
            "cpu",
            (("cpu.cfs_quota_us", "-1"),),
            (("cpu.max", "max"),),
        ),
        (
            earlier.cpu_shares and not later.cpu_shares,
            "cpu",
            (("cpu.shares", "1024"),),
            (("cpu.weight", "100"),),
        ),
        (
            earlier.block_weight and not later.block_weight,
            "blkio",
            (("blkio.weight", "500"), ("blkio.bfq.weight", "100")),
            (),
        ),
        (
            earlier.block_weight and not later.block_weight,
            "io",
            (),
            (("io.bfq.weight", "100"), ("io.weight", "100")),
        ),
        (
            earlier.pids and not later.pids,
            "pids",
            (("pids.max", "max"),),
            (("pids.max", "max"),),
        ),
    ):
        path = group.path_of(controller) if is_lifted else None
        for name, value in v2_files if path == group.unified_path else v1_files:
            if path is not None and os.path.exists(f"{path}/{name}"):
                write_text(f"{path}/{name}", value)
