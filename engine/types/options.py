"""What a container's processes may do, beyond what its image says."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """One resource limit of setrlimit(2); -1 is no limit."""

    name: str
    """Without `RLIMIT_`, in small letters: `nofile`."""
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """A device of the host's, or a directory of them, in the container."""

    host_path: str
    container_path: str
    access: str = "rwm"
    """Letters of `rwm`: read, write, make nodes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """Everything that `run` takes about privileges, namespaces, devices and process attributes.

    A namespace mode is empty for the usual one, which is the container's own.
    """

    group_add: tuple[str, ...] = ()
    """Further groups, by name or number."""
    ulimits: tuple[Ulimit, ...] = ()
    cap_add: tuple[str, ...] = ()
    """Names of capabilities, with or without `CAP_`, or `ALL`."""
    cap_drop: tuple[str, ...] = ()
    seccomp_profile: str = ""
    """Empty for the usual one, `unconfined`, or a profile as Docker and OCI write it (JSON)."""
    has_no_new_privileges: bool = False
    has_unconfined_system_paths: bool = False
    """Mask nothing of /proc and /sys, and make nothing read-only there."""
    is_privileged: bool = False
    """Every capability and every device that there is, no filter, no masks."""
    devices: tuple[DeviceRequest, ...] = ()
    shared_memory_bytes: int | None = None
    """Size of /dev/shm; None is 64 MB."""
    pid_mode: str = ""
    """`host`, or `container:` and a name or id."""
    ipc_mode: str = ""
    """`private` (the usual one), `shareable`, `none`, `host`, or `container:` and a name or id."""
    uts_mode: str = ""
    """`host`."""
    user_namespace_mode: str = ""
    """`host`."""
    cgroup_namespace_mode: str = ""
    """`private` (the usual one) or `host`."""
    sysctls: tuple[tuple[str, str], ...] = ()
    """Kernel parameters of the container's own namespaces."""
    oom_score_adjustment: int = 0
    """-1000 to 1000: how readily the kernel kills it when memory runs out."""
