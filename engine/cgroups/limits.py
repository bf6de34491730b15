"""What a container's control group limits."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """One line of the device allow-list (cgroup v1 `devices.allow` syntax in fields).

    Attributes:
        kind: `c` or `b`.
        major: Device number, -1 for every one.
        minor: Device number, -1 for every one.
        access: Letters of `rwm`.
    """

    kind: str
    major: int
    minor: int
    access: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupSpec:
    """Where the container's processes go and what they may use; None and 0 are no limit.

    Attributes:
        name: Directory below the parent group: the container's id.
        mode: `v2`, `v1`, `hybrid` or `none`, as it was found when this was written; whoever makes
            the group finds it out afresh, as the host may have been started otherwise since.
        parent: The parent group, `/lamella` for root, or the delegated group; empty is the
            host's own.
        memory_bytes: Hard limit, without swap.
        memory_swap_bytes: Hard limit of memory and swap together; -1 is none, and None as much
            again as `memory_bytes`.
        memory_reservation_bytes: What it keeps when the host runs short.
        memory_swappiness: 0 to 100; v1 only.
        cpu_quota_microseconds: Processor time in each period.
        cpu_period_microseconds: How long a period is.
        cpu_shares: Weight of 2 to 262144, as v1 counts.
        cpuset_cpus: Processors, as a list such as `0-2,4`; empty is all of the group above.
        cpuset_memory_nodes: As above, of memory nodes.
        block_weight: Weight of 10 to 1000, as v1 counts.
        pids: Most processes at once.
        device_rules: What devices may be opened; everything else is refused. None at all refuses
            nothing.
    """

    name: str
    mode: str = ""
    parent: str = ""
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None
    cpu_quota_microseconds: int | None = None
    cpu_period_microseconds: int = 100_000
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_memory_nodes: str = ""
    block_weight: int | None = None
    pids: int | None = None
    device_rules: tuple[DeviceRule, ...] = ()
