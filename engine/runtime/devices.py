"""The nodes of a container's /dev: the usual ones, its terminal, and devices of the host's.

As root nodes are made; in a user namespace one that is made cannot be opened, so those of the
host are bound over empty files. Everything is done through descriptors below the container's
root, before its program runs.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import StartError
from engine.linux.files import make_directories, open_beneath
from engine.linux.mounts import attach_mount, clone_mount
from engine.runtime.isolation import DEFAULT_DEVICES, DEVICE_LINKS

if TYPE_CHECKING:
    from engine.runtime.spec import DeviceSpec

_TYPES = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}
_DEVICES_PREFIX = "/dev/"


def make_default_devices(devices: int, *, is_rootless: bool) -> None:
    """Make the nodes and links that every container has, in a /dev that is still empty."""
    for node in DEFAULT_DEVICES:
        number = os.makedev(node.major, node.minor)
        if is_rootless:
            _bind(devices, node.name, f"/dev/{node.name}", stat.S_IFCHR, number)
        else:
            os.mknod(node.name, stat.S_IFCHR | node.mode, number, dir_fd=devices)
    for name, target in DEVICE_LINKS:
        os.symlink(target, name, dir_fd=devices)


def bind_console(devices: int, terminal: int) -> None:
    """Show the terminal as /dev/console (CVE-2025-52565: by descriptors, on a file just made)."""
    mount = clone_mount("", directory=terminal)
    try:
        _bind_over_new_file(devices, "console", mount, mode=0o600)
    finally:
        os.close(mount)


def place_devices(
    root: int, devices: int, wanted: tuple[DeviceSpec, ...], *, is_rootless: bool
) -> None:
    """Put devices of the host's where they are wanted, mostly below /dev.

    Args:
        root: The root filesystem; directories that are missing are made in it.
        devices: The /dev that is mounted there.
        wanted: What to put.
        is_rootless: Bind instead of making nodes.

    Raises:
        StartError: A path cannot be used, or the host has another device by now.
    """
    for device in wanted:
        if device.path.startswith(_DEVICES_PREFIX):
            top, path = devices, device.path.removeprefix(_DEVICES_PREFIX)
        else:
            top, path = root, device.path.lstrip("/")
        parent, _, name = path.rpartition("/")
        try:
            directory = make_directories(top, os.fsencode(parent))
            try:
                _place(directory, name, device, is_rootless=is_rootless)
            finally:
                os.close(directory)
        except OSError as error:
            raise StartError(
                f"cannot put device {device.host_path} at {device.path}: "
                f"{(error.strerror or str(error)).lower()}",
                exit_code=125,
                step="devices",
            ) from None


def _place(directory: int, name: str, device: DeviceSpec, *, is_rootless: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        # A default node, or what an earlier start or the image left at this path.
        os.unlink(name, dir_fd=directory)
    kind, number = _TYPES[device.kind], os.makedev(device.major, device.minor)
    if is_rootless:
        _bind(directory, name, device.host_path, kind, number)
        return
    os.mknod(name, kind | device.mode, number, dir_fd=directory)
    os.chown(name, device.uid, device.gid, dir_fd=directory, follow_symlinks=False)


def _bind(directory: int, name: str, source: str, kind: int, number: int) -> None:
    node = os.open(source, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(node)
        if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != number:
            raise StartError(
                f"the host's {source} is not the device it should be", exit_code=125, step="devices"
            )
        mount = clone_mount("", directory=node)
    finally:
        os.close(node)
    try:
        _bind_over_new_file(directory, name, mount, mode=0o666)
    finally:
        os.close(mount)


def _bind_over_new_file(directory: int, name: str, mount: int, *, mode: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    os.close(os.open(name, flags, mode, dir_fd=directory))
    target = open_beneath(directory, os.fsencode(name), os.O_PATH)
    try:
        attach_mount(mount, target)
    finally:
        os.close(target)
