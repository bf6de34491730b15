"""What limits a request may ask for, with Docker's rules and words, and what they become."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, LimitError
from engine.runtime.isolation import DEFAULT_PIDS_LIMIT, DEVICE_RULES
from engine.runtime.spec import CgroupSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.cgroups.limits import DeviceRule
    from engine.types import ResourceLimits

SMALLEST_MEMORY_BYTES = 6 << 20
"""Docker's; below it a program can hardly be started."""
SMALLEST_CPU_COUNT = 0.01
NO_LIMIT = -1
DEFAULT_CPU_PERIOD_MICROSECONDS = 100_000
_SMALLEST_QUOTA_MICROSECONDS = 1000
_PERIODS_MICROSECONDS = range(1000, 1_000_001)
_BLOCK_WEIGHTS = range(10, 1001)
_SWAPPINESS = range(101)
_CPUSET = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*", re.ASCII)
_HIGHEST_CPUSET_NUMBER = 8192

_ONLINE_PROCESSORS = "/sys/devices/system/cpu/online"
_ONLINE_MEMORY_NODES = "/sys/devices/system/node/online"


def check_limits(limits: ResourceLimits) -> None:
    """Refuse limits that contradict themselves or each other.

    Raises:
        LimitError, InvalidInputError: One does.
    """
    _check_memory(limits)
    _check_processors(limits)
    for option, what, value in (
        ("--cpuset-cpus", "cpus", limits.cpuset_cpus),
        ("--cpuset-mems", "mems", limits.cpuset_memory_nodes),
    ):
        if value and (not _CPUSET.fullmatch(value) or None in _ranges(value)):
            raise InvalidInputError(
                f"Invalid value {value} for cpuset {what}",
                hint=f"{option} takes numbers and ranges, such as 0-2,4",
            )
    weight = limits.block_weight
    if weight and weight not in _BLOCK_WEIGHTS:
        raise InvalidInputError(
            "Range of blkio weight is from 10 to 1000", hint="--blkio-weight 0 is the default"
        )
    if limits.pids is not None and limits.pids < NO_LIMIT:
        raise LimitError("--pids-limit", str(limits.pids), "a number of processes, or -1")


def _check_memory(limits: ResourceLimits) -> None:
    memory = limits.memory_bytes or 0
    if memory not in {0, NO_LIMIT} and memory < SMALLEST_MEMORY_BYTES:
        raise LimitError("--memory", f"{memory} bytes", "at least 6 MB (6m)")
    both = limits.memory_swap_bytes or 0
    if both < NO_LIMIT:
        raise LimitError("--memory-swap", str(both), "a size, or -1 for no limit")
    if both > 0 and memory <= 0:
        raise InvalidInputError(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            hint="--memory-swap counts memory and swap together: give --memory too",
        )
    if 0 < both < memory:
        raise InvalidInputError(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            hint="--memory-swap counts memory and swap together; the same as --memory is no swap",
        )
    swappiness = limits.memory_swappiness
    if swappiness is not None and swappiness not in {*_SWAPPINESS, NO_LIMIT}:
        raise InvalidInputError(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100",
            hint="--memory-swappiness -1 is the host's own",
        )
    reservation = limits.memory_reservation_bytes or 0
    if reservation and reservation < SMALLEST_MEMORY_BYTES:
        raise LimitError("--memory-reservation", f"{reservation} bytes", "at least 6 MB (6m)")
    if 0 < memory < reservation:
        raise InvalidInputError(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
            hint="--memory-reservation is what is kept, --memory the most that may be used",
        )


def _check_processors(limits: ResourceLimits) -> None:
    processors = os.cpu_count() or 1
    cpus = limits.cpu_count
    if cpus and not SMALLEST_CPU_COUNT <= cpus <= processors:
        raise LimitError(
            "--cpus",
            f"{cpus:g}",
            f"0.01 to {processors}.00, as there are only {processors} CPUs available",
        )
    period, quota = limits.cpu_period_microseconds, limits.cpu_quota_microseconds
    for what, value in (("Period", period), ("Quota", quota)):
        if cpus and value:
            raise InvalidInputError(
                f"Conflicting options: Nano CPUs and CPU {what} cannot both be set",
                hint="--cpus is quota divided by period: leave one of them out",
            )
    if period and period not in _PERIODS_MICROSECONDS:
        raise InvalidInputError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            hint="--cpu-period is in microseconds",
        )
    if quota and quota != NO_LIMIT and quota < _SMALLEST_QUOTA_MICROSECONDS:
        raise InvalidInputError(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            hint="--cpu-quota is in microseconds of each period",
        )
    if limits.cpu_shares is not None and limits.cpu_shares < 0:
        raise LimitError("--cpu-shares", str(limits.cpu_shares), "a weight of 2 to 262144, or 0")


def check_cpusets(limits: ResourceLimits) -> None:
    """Refuse processors and memory nodes that the host does not have; blocking.

    Raises:
        InvalidInputError: One is not there.
    """
    for what, asked, path in (
        ("CPUs", limits.cpuset_cpus, _ONLINE_PROCESSORS),
        ("memory nodes", limits.cpuset_memory_nodes, _ONLINE_MEMORY_NODES),
    ):
        if not asked:
            continue
        try:
            with open(path, encoding="ascii") as online:
                available = online.read().strip()
        except FileNotFoundError:
            available = "0"  # a kernel without memory nodes counts one
        if not _numbers(asked) <= _numbers(available):
            raise InvalidInputError(
                f"Requested {what} are not available - requested {asked}, available: {available}",
                hint="`lscpu` shows what this host has",
            )


def _numbers(cpuset: str) -> set[int]:
    return {number for some in _ranges(cpuset) if some is not None for number in some}


def _ranges(cpuset: str) -> list[range | None]:
    """The ranges of a list such as `0-2,4`; None for one that goes down or too far up."""
    ranges: list[range | None] = []
    for part in cpuset.split(","):
        first, _, last = part.partition("-")
        found = range(int(first), int(last or first) + 1)
        ranges.append(found if found and found.stop <= _HIGHEST_CPUSET_NUMBER else None)
    return ranges


def effective_limits(limits: ResourceLimits) -> ResourceLimits:
    """Put defaults in: without a word about processes there is a limit all the same.

    In a request 0 and -1 stand for no limit, as Docker's options have it.
    """
    memory = limits.memory_bytes if limits.memory_bytes and limits.memory_bytes > 0 else None
    pids = DEFAULT_PIDS_LIMIT if limits.pids is None else limits.pids
    swappiness = limits.memory_swappiness
    return replace(
        limits,
        memory_bytes=memory,
        memory_swap_bytes=(limits.memory_swap_bytes or None) if memory else None,
        memory_reservation_bytes=limits.memory_reservation_bytes or None,
        memory_swappiness=None if swappiness == NO_LIMIT else swappiness,
        cpu_count=limits.cpu_count or None,
        cpu_period_microseconds=limits.cpu_period_microseconds or None,
        cpu_quota_microseconds=limits.cpu_quota_microseconds or None,
        cpu_shares=limits.cpu_shares or None,
        block_weight=limits.block_weight or None,
        pids=pids if pids > 0 else None,
    )


def limit_warnings(limits: ResourceLimits, missing: Mapping[str, str]) -> tuple[str, ...]:
    """What a request asks for that this host does not give.

    Args:
        limits: As they were asked for; defaults that the host lacks are not worth a word.
        missing: Why a controller cannot be used here, by its v1 name.
    """
    asked = (
        ("memory", "--memory", limits.memory_bytes),
        ("memory", "--memory-reservation", limits.memory_reservation_bytes),
        ("swappiness", "--memory-swappiness", _given(limits.memory_swappiness)),
        ("cpu", "--cpus", limits.cpu_count),
        ("cpu", "--cpu-quota", limits.cpu_quota_microseconds),
        ("cpu", "--cpu-shares", limits.cpu_shares),
        ("cpuset", "--cpuset-cpus", len(limits.cpuset_cpus)),
        ("cpuset", "--cpuset-mems", len(limits.cpuset_memory_nodes)),
        ("blkio", "--blkio-weight", limits.block_weight),
        ("pids", "--pids-limit", limits.pids),
    )
    return tuple(
        f"{option} has no effect: {missing[controller]}"
        for controller, option, value in asked
        if value and value > 0 and controller in missing
    )


def _given(swappiness: int | None) -> int:
    """More than 0 if it was asked for: 0 is a value like any other."""
    return 0 if swappiness is None else swappiness + 1


def cgroup_spec(
    limits: ResourceLimits,
    *,
    name: str,
    mode: str,
    parent: str,
    device_rules: tuple[DeviceRule, ...] = DEVICE_RULES,
) -> CgroupSpec:
    """What the group of a container with these (effective) limits is told."""
    period = limits.cpu_period_microseconds or DEFAULT_CPU_PERIOD_MICROSECONDS
    quota = limits.cpu_quota_microseconds
    if limits.cpu_count is not None:
        quota = max(_SMALLEST_QUOTA_MICROSECONDS, round(limits.cpu_count * period))
    return CgroupSpec(
        name=name,
        mode=mode,
        parent=parent,
        memory_bytes=limits.memory_bytes,
        memory_swap_bytes=limits.memory_swap_bytes,
        memory_reservation_bytes=limits.memory_reservation_bytes,
        memory_swappiness=limits.memory_swappiness,
        cpu_quota_microseconds=None if quota == NO_LIMIT else quota,
        cpu_period_microseconds=period,
        cpu_shares=limits.cpu_shares,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_memory_nodes=limits.cpuset_memory_nodes,
        block_weight=limits.block_weight,
        pids=limits.pids,
        device_rules=device_rules,
    )
