"""A whole tree made of layers, for hosts that cannot mount overlayfs."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from engine.linux.files import (
    copy_contents,
    descriptor_path,
    open_beneath,
    read_attributes,
)
from engine.snapshots.index import MergedTree
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.snapshots.index import LayerEntry, LayerIndex

_PROGRESS_ENTRIES = 500
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY


def copy_merged_tree(
    indexes: Sequence[LayerIndex],
    roots: Sequence[str],
    target: int,
    *,
    on_entry: Callable[[int, int], None],
) -> None:
    """Copy the merged view of layers into an empty directory; blocking.

    Shares blocks where the file system can. Hard links within one layer stay links.

    Args:
        indexes: Bottom first.
        roots: The layers' directories, in the same order.
        target: Descriptor of the empty directory.
        on_entry: Told now and then how many entries of how many are done.

    Raises:
        OSError: What the file system says; the target is then half full.
    """
    _copy_tree(MergedTree.of(indexes), roots, b"", target, on_entry)


def copy_merged_directory(tree: MergedTree, roots: Sequence[str], top: bytes, target: int) -> None:
    """Copy one directory of the merged view of layers into an empty one, with its own look.

    Args:
        tree: The layers, bottom first.
        roots: Their directories, in the same order.
        top: Path of a directory in the tree; no link leads to it.
        target: Descriptor of the empty directory.

    Raises:
        OSError: As copy_merged_tree.
    """
    _copy_tree(tree, roots, top, target, lambda _done, _total: None)


def _copy_tree(
    tree: MergedTree,
    roots: Sequence[str],
    top: bytes,
    target: int,
    on_entry: Callable[[int, int], None],
) -> None:
    sources: list[int] = []
    try:
        for root in roots:
            sources.append(os.open(root, os.O_PATH | os.O_DIRECTORY))  # noqa: PERF401 - closed below if one fails
        _Copy(tree, sources, top, target).run(on_entry)
    finally:
        for source in sources:
            os.close(source)


class _Copy:
    def __init__(self, tree: MergedTree, sources: Sequence[int], top: bytes, target: int) -> None:
        self._tree = tree
        self._sources = sources
        self._top = top
        self._target = target
        self._inodes: dict[tuple[int, int], bytes] = {}
        self._directories: list[tuple[bytes, os.stat_result]] = []

    def run(self, on_entry: Callable[[int, int], None]) -> None:
        total = len(self._tree)
        has_root = False
        above = len(self._top) + 1 if self._top else 0
        for count, (entry, layer) in enumerate(self._tree.below(self._top), 1):
            if entry.path != self._top:
                self._copy(entry, entry.path[above:], self._sources[layer])
            else:
                has_root = True
                self._take_root(self._sources[layer])
            if count % _PROGRESS_ENTRIES == 0:
                on_entry(count, total)
        if not has_root and self._sources:
            self._take_root(self._sources[-1])
        for path, status in sorted(self._directories, key=_by_path, reverse=True):
            directory = open_beneath(self._target, path, _DIRECTORY_FLAGS)
            try:
                os.fchmod(directory, stat.S_IMODE(status.st_mode))
                os.utime(directory, ns=(status.st_mtime_ns, status.st_mtime_ns))
            finally:
                os.close(directory)

    def _take_root(self, source_root: int) -> None:
        source = open_beneath(source_root, self._top, os.O_PATH | os.O_DIRECTORY)
        try:
            copy_look(source, self._target)
            self._directories.append((b"", os.fstat(source)))
        finally:
            os.close(source)

    def _copy(self, entry: LayerEntry, path: bytes, source_root: int) -> None:
        if entry.kind is FileKind.WHITEOUT:
            return
        parent_path, _, name = path.rpartition(b"/")
        source = open_beneath(source_root, entry.path, os.O_PATH | os.O_NOFOLLOW)
        parent = -1
        try:
            parent = open_beneath(self._target, parent_path, os.O_PATH | os.O_DIRECTORY)
            self._make(path, parent, name, source)
        finally:
            os.close(source)
            if parent >= 0:
                os.close(parent)

    def _make(self, path: bytes, parent: int, name: bytes, source: int) -> None:
        status = os.fstat(source)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=parent)
            directory = open_beneath(parent, name, _DIRECTORY_FLAGS)
            try:
                copy_look(source, directory)
            finally:
                os.close(directory)
            self._directories.append((path, status))
            return
        if status.st_nlink > 1:
            inode = (status.st_dev, status.st_ino)
            first = self._inodes.setdefault(inode, path)
            if first != path:
                self._link(first, parent, name)
                return
        copy_file(source, parent, name, status)

    def _link(self, first: bytes, parent: int, name: bytes) -> None:
        directory_path, _, first_name = first.rpartition(b"/")
        directory = open_beneath(self._target, directory_path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(
                first_name, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False
            )
        finally:
            os.close(directory)


def copy_file(source: int, parent: int, name: bytes, status: os.stat_result) -> None:
    """Copy what is no directory, with its owner, mode, attributes and time; blocking.

    Args:
        source: An O_PATH descriptor of it.
        parent: Descriptor of the directory that it is copied into.
        name: What it is called there; nothing is yet.
        status: Of the source.

    Raises:
        OSError: What the file system says.
    """
    if stat.S_ISREG(status.st_mode):
        _copy_regular(source, parent, name, status)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(b"", dir_fd=source), name, dir_fd=parent)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=parent)
    made = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(descriptor_path(made), stat.S_IMODE(status.st_mode))
        _copy_xattrs(source, made)
    finally:
        os.close(made)
    times = (status.st_mtime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _copy_regular(source: int, parent: int, name: bytes, status: os.stat_result) -> None:
    readable = os.open(descriptor_path(source), os.O_RDONLY)
    try:
        made = os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)
        try:
            copy_contents(readable, made, status.st_size)
            os.fchown(made, status.st_uid, status.st_gid)
            os.fchmod(made, stat.S_IMODE(status.st_mode))
            _copy_xattrs(source, made)
            os.utime(made, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(made)
    finally:
        os.close(readable)


def _by_path(item: tuple[bytes, os.stat_result]) -> bytes:
    return item[0]


def copy_look(source: int, target: int) -> None:
    """Give a directory the owner and the attributes of another one, but for overlay's."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    _copy_xattrs(source, target)


def _copy_xattrs(source: int, target: int) -> None:
    for name, value in read_attributes(source):
        if b".overlay." not in name:
            os.setxattr(descriptor_path(target), name, value)
