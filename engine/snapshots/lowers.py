"""Questions to the layers below one that is being unpacked.

Only for what a layer does not say itself: parents that it leaves out, hard links to files below.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.linux.files import descriptor_path, open_beneath, read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PIECE_BYTES = 1 << 20
_PLAIN_OPAQUE_NAME = "user.lamella.overlay.opaque"
OPAQUE_NAMES = ("trusted.overlay.opaque", "user.overlay.opaque", _PLAIN_OPAQUE_NAME)
_PLAIN_WHITEOUT = os.makedev(0, 0xFFFFF)
"""A store that is itself on overlayfs refuses overlay's own marks; layers are copied there."""

COPIED_ONLY = "the store's file system takes no overlay marks: containers copy this image's layers"


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file is the mark for something removed: overlay's character device 0:0, or ours."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev in {0, _PLAIN_WHITEOUT}


def make_whiteout(parent: int, name: bytes) -> bool:
    """Mark a name as removed; False if overlay would not know the mark.

    Raises:
        OSError: The file system takes neither mark.
    """
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.mknod(name, stat.S_IFCHR, _PLAIN_WHITEOUT, dir_fd=parent)
            return False
        raise
    return True


def make_opaque(descriptor: int, attribute: str) -> bool:
    """Let a directory hide what is below it; False if overlay would not know the mark."""
    path = descriptor_path(descriptor)
    try:
        os.setxattr(path, attribute, b"y")
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
        os.setxattr(path, _PLAIN_OPAQUE_NAME, b"y")
        return False
    return True


def is_opaque(descriptor: int) -> bool:
    """Whether a directory (any descriptor of it) hides what lower layers have there."""
    path = descriptor_path(descriptor)
    try:
        names = os.listxattr(path)
    except OSError:
        return False
    for name in OPAQUE_NAMES:
        if name in names:
            with contextlib.suppress(OSError):
                if os.getxattr(path, name) == b"y":
                    return True
    return False


class LowerLayers:
    """Layer directories, topmost first, each opened when it is first needed."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._descriptors: list[int] = []
        self._directories: dict[bytes, bool] = {}

    @property
    def is_empty(self) -> bool:
        """There are none: the layer is an image's first."""
        return not self._paths

    def _roots(self) -> Iterator[int]:
        for position, path in enumerate(self._paths):
            if position == len(self._descriptors):
                self._descriptors.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
            yield self._descriptors[position]

    def close(self) -> None:
        """Close what was opened."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def open(self, path: bytes) -> int | None:
        """What a canonical path is in the merged view below: an O_PATH descriptor, or None."""
        for root in self._roots():
            found = self._look(root, path)
            if found is not False:
                return None if found is True else found
        return None

    def root_names(self) -> tuple[bytes, ...]:
        """Every name that some layer has in its root, sorted; also whiteouts."""
        names: set[bytes] = set()
        for root in self._roots():
            descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
            try:
                names.update(os.fsencode(name) for name in os.listdir(descriptor))
            finally:
                os.close(descriptor)
        return tuple(sorted(names))

    def has_directory(self, path: bytes) -> bool:
        """Whether the merged view below has a directory there."""
        known = self._directories.get(path)
        if known is None:
            descriptor = self.open(path)
            known = False
            if descriptor is not None:
                known = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                os.close(descriptor)
            if len(self._directories) > 10_000:
                self._directories.clear()
            self._directories[path] = known
        return known

    def has_path(self, path: bytes) -> bool:
        """Whether the merged view below has anything there."""
        descriptor = self.open(path)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def has_same_content(self, path: bytes, directory: int, name: bytes) -> bool:
        """Whether a file or link of a directory holds what the one of a path below holds."""
        below = self.open(path)
        if below is None:
            return False
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(b"", dir_fd=below) == os.readlink(name, dir_fd=directory)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return True
            above = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
            with open(above, "rb") as mine, open(descriptor_path(below), "rb") as other:
                while piece := mine.read(_PIECE_BYTES):
                    if piece != other.read(_PIECE_BYTES):
                        return False
            return True
        finally:
            os.close(below)

    def _look(self, root: int, path: bytes) -> int | bool:
        """In one layer: a descriptor; True if it hides what is below; False if it says nothing."""
        flags = os.O_PATH | os.O_NOFOLLOW
        try:
            found = open_beneath(root, path, flags)
        except OSError:
            return self._hides(root, path)
        if is_whiteout(os.fstat(found)):
            os.close(found)
            return True
        return found

    def _hides(self, root: int, path: bytes) -> bool:
        """Whether a parent of a path that a layer lacks is opaque, removed or no directory."""
        names = path.split(b"/")
        current = os.dup(root)
        try:
            for name in names[:-1]:
                try:
                    following = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
                except FileNotFoundError:
                    return False
                os.close(current)
                current = following
                status = os.fstat(current)
                if not stat.S_ISDIR(status.st_mode) or is_opaque(current):
                    return True
            return False
        finally:
            os.close(current)


def copy_directory_look(source: int, target: int) -> None:
    """Give a directory the owner and attributes that it has below; its mode comes later."""
    status = os.fstat(source)
    if status.st_uid != os.geteuid() or status.st_gid != os.getegid():
        os.chown(descriptor_path(target), status.st_uid, status.st_gid)
    for name, value in read_attributes(source):
        if b".overlay." not in name:
            os.setxattr(descriptor_path(target), name, value)
