"""A copy of this Python that nobody can write to, for the launcher to run from.

A process in a container may reach the program that put it there through /proc/<pid>/exe; what it
finds must not be the host's file (CVE-2019-5736). As root the copy is a read-only overlay that has
no place in any mount namespace, which costs nothing; otherwise it is a sealed file in memory.
"""

from __future__ import annotations

import os

from engine.errors import LauncherError, SyscallError
from engine.linux.mounts import MOUNT_ATTR_RDONLY, new_filesystem
from engine.linux.process import sealed_copy


def open_sealed_executable(path: str) -> int:
    """Return an O_PATH or read descriptor of a sealed copy of a program (close-on-exec).

    Raises:
        LauncherError: Neither way works here.
    """
    if os.geteuid() == 0:
        try:
            return _open_in_overlay(path)
        except (SyscallError, OSError):
            pass  # no overlay on this kernel, or not for us: a container's root, say
    try:
        return sealed_copy(path)
    except OSError as error:
        raise LauncherError(
            f"cannot make a sealed copy of {path}: {error.strerror}",
            hint="sysctl vm.memfd_noexec must not be 2",
        ) from None


def _open_in_overlay(path: str) -> int:
    directory, name = os.path.split(path)
    # An overlay without a writable layer needs two lower ones; any other directory will do.
    mount = new_filesystem(
        "overlay",
        [("source", "overlay"), ("lowerdir+", directory), ("lowerdir+", "/etc")],
        attributes=MOUNT_ATTR_RDONLY,
    )
    try:
        return os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
