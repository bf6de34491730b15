"""A writable directory becomes a layer as it lies there: nothing is copied.

In two steps. `settle` makes the directory what a layer may be: it takes away what the engine made
in it (places for mounts), what no layer can hold (sockets) and what did not change, and sets times
later than the build's epoch back to that. From then on the next step can stand on it. `digest`
reads it once and writes the layer's index and tar beside it, which gives the diff id.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from engine.linux.files import open_beneath, open_directory, read_attributes
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.index import sort_key
from engine.snapshots.lowers import LowerLayers, copy_directory_look, is_opaque, is_whiteout
from engine.snapshots.packing import SettledPath, digest_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.snapshots.packing import SealedLayer

_NANOSECONDS = 1_000_000_000
_MOST_LINKS = 40
_PRIVATE_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"user.lamella.overlay.", b"security.se")


class LayerSealer:
    """One writable directory on its way to a layer; blocking."""

    def __init__(
        self,
        directory: int,
        *,
        lower_paths: Sequence[str],
        epoch_ns: int | None,
        started_at_ns: int = 0,
    ) -> None:
        """Take a layer's directory, whose `diff` is what was written.

        Args:
            directory: Stays the caller's.
            lower_paths: `diff` of the layers below, topmost first.
            epoch_ns: The latest time that anything may have; None leaves times as they are, but
                for parts of a second.
            started_at_ns: When writing began: what is older may have been copied up unchanged.
        """
        self._directory = directory
        self._lower_paths = tuple(lower_paths)
        self._epoch_ns = epoch_ns
        self._started_at_ns = started_at_ns
        self._found: list[SettledPath] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written; after `settle`."""
        return not self._found

    # --- settle -------------------------------------------------------------------------------

    def settle(self, places: Iterable[bytes] = ()) -> None:
        """Make the directory what a layer may be.

        Args:
            places: Where the engine mounted something; what it made there goes if it is empty.

        Raises:
            OSError: The directory cannot be read or changed.
        """
        root = open_beneath(self._directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        lowers = LowerLayers(self._lower_paths)
        try:
            for place in sorted(places, key=lambda path: -path.count(b"/")):
                _remove_place(root, _resolve(root, place, lowers), lowers)
            self._settle_root(root, lowers)
            self._settle_directory(root, b"", lowers, is_new=not self._lower_paths)
            self._found = [one for one in self._found if not one.is_dropped]
            self._found.sort(key=lambda one: sort_key(one.path))
        finally:
            lowers.close()
            os.close(root)

    def _settle_root(self, root: int, lowers: LowerLayers) -> None:
        """The root's own look is not part of a layer's tar, so it is as it was below."""
        if lowers.is_empty:
            return
        below = lowers.open(b".")
        if below is not None:
            try:
                copy_directory_look(below, root)
                os.fchmod(root, os.fstat(below).st_mode & 0o7777)
            finally:
                os.close(below)

    def _settle_directory(
        self, directory: int, path: bytes, lowers: LowerLayers, *, is_new: bool
    ) -> bool:
        """Settle what is in a directory; False if nothing of it stays.

        Args:
            directory: Open for reading.
            path: From the root.
            lowers: What is below.
            is_new: Nothing below has this directory, so nothing in it can be compared.
        """
        prefix = path + b"/" if path else b""
        stays = False
        for name in sorted(os.fsencode(entry) for entry in os.listdir(directory)):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            child = prefix + name
            if stat.S_ISSOCK(status.st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            if is_whiteout(status):
                self._found.append(SettledPath(child, status, 0, ()))
                stays = True
            elif stat.S_ISDIR(status.st_mode):
                stays |= self._settle_child_directory(directory, name, child, lowers, is_new=is_new)
            else:
                stays |= self._settle_file(directory, name, child, status, lowers, is_new=is_new)
        return stays

    def _settle_child_directory(
        self, parent: int, name: bytes, path: bytes, lowers: LowerLayers, *, is_new: bool
    ) -> bool:
        directory = open_directory(parent, name)
        try:
            status = os.fstat(directory)
            xattrs = read_attributes(directory) if _may_have_attributes(directory, b"") else ()
            found = SettledPath(path, status, 0, _public(xattrs))
            found.is_opaque = bool(xattrs) and is_opaque(directory)
            self._found.append(found)
            is_unknown = is_new or found.is_opaque or not lowers.has_directory(path)
            holds = self._settle_directory(directory, path, lowers, is_new=is_unknown)
            if not holds and not is_unknown and _is_as_below(found, lowers):
                # It was copied up, and in the end nothing about it is different.
                found.is_dropped = True
                os.rmdir(name, dir_fd=parent)
                return False
            # After what is in it: making and removing there changes its time.
            found.mtime_ns = self._clamp(status.st_mtime_ns)
            os.utime(directory, ns=(found.mtime_ns, found.mtime_ns))
        finally:
            os.close(directory)
        return True

    def _settle_file(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        status: os.stat_result,
        lowers: LowerLayers,
        *,
        is_new: bool,
    ) -> bool:
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        if _may_have_attributes(directory, name):
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            try:
                xattrs = _public(read_attributes(descriptor))
            finally:
                os.close(descriptor)
        found = SettledPath(path, status, self._clamp(status.st_mtime_ns), xattrs)
        may_be_unchanged = not is_new and status.st_mtime_ns < self._started_at_ns
        if (
            may_be_unchanged
            and status.st_nlink == 1
            and _is_copied_up(directory, name, found, lowers)
        ):
            os.unlink(name, dir_fd=directory)
            return False
        if found.mtime_ns != status.st_mtime_ns:
            times = (found.mtime_ns, found.mtime_ns)
            os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
        self._found.append(found)
        return True

    def _clamp(self, mtime_ns: int) -> int:
        if self._epoch_ns is not None and mtime_ns > self._epoch_ns:
            return self._epoch_ns
        return mtime_ns - mtime_ns % _NANOSECONDS

    # --- digest -------------------------------------------------------------------------------

    def digest(self) -> SealedLayer:
        """Read what was settled, and write `index` and `tar`.

        Raises:
            OSError: It cannot be read, or the disk is full.
        """
        return digest_layer(self._directory, self._found)


def _may_have_attributes(directory: int, name: bytes) -> bool:
    path = f"/proc/self/fd/{directory}"
    try:
        if name:
            return bool(os.listxattr(os.path.join(os.fsencode(path), name), follow_symlinks=False))
        return bool(os.listxattr(path))
    except OSError:
        return False


def _public(xattrs: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(one for one in xattrs if not one[0].startswith(_PRIVATE_XATTRS))


def _is_as_below(found: SettledPath, lowers: LowerLayers) -> bool:
    """Whether a path is what it was before; of a directory but for what is in it."""
    descriptor = lowers.open(found.path)
    if descriptor is None:
        return False
    try:
        below, above = os.fstat(descriptor), found.status
        if (below.st_mode, below.st_uid, below.st_gid) != (
            above.st_mode, above.st_uid, above.st_gid,
        ):  # fmt: skip
            return False
        if not stat.S_ISDIR(above.st_mode) and (
            below.st_size, below.st_mtime_ns, below.st_rdev,
        ) != (above.st_size, above.st_mtime_ns, above.st_rdev):  # fmt: skip
            return False
        return _public(read_attributes(descriptor)) == found.xattrs
    finally:
        os.close(descriptor)


def _is_copied_up(directory: int, name: bytes, found: SettledPath, lowers: LowerLayers) -> bool:
    """Whether a file is the one below, and nothing about it is different.

    A time says nothing of what a file holds: programs set it, and all files that builds wrote have
    the same.
    """
    return _is_as_below(found, lowers) and lowers.has_same_content(found.path, directory, name)


def _remove_place(root: int, path: bytes, lowers: LowerLayers) -> None:
    """Remove an empty file or directory that was made to be mounted on, and parents made for it."""
    while path and not lowers.has_path(path):
        parent, _, name = path.rpartition(b"/")
        try:
            directory = open_beneath(root, parent or b".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=directory)
            elif stat.S_ISREG(status.st_mode) and not status.st_size:
                os.unlink(name, dir_fd=directory)
            else:
                return
        except OSError:
            return
        finally:
            os.close(directory)
        path = parent


def _resolve(root: int, path: bytes, lowers: LowerLayers) -> bytes:
    """Where a path leads from the root that the program saw: links are followed inside it."""
    done: list[bytes] = []
    pending = _parts(path)[::-1]
    links_left = _MOST_LINKS
    while pending:
        name = pending.pop()
        if name == b"..":
            del done[-1:]
            continue
        target = _link_at(root, b"/".join((*done, name)), lowers) if links_left else None
        if target is None:
            done.append(name)
            continue
        links_left -= 1
        if target.startswith(b"/"):
            done.clear()
        pending += _parts(target)[::-1]
    return b"/".join(done)


def _parts(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def _link_at(root: int, path: bytes, lowers: LowerLayers) -> bytes | None:
    """The target of a symbolic link; None for anything else, and for nothing."""
    try:
        descriptor: int | None = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        descriptor = lowers.open(path)
    if descriptor is None:
        return None
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            return None
        return os.readlink(b"", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def prepare_upper(directory: int, lower_path: str) -> None:
    """Give the `diff` of a new layer's directory the look of the root below it; blocking.

    Raises:
        OSError: The host does not let it.
    """
    with contextlib.ExitStack() as stack:
        upper = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, upper)
        lower = os.open(lower_path, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, lower)
        copy_directory_look(lower, upper)
        os.fchmod(upper, os.fstat(lower).st_mode & 0o7777)
