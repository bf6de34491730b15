"""What lies below a layer that is being made: paths as the image has them, and its accounts."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import BuildCopyError
from engine.linux.files import descriptor_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.snapshots.lowers import LowerLayers

_LINK_LIMIT = 40  # the kernel's MAXSYMLINKS
_LARGEST_ACCOUNT_FILE_BYTES = 16 << 20
_LARGEST_ID = (1 << 31) - 1


class Owner(NamedTuple):
    """Whom files belong to."""

    user_id: int
    group_id: int


class ImageFiles:
    """The merged view of layers, with nothing mounted."""

    def __init__(self, lowers: LowerLayers) -> None:
        """Look at layers, which stay the caller's."""
        self._lowers = lowers
        self._put: dict[bytes, bytes | None] = {}

    def put(self, path: bytes, link: bytes | None) -> None:
        """Something new is at a path: a link with this target, or None for anything else."""
        self._put[path] = link

    def status(self, path: bytes) -> os.stat_result | None:
        """What is at a path that has no links on the way; None if nothing is. The top is empty."""
        found = self._lowers.open(path or b".")
        if found is None:
            return None
        try:
            return os.fstat(found)
        finally:
            os.close(found)

    def open(self, path: bytes) -> int | None:
        """As `status`: an O_PATH descriptor, which is the caller's."""
        return self._lowers.open(path or b".")

    def has_directory(self, path: bytes) -> bool:
        """Whether a path without links on the way is a directory."""
        return not path or self._lowers.has_directory(path)

    def resolve(self, path: bytes, *, top: bytes = b"") -> bytes:
        """Where a path leads, its links followed inside the image; what is missing stays as it is.

        Args:
            path: From `top`.
            top: A directory that takes the root's place: links do not lead out of it.

        Raises:
            BuildCopyError: Too many links lead there.
        """
        done: list[bytes] = []
        pending = _reversed_names(path)
        link_count = 0
        tops = top.split(b"/") if top else []
        while pending:
            name = pending.pop()
            if name == b"..":
                del done[-1:]
                continue
            target = self._link(b"/".join((*tops, *done, name)))
            if target is None:
                done.append(name)
                continue
            link_count += 1
            if link_count > _LINK_LIMIT:
                raise BuildCopyError(f"{os.fsdecode(path)}: too many levels of symbolic links")
            if target.startswith(b"/"):
                done.clear()
            pending += _reversed_names(target)
        return b"/".join((*tops, *done))

    def _link(self, path: bytes) -> bytes | None:
        if path in self._put:
            return self._put[path]
        found = self._lowers.open(path)
        if found is None:
            return None
        try:
            if stat.S_ISLNK(os.fstat(found).st_mode):
                return os.readlink(b"", dir_fd=found)
            return None
        finally:
            os.close(found)

    # --- accounts -----------------------------------------------------------------------------

    def owner(self, text: str) -> Owner:
        """Whom `--chown=user[:group]` means, by the image's own files.

        A number without a group is the group as well; a name's group is that of its account.

        Raises:
            BuildCopyError: The image has no such user or group.
        """
        user, has_group, group = text.partition(":")
        if user.isascii() and user.isdigit():
            user_id = group_id = _checked_id(user, text)
        else:
            user_id, group_id = self._user(user)
        if has_group:
            is_number = group.isascii() and group.isdigit()
            group_id = _checked_id(group, text) if is_number else self._group(group)
        return Owner(user_id, group_id)

    def _user(self, name: str) -> Owner:
        for fields in self._accounts(b"etc/passwd"):
            if fields[0] == os.fsencode(name) and len(fields) > 3:
                user_id, group_id = _id(fields[2]), _id(fields[3])
                if user_id is not None and group_id is not None:
                    return Owner(user_id, group_id)
        raise BuildCopyError(
            f"the image has no user {name!r}",
            hint="Numbers need no entry in the image's /etc/passwd",
        )

    def _group(self, name: str) -> int:
        for fields in self._accounts(b"etc/group"):
            if fields[0] == os.fsencode(name) and len(fields) > 2:
                group_id = _id(fields[2])
                if group_id is not None:
                    return group_id
        raise BuildCopyError(
            f"the image has no group {name!r}",
            hint="Numbers need no entry in the image's /etc/group",
        )

    def _accounts(self, path: bytes) -> Iterator[list[bytes]]:
        """The lines of an account file, which is hostile."""
        content = b""
        found = self._lowers.open(self.resolve(path))
        if found is not None:
            try:
                if stat.S_ISREG(os.fstat(found).st_mode):
                    readable = os.open(descriptor_path(found), os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        content = os.read(readable, _LARGEST_ACCOUNT_FILE_BYTES)
                    finally:
                        os.close(readable)
            finally:
                os.close(found)
        for line in content.split(b"\n"):
            yield line.strip().split(b":")


def _id(field: bytes) -> int | None:
    if not field.isdigit() or len(field) > 10 or int(field) > _LARGEST_ID:
        return None
    return int(field)


def _checked_id(text: str, whole: str) -> int:
    number = int(text) if len(text) <= 10 else _LARGEST_ID + 1
    if number > _LARGEST_ID:
        raise BuildCopyError(f"{whole}: ids are between 0 and {_LARGEST_ID}")
    return number


def _reversed_names(path: bytes) -> list[bytes]:
    return [name for name in reversed(path.split(b"/")) if name not in {b"", b"."}]
