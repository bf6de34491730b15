"""What may be asked for as a mount; the texts are Docker's (moby, volume/mounts)."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.linux.mounts import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
)
from engine.volumes.names import check_volume_name

if TYPE_CHECKING:
    from engine.types import MountRequest

PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
RECURSIONS = ("enabled", "disabled", "writable", "readonly")
_TMPFS_FLAGS = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME),
    "atime": (0, MOUNT_ATTR_NOATIME),
    "relatime": (0, MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NOATIME),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
}
"""Which bits each sets and clears."""
_TMPFS_VALUES = {
    "size": re.compile(r"\d+[kmgKMG%]?"),
    "nr_blocks": re.compile(r"\d+[kmgKMG]?"),
    "nr_inodes": re.compile(r"\d+[kmgKMG]?"),
    "mode": re.compile(r"[0-7]{1,4}"),
    "uid": re.compile(r"\d{1,10}"),
    "gid": re.compile(r"\d{1,10}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsSettings:
    """What the options of a tmpfs come to: MOUNT_ATTR_* bits, and options with a value."""

    attributes: int
    options: tuple[str, ...]


def check_mounts(mounts: tuple[MountRequest, ...]) -> None:
    """Refuse mounts that cannot work, and two at one place.

    Raises:
        InvalidInputError: One is wrong; the text says which field.
    """
    targets: set[str] = set()
    for mount in mounts:
        try:
            _check(mount)
        except InvalidInputError as error:
            raise InvalidInputError(
                f'invalid mount config for type "{mount.kind}": {error.message}', hint=error.hint
            ) from None
        if mount.kind == "volume" and mount.source:
            check_volume_name(mount.source)
        target = clean_target(mount.target)
        if target in targets:
            raise InvalidInputError(
                f"Duplicate mount point: {target}", hint="Mount one thing at each path"
            )
        targets.add(target)


def clean_target(target: str) -> str:
    """A path in the container in its shortest form."""
    return "/" + posixpath.normpath(target).lstrip("/")


def _check(mount: MountRequest) -> None:
    if mount.kind not in {"bind", "volume", "tmpfs"}:
        raise InvalidInputError("mount type unknown", hint="bind, volume and tmpfs are known")
    for text in (mount.source, mount.target, mount.subpath):
        if "\0" in text:
            raise InvalidInputError(f"{text!r} has a NUL character")
    if not mount.target:
        raise InvalidInputError("field Target must not be empty")
    _check_absolute(mount.target)
    if clean_target(mount.target) == "/":
        raise InvalidInputError("invalid specification: destination can't be '/'")
    match mount.kind:
        case "bind":
            _check_bind(mount)
        case "tmpfs":
            if mount.source:
                raise InvalidInputError("field Source must not be specified")
            read_tmpfs_options(mount.tmpfs_options, is_read_only=mount.is_read_only)
        case _:
            _check_subpath(mount)


def _check_bind(mount: MountRequest) -> None:
    if not mount.source:
        raise InvalidInputError("field Source must not be empty")
    _check_absolute(mount.source)
    if mount.propagation and mount.propagation not in PROPAGATIONS:
        raise InvalidInputError(
            f"invalid propagation mode: {mount.propagation}", hint=f"One of {_listed(PROPAGATIONS)}"
        )
    if mount.recursion not in RECURSIONS:
        raise InvalidInputError(
            f"invalid bind-recursive: {mount.recursion}", hint=f"One of {_listed(RECURSIONS)}"
        )
    if mount.recursion in {"writable", "readonly"} and not mount.is_read_only:
        raise InvalidInputError(
            f"option 'bind-recursive={mount.recursion}' requires 'readonly' to be specified in "
            "conjunction"
        )
    if mount.recursion == "readonly" and mount.propagation not in {"", "rprivate"}:
        raise InvalidInputError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be "
            "specified in conjunction"
        )


def _check_subpath(mount: MountRequest) -> None:
    if not mount.subpath:
        return
    if not mount.source:
        raise InvalidInputError("must not set Subpath when using anonymous volumes")
    if mount.subpath.startswith("/") or ".." in mount.subpath.split("/"):
        raise InvalidInputError("subpath must be a relative path within the volume")


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidInputError(f"invalid mount path: '{path}' mount path must be absolute")


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def read_tmpfs_options(options: tuple[str, ...], *, is_read_only: bool) -> TmpfsSettings:
    """Read what `--tmpfs` has behind the path; without a word: noexec, nosuid and nodev.

    Raises:
        InvalidInputError: One is not known, or has a value that it may not have.
    """
    attributes = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    valued: dict[str, str] = {}
    for option in options:
        key, has_value, value = option.partition("=")
        if not has_value and key in _TMPFS_FLAGS:
            is_set, is_cleared = _TMPFS_FLAGS[key]
            attributes = attributes & ~is_cleared | is_set
        elif has_value and key in _TMPFS_VALUES and _TMPFS_VALUES[key].fullmatch(value):
            valued[key] = value
        else:
            raise InvalidInputError(
                f'invalid tmpfs option ["{option}"]',
                hint=f"Known are {', '.join(_TMPFS_FLAGS)}, {'=, '.join(_TMPFS_VALUES)}=",
            )
    if is_read_only:
        attributes |= MOUNT_ATTR_RDONLY
    return TmpfsSettings(
        attributes=attributes, options=tuple(f"{key}={value}" for key, value in valued.items())
    )
