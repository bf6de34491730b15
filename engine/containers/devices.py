"""Devices of the host's that a container gets: looked up when it starts. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from engine.cgroups.limits import DeviceRule
from engine.errors import InvalidInputError
from engine.runtime.isolation import DEFAULT_DEVICES, DEVICE_LINKS, DEVICE_RULES
from engine.runtime.spec import DeviceSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.types import ProcessOptions

_HOST_DEVICES = "/dev"
_NOT_DEVICES = frozenset(
    {"pts", "shm", "fd", "mqueue", "hugepages", "console", ".lxc", ".lxd-mounts", ".udev"}
)
_OWN_NAMES = frozenset(
    {node.name for node in DEFAULT_DEVICES} | {name for name, _target in DEVICE_LINKS}
)
_MOST_DEVICES = 4096


def find_devices(options: ProcessOptions) -> tuple[DeviceSpec, ...]:
    """The devices that the options ask for; of a privileged container all that the host has.

    Raises:
        InvalidInputError: One is not there, or is no device.
    """
    found: dict[str, DeviceSpec] = {}
    if options.is_privileged:
        for name in sorted(os.listdir(_HOST_DEVICES)):
            if name not in _NOT_DEVICES and name not in _OWN_NAMES:
                for device in _walk(f"{_HOST_DEVICES}/{name}", f"{_HOST_DEVICES}/{name}", "rwm"):
                    found[device.path] = device
    for asked in options.devices:
        source = asked.host_path
        devices = list(_walk(source, os.path.normpath(asked.container_path), asked.access))
        if not devices:
            exists = os.path.exists(source)
            reason = "not a device node" if exists else "no such file or directory"
            raise InvalidInputError(
                f'error gathering device information while adding custom device "{source}": '
                f"{reason}",
                hint=f"`ls -l {os.path.dirname(source) or '/'}` shows what is there",
            )
        found.update((device.path, device) for device in devices)
    return tuple(found.values())[:_MOST_DEVICES]


def _walk(source: str, path: str, access: str) -> Iterator[DeviceSpec]:
    """The device at a path, or every one below it; what cannot be looked at is passed over."""
    try:
        status = os.stat(source)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(source)):
                # Links below a directory lead to what has a name of its own already.
                if name not in _NOT_DEVICES and not os.path.islink(f"{source}/{name}"):
                    yield from _walk(f"{source}/{name}", f"{path}/{name}", access)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        yield DeviceSpec(
            host_path=os.path.realpath(source),
            path=path,
            kind="c" if stat.S_ISCHR(status.st_mode) else "b",
            major=os.major(status.st_rdev),
            minor=os.minor(status.st_rdev),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            access=access,
        )


def device_rules(
    options: ProcessOptions, devices: tuple[DeviceSpec, ...]
) -> tuple[DeviceRule, ...]:
    """What the control group lets the container's processes open; no rule at all is everything."""
    if options.is_privileged:
        return ()
    return DEVICE_RULES + tuple(
        DeviceRule(kind=device.kind, major=device.major, minor=device.minor, access=device.access)
        for device in devices
    )
