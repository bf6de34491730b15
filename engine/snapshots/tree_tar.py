"""From files on disk to a tar: layers, exports, and what is copied out of containers.

Whoever owns the files may change them meanwhile. Everything is read through descriptors of what
was met, no link is followed, and what shrinks while it is read is filled up with zeros, as
tar(1) does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.linux.files import descriptor_path, open_beneath, open_directory, read_attributes
from engine.snapshots.tar import TarKind
from engine.snapshots.tar_writer import TarHeader
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.snapshots.index import LayerEntry
    from engine.snapshots.tar_writer import TarStream

_PIECE_BYTES = 1 << 20
_UNSIZED_BYTES = 16 << 20
"""Most that is read of a file that does not tell its size, as those of /proc do."""
_ZEROES = bytes(1 << 16)
_PRIVATE_XATTRS = (
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.lamella.overlay.",
    b"security.selinux",
)
_KINDS = {
    stat.S_IFREG: TarKind.FILE,
    stat.S_IFDIR: TarKind.DIRECTORY,
    stat.S_IFLNK: TarKind.SYMLINK,
    stat.S_IFCHR: TarKind.CHARACTER_DEVICE,
    stat.S_IFBLK: TarKind.BLOCK_DEVICE,
    stat.S_IFIFO: TarKind.FIFO,
}
_NODE_KINDS = {
    FileKind.CHARACTER_DEVICE: TarKind.CHARACTER_DEVICE,
    FileKind.BLOCK_DEVICE: TarKind.BLOCK_DEVICE,
}
_NANOSECONDS = 1_000_000_000
_VANISHED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class TreePacker:
    """Appends files to a tar, each inode's content once.

    Attributes:
        shrunk_count: Files that became shorter while they were read.
    """

    def __init__(self, stream: TarStream) -> None:
        """Write to a stream, which the caller closes."""
        self._stream = stream
        self._names: dict[tuple[int, int], bytes] = {}
        self.shrunk_count = 0

    def add(self, name: bytes, descriptor: int, *, entry: LayerEntry | None = None) -> None:
        """Append what a descriptor (O_PATH) refers to; a socket is nothing that a tar can hold.

        Args:
            name: In the tar.
            descriptor: Of the file.
            entry: What is known better than it is on disk: owners and devices, where the host
                could not make them.

        Raises:
            OSError: It cannot be read, or the stream's target not be written.
        """
        status = os.fstat(descriptor)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if entry is not None and entry.is_placeholder:
            kind = _NODE_KINDS.get(entry.kind, kind)
        if kind is None:
            return
        first = name
        if kind is not TarKind.DIRECTORY and status.st_nlink > 1:
            first = self._names.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            self._stream.begin(self._header(name, TarKind.HARD_LINK, status, entry, link=first))
        elif kind is TarKind.FILE:
            self._add_file(name, descriptor, status, entry)
        else:
            link = os.readlink(b"", dir_fd=descriptor) if kind is TarKind.SYMLINK else b""
            xattrs = _attributes(descriptor)
            self._stream.begin(self._header(name, kind, status, entry, link=link, xattrs=xattrs))

    def add_whiteout(self, path: bytes) -> None:
        """Append the mark for something removed (OCI image-spec, layer.md, "Whiteouts")."""
        parent, _, name = path.rpartition(b"/")
        marker = b".wh." + name
        self._add_marker(parent + b"/" + marker if parent else marker)

    def add_opaque(self, path: bytes) -> None:
        """Append the mark of a directory that hides what is below it."""
        self._add_marker(path + b"/.wh..wh..opq")

    def _add_marker(self, name: bytes) -> None:
        self._stream.begin(TarHeader(name=name, kind=TarKind.FILE, mode=0))

    def _header(
        self,
        name: bytes,
        kind: TarKind,
        status: os.stat_result,
        entry: LayerEntry | None,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
    ) -> TarHeader:
        is_device = kind in {TarKind.CHARACTER_DEVICE, TarKind.BLOCK_DEVICE}
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if entry is not None:
            major, minor = entry.device >> 32, entry.device & 0xFFFFFFFF
        return TarHeader(
            name=name,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode) if entry is None else entry.mode,
            user_id=status.st_uid if entry is None else entry.user_id,
            group_id=status.st_gid if entry is None else entry.group_id,
            size=size,
            modified_at=(status.st_mtime_ns if entry is None else entry.mtime_ns) // _NANOSECONDS,
            link=link,
            device_major=major if is_device else 0,
            device_minor=minor if is_device else 0,
            xattrs=xattrs,
        )

    def _add_file(
        self, name: bytes, descriptor: int, status: os.stat_result, entry: LayerEntry | None
    ) -> None:
        # By now it is known to be a regular file, whatever its name leads to in the meantime.
        readable = os.open(descriptor_path(descriptor), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            beginning = _read_up_to(readable, min(status.st_size, _PIECE_BYTES) or _UNSIZED_BYTES)
            # A small file is there as a whole: its real size is what was read.
            is_whole = status.st_size <= _PIECE_BYTES
            size = len(beginning) if is_whole else status.st_size
            xattrs = _attributes(descriptor)
            self._stream.begin(
                self._header(name, TarKind.FILE, status, entry, size=size, xattrs=xattrs)
            )
            self._stream.write(beginning)
            while left := self._stream.missing_bytes:
                piece = os.read(readable, min(left, _PIECE_BYTES))
                if not piece:
                    self._fill()
                    break
                self._stream.write(piece)
        finally:
            os.close(readable)

    def _fill(self) -> None:
        self.shrunk_count += 1
        while left := self._stream.missing_bytes:
            self._stream.write(_ZEROES[:left])


def _read_up_to(descriptor: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.read(descriptor, min(size, _PIECE_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _attributes(descriptor: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (name, value)
        for name, value in read_attributes(descriptor)
        if not name.startswith(_PRIVATE_XATTRS)
    )


def pack_layer(
    packer: TreePacker,
    root: int,
    entries: Iterable[LayerEntry],
    *,
    on_entry: Callable[[], None],
) -> None:
    """Append the entries of a layer that is a directory on disk, in their order; blocking.

    What has vanished since it was listed is left out.
    """
    for entry in entries:
        on_entry()
        if entry.kind is FileKind.WHITEOUT:
            packer.add_whiteout(entry.path)
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            descriptor = open_beneath(root, entry.path, os.O_PATH | os.O_NOFOLLOW)
            try:
                packer.add(entry.path, descriptor, entry=entry)
            finally:
                os.close(descriptor)
            if entry.is_opaque:
                packer.add_opaque(entry.path)


def pack_tree(
    packer: TreePacker,
    descriptor: int,
    name: bytes,
    *,
    is_skipped: Callable[[int, bytes], bool],
    on_entry: Callable[[], None],
) -> None:
    """Append a file, or a directory with all that is in it, sorted, parents first; blocking.

    Crosses mounts and follows no link. A tree that changes meanwhile is no error: what vanished
    or became a link is left out.

    Args:
        packer: Writes.
        descriptor: Of the top (O_PATH).
        name: Of the top in the tar; `.` for a directory whose content alone is meant.
        is_skipped: Whether a directory (descriptor, path below the top) is left empty.
        on_entry: Called for every entry.
    """
    packer.add(name, descriptor)
    on_entry()
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return
    pending = [b""]
    while pending:
        path = pending.pop()
        try:
            directory = open_directory(descriptor, path or b".")
        except OSError as error:
            if error.errno in _VANISHED:
                continue
            raise
        try:
            subdirectories = []
            names = () if is_skipped(directory, path) else sorted(_names(directory))
            for child in names:
                child_path = path + b"/" + child if path else child
                with contextlib.suppress(FileNotFoundError):
                    found = os.open(child, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
                    try:
                        packer.add(name + b"/" + child_path, found)
                        if stat.S_ISDIR(os.fstat(found).st_mode):
                            subdirectories.append(child_path)
                    finally:
                        os.close(found)
                    on_entry()
            pending.extend(reversed(subdirectories))
        finally:
            os.close(directory)


def _names(directory: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory)]
