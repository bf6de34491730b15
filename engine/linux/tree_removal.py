"""Remove directory trees that may be hostile: any depth, any mode, links, mounts in between."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.linux.files import descriptor_path, open_beneath, rename_exclusively

if TYPE_CHECKING:
    from collections.abc import Callable


def remove_tree(
    parent: int,
    name: bytes,
    *,
    on_removed: Callable[[bytes], None] | None = None,
    before_unlink: Callable[[int, bytes, bytes], None] | None = None,
) -> None:
    """Remove a file or a whole directory; blocking. Nothing there is not an error.

    Follows no link and enters no mount (a mount point inside raises EBUSY or EXDEV). Directories
    without permissions are opened up first. However deep the tree is, few descriptors are used:
    what lies deep is moved up before it is removed.

    Args:
        parent: Descriptor of the directory that holds `name`.
        name: One name, no slash.
        on_removed: Told of each path below `name` (relative to `parent`) that was removed.
        before_unlink: Told of each path that is about to be removed and may be a file, after the
            directory (descriptor) that it is in and its name there.
    """
    tell = on_removed if on_removed is not None else _ignore
    warn = before_unlink if before_unlink is not None else _ignore_unlink
    warn(parent, name, name)
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in {errno.EISDIR, errno.EPERM}:
            raise
    else:
        tell(name)
        return
    _Removal(parent, name, tell, warn).run()


def _ignore(_path: bytes) -> None: ...


def _ignore_unlink(_directory: int, _name: bytes, _path: bytes) -> None: ...


class _Removal:
    """The removal of one directory tree."""

    _DEPTH_LIMIT = 48

    def __init__(
        self,
        parent: int,
        name: bytes,
        tell: Callable[[bytes], None],
        warn: Callable[[int, bytes, bytes], None],
    ) -> None:
        self._parent = parent
        self._name = name
        self._tell = tell
        self._warn = warn
        self._moved = 0
        # Each: name on disk in the directory that holds it, path to tell.
        self._roots: list[tuple[bytes, bytes]] = []

    def run(self) -> None:
        self._roots.append((self._name, self._name))
        while self._roots:
            name, path = self._roots[-1]
            count = len(self._roots)
            self._empty(self._parent, name, path, 0)
            if len(self._roots) > count:
                continue  # deep parts were moved up beside it: remove those first, then again
            self._roots.pop()
            try:
                os.rmdir(name, dir_fd=self._parent)
            except FileNotFoundError:
                continue
            self._tell(path)

    def _empty(self, parent: int, name: bytes, path: bytes, depth: int) -> None:
        """Remove what a directory holds, not the directory."""
        try:
            directory = _open_for_removal(parent, name)
        except FileNotFoundError:
            return
        try:
            with os.scandir(directory) as entries:
                children = [
                    (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
                    for entry in entries
                ]
            for child, is_directory in children:
                child_path = path + b"/" + child
                if not is_directory:
                    self._warn(directory, child, child_path)
                    _unlink_if_there(child, directory)
                    self._tell(child_path)
                elif depth >= self._DEPTH_LIMIT:
                    self._move_up(directory, child, child_path)
                else:
                    self._empty(directory, child, child_path, depth + 1)
                    os.rmdir(child, dir_fd=directory)
                    self._tell(child_path)
        finally:
            os.close(directory)

    def _move_up(self, directory: int, child: bytes, path: bytes) -> None:
        _permit(directory, child)  # a directory that moves has its `..` rewritten
        while True:
            self._moved += 1
            name = b"%s.deep-%d" % (self._name[:200], self._moved)
            try:
                rename_exclusively(directory, child, self._parent, name)
            except FileExistsError:
                continue
            self._roots.append((name, path))
            return


def _unlink_if_there(name: bytes, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _open_for_removal(parent: int, name: bytes) -> int:
    """Open a directory to empty it; gives itself the permissions that it lacks."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        directory = open_beneath(parent, name, flags, may_cross_mounts=False)
    except PermissionError:
        _permit(parent, name)
        return open_beneath(parent, name, flags, may_cross_mounts=False)
    if os.fstat(directory).st_mode & 0o700 != 0o700:
        os.fchmod(directory, 0o700)
    return directory


def _permit(parent: int, name: bytes) -> None:
    """Give the owner of a directory every permission on it."""
    handle = open_beneath(parent, name, os.O_PATH | os.O_DIRECTORY, may_cross_mounts=False)
    try:
        os.chmod(descriptor_path(handle), 0o700)
    finally:
        os.close(handle)
