"""The part of `inspect` that Docker calls HostConfig: limits and options of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli.template_functions import LabelMap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import ProcessOptions, ResourceLimits
    from tui.cli.documents import Document

_DEFAULT_SHARED_MEMORY_BYTES = 64 << 20


def limit_fields(limits: ResourceLimits) -> dict[str, Document]:
    """The limits by Docker's names; 0 and empty are none."""
    return {
        "Memory": limits.memory_bytes or 0,
        "MemorySwap": _memory_and_swap(limits),
        "MemoryReservation": limits.memory_reservation_bytes or 0,
        "MemorySwappiness": limits.memory_swappiness,
        "NanoCpus": round((limits.cpu_count or 0) * 1e9),
        "CpuShares": limits.cpu_shares or 0,
        "CpuPeriod": limits.cpu_period_microseconds or 0,
        "CpuQuota": limits.cpu_quota_microseconds or 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_memory_nodes,
        "BlkioWeight": limits.block_weight or 0,
        "PidsLimit": limits.pids,
    }


def _memory_and_swap(limits: ResourceLimits) -> int:
    if limits.memory_swap_bytes is not None:
        return limits.memory_swap_bytes
    return (limits.memory_bytes or 0) * 2


def option_fields(options: ProcessOptions) -> dict[str, Document]:
    """The options by Docker's names."""
    return {
        "CapAdd": _words(options.cap_add),
        "CapDrop": _words(options.cap_drop),
        "CgroupnsMode": options.cgroup_namespace_mode or "private",
        "Devices": [
            {
                "PathOnHost": device.host_path,
                "PathInContainer": device.container_path,
                "CgroupPermissions": device.access,
            }
            for device in options.devices
        ],
        "GroupAdd": _words(options.group_add),
        "IpcMode": options.ipc_mode or "private",
        "OomScoreAdj": options.oom_score_adjustment,
        "PidMode": options.pid_mode,
        "Privileged": options.is_privileged,
        "SecurityOpt": _words(_security(options)),
        "ShmSize": options.shared_memory_bytes or _DEFAULT_SHARED_MEMORY_BYTES,
        "Sysctls": LabelMap(options.sysctls),
        "Ulimits": [
            {"Name": ulimit.name, "Soft": ulimit.soft, "Hard": ulimit.hard}
            for ulimit in options.ulimits
        ],
        "UTSMode": options.uts_mode,
        "UsernsMode": options.user_namespace_mode,
    }


def _security(options: ProcessOptions) -> Iterable[str]:
    if options.has_no_new_privileges:
        yield "no-new-privileges"
    if options.has_unconfined_system_paths:
        yield "systempaths=unconfined"
    if options.seccomp_profile:
        yield f"seccomp={options.seccomp_profile}"


def _words(words: Iterable[str]) -> Document:
    found: list[Document] = [*words]
    return found or None
