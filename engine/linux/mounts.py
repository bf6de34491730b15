"""Mounts through the new mount API (fsopen, open_tree, move_mount), by descriptor.

Everything here blocks and acts on the caller's mount namespace: call it in a container's init, or
in the engine only for detached mounts that never get a path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from ctypes import c_uint64
from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.libc import syscall

if TYPE_CHECKING:
    from collections.abc import Sequence

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80

MS_SLAVE = 1 << 19
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    )


def new_filesystem(
    kind: str, options: Sequence[tuple[str, str | None]] = (), *, attributes: int = 0
) -> int:
    """Make a filesystem and return its detached mount as a descriptor (close-on-exec).

    Args:
        kind: The kernel's name: `overlay`, `tmpfs`, `proc`.
        options: Keys with text values; None sets a flag.
        attributes: MOUNT_ATTR_* bits.

    Raises:
        SyscallError: `detail` has the option, or what the kernel logged about it.
    """
    context = syscall("fsopen", kind.encode(), _FSOPEN_CLOEXEC)
    try:
        for key, value in options:
            _configure(context, kind, key, value)
        try:
            syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
            return syscall("fsmount", context, _FSMOUNT_CLOEXEC, attributes)
        except SyscallError as error:
            told = _read_log(context) or kind
            raise SyscallError(f"mount {kind}", error.errno, told) from None
    finally:
        os.close(context)


def _configure(context: int, kind: str, key: str, value: str | None) -> None:
    try:
        if value is None:
            syscall("fsconfig", context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)
        else:
            syscall("fsconfig", context, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    except SyscallError as error:
        told = _read_log(context) or f"{key}={value}"
        raise SyscallError(f"mount {kind}", error.errno, told) from None


def _read_log(context: int) -> str:
    """What the kernel has to say about a failed call: one message a read, `e text`."""
    messages: list[str] = []
    with contextlib.suppress(OSError):
        while len(messages) < 8:
            message = os.read(context, 4096)
            if not message:
                break
            messages.append(message.decode(errors="replace").strip()[2:])
    return "; ".join(messages)


def mount_by_path(source: str, target: str, kind: str, options: str) -> None:
    """Mount with the old mount(2), for what older kernels cannot do by descriptor.

    Raises:
        SyscallError: `detail` has the options; ENOENT may mean that they are over a page.
    """
    try:
        syscall(
            "mount",
            os.fsencode(source),
            os.fsencode(target),
            kind.encode(),
            0,
            os.fsencode(options),
        )
    except SyscallError as error:
        raise SyscallError(f"mount {kind}", error.errno, options) from None


def clone_mount(path: str, *, directory: int | None = None, is_recursive: bool = False) -> int:
    """Return a detached copy of what is mounted at a path (a bind mount without a place).

    An empty path with `directory` copies the mount that the descriptor (also O_PATH) refers to.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    if not path:
        flags |= _AT_EMPTY_PATH
    if is_recursive:
        flags |= _AT_RECURSIVE
    try:
        return syscall(
            "open_tree", _AT_FDCWD if directory is None else directory, os.fsencode(path), flags
        )
    except SyscallError as error:
        raise SyscallError("open_tree", error.errno, path) from None


def attach_mount(mount: int, target: int) -> None:
    """Attach a detached mount on what `target` (a descriptor, also O_PATH) refers to."""
    syscall(
        "move_mount", mount, b"", target, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    )


def set_mount_attributes(
    mount: int, attributes: int = 0, *, propagation: int = 0, is_recursive: bool = False
) -> None:
    """Set MOUNT_ATTR_* bits, or the propagation (MS_*), of a mount held by a descriptor."""
    wanted = _MountAttributes(attr_set=attributes, propagation=propagation)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if is_recursive else 0)
    syscall(
        "mount_setattr", mount, b"", flags, ctypes.byref(wanted), ctypes.sizeof(_MountAttributes)
    )


def set_root_propagation(propagation: int) -> None:
    """Set the propagation of every mount of this namespace."""
    wanted = _MountAttributes(propagation=propagation)
    syscall(
        "mount_setattr",
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(wanted),
        ctypes.sizeof(_MountAttributes),
    )


def pivot_into(new_root: int) -> None:
    """Make a mount the root of this namespace and detach the old one; ends in `/`.

    The old root is stacked on the new one and detached at once, so no directory for it is needed
    (pivot_root(2), notes).
    """
    os.fchdir(new_root)
    syscall("pivot_root", b".", b".")
    syscall("umount2", b".", MNT_DETACH)
    os.chdir("/")


def is_unsupported(error: SyscallError) -> bool:
    """Tell whether the kernel lacks what was asked for, rather than refusing it."""
    return error.errno in {errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP}
