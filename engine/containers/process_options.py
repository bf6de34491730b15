"""What a request may say about its process, with Docker's rules and words."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from engine.containers.privileges import (
    UNCONFINED,
    available_capabilities,
    resolve_capabilities,
    seccomp_filter,
)
from engine.errors import FeatureUnavailableError, InvalidInputError
from engine.linux.capabilities import CAPABILITY_NAMES
from engine.runtime.resource_limits import ULIMIT_NUMBERS
from engine.types import ProcessOptions

if TYPE_CHECKING:
    from engine.types import DeviceRequest, Ulimit

JOIN = "container:"
HOST = "host"
_NONE = ProcessOptions()
_ALL_CAPABILITIES = frozenset(range(len(CAPABILITY_NAMES)))
_OOM_SCORES = range(-1000, 1001)
_SMALLEST_ULIMIT = -1
_LARGEST_ULIMIT = 2**63 - 1

_IPC_SYSCTLS = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
_IPC_SYSCTL_PREFIX = "fs.mqueue."
_NETWORK_SYSCTL_PREFIX = "net."
_SYSCTL = re.compile(r"[a-zA-Z0-9_*-]+(?:[./][a-zA-Z0-9_*:-]+)+", re.ASCII)


def check_options(options: ProcessOptions, *, hostname: str | None) -> None:
    """Refuse what can work on no host, before anything is made.

    Args:
        options: What was asked for.
        hostname: The host name that was asked for.

    Raises:
        InvalidInputError: A value makes no sense, or contradicts another one.
    """
    if options == _NONE:
        return
    capabilities = resolve_capabilities(options, _ALL_CAPABILITIES)
    if options.seccomp_profile not in {"", UNCONFINED}:
        seccomp_filter(options, capabilities)
    for group in options.group_add:
        if not group or not group.isprintable():
            raise InvalidInputError(f"invalid group: {group!r}", hint="Give a name or a number")
    for ulimit in options.ulimits:
        _check_ulimit(ulimit)
    for device in options.devices:
        _check_device(device)
    _check_modes(options, hostname)
    for name, value in options.sysctls:
        _check_sysctl(name, value, options)
    if options.oom_score_adjustment not in _OOM_SCORES:
        raise InvalidInputError(
            f"Invalid value {options.oom_score_adjustment}, range for oom score adj is "
            "[-1000, 1000]",
            hint="--oom-score-adj 0 is the usual one",
        )
    if options.shared_memory_bytes is not None and options.shared_memory_bytes < 0:
        raise InvalidInputError("SHM size can not be less than 0", hint="Write --shm-size 128m")


def _check_ulimit(ulimit: Ulimit) -> None:
    if ulimit.name not in ULIMIT_NUMBERS:
        raise InvalidInputError(
            f"invalid ulimit type: {ulimit.name}", hint=f"Known are {', '.join(ULIMIT_NUMBERS)}"
        )
    for value in (ulimit.soft, ulimit.hard):
        if not _SMALLEST_ULIMIT <= value <= _LARGEST_ULIMIT:
            raise InvalidInputError(f"invalid ulimit: {ulimit.name}={value}", hint="-1 is no limit")
    if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
        raise InvalidInputError(
            "ulimit soft limit must be less than or equal to hard limit: "
            f"{ulimit.soft} > {ulimit.hard}",
            hint=f"Write --ulimit {ulimit.name}=SOFT:HARD",
        )


def _check_device(device: DeviceRequest) -> None:
    for path in (device.host_path, device.container_path):
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise InvalidInputError(
                f"{path!r} is not an absolute path",
                hint="Write --device /dev/fuse or --device /dev/sda:/dev/disk:r",
            )
    if os.path.normpath(device.container_path) in {"/", "/dev"}:
        raise InvalidInputError(
            f"a device cannot be put in the place of {device.container_path}",
            hint="Name a file, such as /dev/disk",
        )
    if not device.access or set(device.access) - set("rwm"):
        raise InvalidInputError(
            f"bad mode specified: {device.access}", hint="Letters of rwm: read, write, make nodes"
        )


def _check_modes(options: ProcessOptions, hostname: str | None) -> None:
    for option, what, mode, known in (
        ("--pid", "PID", options.pid_mode, (HOST, JOIN)),
        ("--ipc", "IPC", options.ipc_mode, ("none", "private", "shareable", HOST, JOIN)),
        ("--uts", "UTS", options.uts_mode, (HOST,)),
        ("--userns", "USER", options.user_namespace_mode, (HOST,)),
        ("--cgroupns", "CGROUP", options.cgroup_namespace_mode, (HOST, "private")),
    ):
        is_join = mode.startswith(JOIN) and JOIN in known and mode != JOIN
        if mode and not is_join and (mode not in known or mode == JOIN):
            words = ", ".join(f"{word}NAME" if word == JOIN else word for word in known)
            raise InvalidInputError(
                f"{option}: invalid {what} mode: {mode}", hint=f"{option} takes {words}"
            )
    if hostname and options.uts_mode == HOST:
        raise InvalidInputError(
            "conflicting options: hostname and the UTS mode",
            hint="With --uts host the container has the host's name: leave --hostname out",
        )


def _check_sysctl(name: str, value: str, options: ProcessOptions) -> None:
    is_ipc = name in _IPC_SYSCTLS or name.startswith(_IPC_SYSCTL_PREFIX)
    is_network = name.startswith(_NETWORK_SYSCTL_PREFIX)
    if not (is_ipc or is_network) or not _SYSCTL.fullmatch(name) or "\0" in value:
        raise InvalidInputError(
            f"sysctl '{name}={value}' is not allowed",
            hint="Only parameters of the container's own namespaces are: net.*, fs.mqueue.*, "
            "kernel.msg*, kernel.sem, kernel.shm*",
        )
    if is_ipc and (options.ipc_mode == HOST or options.ipc_mode.startswith(JOIN)):
        raise InvalidInputError(
            f'sysctl "{name}" is not in a separate kernel namespace',
            hint=f"With --ipc {options.ipc_mode} it would be set for others too",
        )


def check_host(
    options: ProcessOptions, *, is_rootless: bool, has_cgroup: bool, has_seccomp: bool
) -> None:
    """Refuse what this host, or this user, cannot be given.

    Raises:
        FeatureUnavailableError: Something cannot be had.
        InvalidInputError: A capability cannot be passed on.
    """
    resolve_capabilities(options, available_capabilities(is_rootless=is_rootless))
    if is_rootless and options.user_namespace_mode == HOST:
        raise FeatureUnavailableError(
            "--userns host",
            "an ordinary user's containers need a user namespace",
            remedy="Run Lamella as root, or leave --userns out",
        )
    if options.pid_mode and not has_cgroup:
        raise FeatureUnavailableError(
            f"--pid {options.pid_mode}",
            "without a control group nothing would end the container's processes",
            remedy="The host line in `lamella info` says how to get one",
        )
    if options.seccomp_profile not in {"", UNCONFINED} and not has_seccomp:
        raise FeatureUnavailableError(
            "--security-opt seccomp",
            "the kernel has no system call filters",
            remedy="Use a kernel with CONFIG_SECCOMP_FILTER, or leave the profile out",
        )
