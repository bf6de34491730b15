"""What a container's control group limits."""

from __future__ import annotations

from dataclasses import dataclass


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
        cpu_quota_microseconds: Processor time in each 100,000 microseconds.
        pids: Most processes at once.
        device_rules: What devices may be opened; everything else is refused. None at all refuses
            nothing.
    """

    name: str
    mode: str = ""
    parent: str = ""
    memory_bytes: int | None = None
    cpu_quota_microseconds: int | None = None
    pids: int | None = None
    device_rules: tuple[DeviceRule, ...] = ()
