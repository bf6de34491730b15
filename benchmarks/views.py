"""The start row under one version of control groups, on a host that has both.

crun refuses hybrid hosts. In a mount namespace of its own the benchmark sees, and with it every
program that it runs, only the v1 hierarchies or only the v2 one.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.place import PeerMissingError
from engine.cgroups.host import detect_cgroups
from engine.errors import SyscallError
from engine.linux.libc import syscall
from engine.linux.mounts import (
    MNT_DETACH,
    MS_PRIVATE,
    attach_mount,
    clone_mount,
    set_root_propagation,
)
from engine.linux.process import CLONE_NEWNS, leave_namespaces

VIEWS = ("v1", "v2")
_TOP = "/sys/fs/cgroup"


def enter_view(version: str) -> None:
    """Hide the other version's hierarchies from this process, which must have one thread.

    Raises:
        PeerMissingError: The host is not hybrid, or this is not root.
    """
    host = detect_cgroups()
    if os.geteuid() != 0 or host.mode != "hybrid" or host.unified is None:
        raise PeerMissingError(f"a {version} view needs root on a hybrid host")
    unified = host.unified.mount_point
    try:
        leave_namespaces(CLONE_NEWNS)
        set_root_propagation(MS_PRIVATE)
        if version == "v1":
            syscall("umount2", os.fsencode(unified), MNT_DETACH)
            return
        only = clone_mount(unified)
        syscall("umount2", _TOP.encode(), MNT_DETACH)
        target = os.open(Path(_TOP), os.O_PATH)
        attach_mount(only, target)
        os.close(only)
        os.close(target)
    except SyscallError as error:
        raise PeerMissingError(f"no {version} view: {error}") from None
