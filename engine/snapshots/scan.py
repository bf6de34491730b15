"""From a directory on disk to entries of an index: writable layers, and copies of trees."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from engine.linux.files import open_directory, read_attributes
from engine.snapshots.index import LayerEntry, digest_xattrs
from engine.snapshots.lowers import is_opaque, is_whiteout
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.DIRECTORY,
    stat.S_IFLNK: FileKind.SYMLINK,
    stat.S_IFCHR: FileKind.CHARACTER_DEVICE,
    stat.S_IFBLK: FileKind.BLOCK_DEVICE,
    stat.S_IFIFO: FileKind.FIFO,
    # A socket is nothing that a layer can hold; for a person it is closest to a pipe.
    stat.S_IFSOCK: FileKind.FIFO,
}


def entry_of(
    path: bytes, descriptor: int, *, mode: int | None = None, mtime_ns: int | None = None
) -> LayerEntry:
    """The index entry of what a descriptor (also an O_PATH one) refers to.

    Args:
        path: The path to record.
        descriptor: Of the file.
        mode: Instead of the one on disk.
        mtime_ns: Instead of the one on disk.
    """
    status = os.fstat(descriptor)
    kind = FileKind.WHITEOUT if is_whiteout(status) else _KINDS[stat.S_IFMT(status.st_mode)]
    device = 0
    if kind in {FileKind.CHARACTER_DEVICE, FileKind.BLOCK_DEVICE}:
        device = os.major(status.st_rdev) << 32 | os.minor(status.st_rdev)
    return LayerEntry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode) if mode is None else mode,
        user_id=status.st_uid,
        group_id=status.st_gid,
        size_bytes=status.st_size if kind is FileKind.FILE else 0,
        mtime_ns=status.st_mtime_ns if mtime_ns is None else mtime_ns,
        link=os.readlink(b"", dir_fd=descriptor) if kind is FileKind.SYMLINK else b"",
        xattrs_digest=b""
        if kind is FileKind.WHITEOUT
        else digest_xattrs(read_attributes(descriptor)),
        device=device,
        is_opaque=kind is FileKind.DIRECTORY and is_opaque(descriptor),
    )


def scan_tree(root: int) -> Iterator[LayerEntry]:
    """Every path below a directory, parents first, the root itself not; blocking.

    Follows no link and enters no mount. A tree that changes meanwhile is no error: what vanished
    is left out. The second name of an inode is a HARD_LINK to the first one met.
    """
    names: dict[tuple[int, int], LayerEntry] = {}
    pending = [b""]
    while pending:
        directory_path = pending.pop()
        try:
            directory = open_directory(root, directory_path or b".", may_cross_mounts=False)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError:
            continue  # a link or a mount took its place
        try:
            for name in sorted(os.fsencode(item) for item in os.listdir(directory)):
                path = directory_path + b"/" + name if directory_path else name
                try:
                    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
                except FileNotFoundError:
                    continue
                try:
                    entry = _scan_entry(path, descriptor, names)
                finally:
                    os.close(descriptor)
                if entry.kind is FileKind.DIRECTORY:
                    pending.append(path)
                yield entry
        finally:
            os.close(directory)


def _scan_entry(
    path: bytes, descriptor: int, names: dict[tuple[int, int], LayerEntry]
) -> LayerEntry:
    entry = entry_of(path, descriptor)
    if entry.kind in {FileKind.DIRECTORY, FileKind.WHITEOUT}:
        return entry
    status = os.fstat(descriptor)
    if status.st_nlink > 1:
        first = names.setdefault((status.st_dev, status.st_ino), entry)
        if first is not entry:
            entry.kind = FileKind.HARD_LINK
            entry.link = first.path
    return entry


def measure_tree(root: int) -> tuple[int, int]:
    """Bytes in regular files (each inode once) and entries below a directory; blocking.

    Whiteouts do not count. As `scan_tree` for links, mounts and what vanishes.
    """
    size_bytes = entry_count = 0
    seen: set[tuple[int, int]] = set()
    pending = [b""]
    while pending:
        path = pending.pop()
        try:
            directory = open_directory(root, path or b".", may_cross_mounts=False)
        except OSError:
            continue
        try:
            with os.scandir(directory) as items:
                for item in items:
                    try:
                        status = item.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if is_whiteout(status):
                        continue
                    entry_count += 1
                    if stat.S_ISDIR(status.st_mode):
                        name = os.fsencode(item.name)
                        pending.append(path + b"/" + name if path else name)
                    elif stat.S_ISREG(status.st_mode):
                        inode = (status.st_dev, status.st_ino)
                        if status.st_nlink == 1 or inode not in seen:
                            size_bytes += status.st_size
                        if status.st_nlink > 1:
                            seen.add(inode)
        finally:
            os.close(directory)
    return size_bytes, entry_count


def linked_entry(target: LayerEntry, path: bytes) -> LayerEntry:
    """The entry of another name of the same inode."""
    is_chained = target.kind is FileKind.HARD_LINK
    return LayerEntry(
        path=path,
        kind=FileKind.HARD_LINK,
        mode=target.mode,
        user_id=target.user_id,
        group_id=target.group_id,
        size_bytes=target.size_bytes,
        mtime_ns=target.mtime_ns,
        link=target.link if is_chained else target.path,
        content_digest=target.content_digest,
        xattrs_digest=target.xattrs_digest,
        device=target.device,
    )
