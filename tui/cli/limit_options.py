"""The options that limit what a container uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import ResourceLimits
from tui.cli import values
from tui.cli.options import Option

if TYPE_CHECKING:
    from tui.cli.options import Arguments

LIMIT_OPTIONS = (
    Option("memory", "m", "SIZE", "Memory limit, such as 512m; at least 6m"),
    Option("memory-swap", "", "SIZE", "Limit of memory and swap together; -1 is no limit"),
    Option("memory-reservation", "", "SIZE", "What it keeps when the host runs short of memory"),
    Option("memory-swappiness", "", "NUMBER", "How readily it is swapped out, 0 to 100"),
    Option("cpus", "", "NUMBER", "Processor limit, such as 1.5"),
    Option("cpu-shares", "c", "NUMBER", "Weight against other containers; 1024 is the usual"),
    Option("cpu-period", "", "MICROSECONDS", "Period that --cpu-quota counts in"),
    Option("cpu-quota", "", "MICROSECONDS", "Processor time in each period"),
    Option("cpuset-cpus", "", "NUMBERS", "Processors to run on, such as 0-2,4"),
    Option("cpuset-mems", "", "NUMBERS", "Memory nodes to use, such as 0,1"),
    Option("blkio-weight", "", "NUMBER", "Share of the disks against others, 10 to 1000"),
    Option("pids-limit", "", "NUMBER", "Most processes at once; -1 is no limit"),
)


def read_limits(arguments: Arguments) -> ResourceLimits:
    """Make the limits from the command line.

    Raises:
        LimitError: A value is no number, or no size.
    """

    def number(name: str, *, smallest: int = 0) -> int | None:
        return values.optional_number(f"--{name}", arguments.text(name), smallest=smallest)

    def size(name: str) -> int | None:
        return values.size_bytes(f"--{name}", arguments.text(name))

    return ResourceLimits(
        memory_bytes=values.memory_bytes(arguments.text("memory")),
        memory_swap_bytes=size("memory-swap"),
        memory_reservation_bytes=size("memory-reservation"),
        memory_swappiness=number("memory-swappiness", smallest=-1),
        cpu_count=values.cpu_count(arguments.text("cpus")),
        cpu_period_microseconds=number("cpu-period"),
        cpu_quota_microseconds=number("cpu-quota", smallest=-1),
        cpu_shares=number("cpu-shares"),
        cpuset_cpus=arguments.text("cpuset-cpus") or "",
        cpuset_memory_nodes=arguments.text("cpuset-mems") or "",
        block_weight=number("blkio-weight"),
        pids=values.pids(arguments.text("pids-limit")),
    )
