"""A settled layer is read for its diff id: its tar is made up, digested, and kept as a recipe.

The same files give the same bytes: entries come sorted, times are whole seconds, owners have no
names.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.linux.files import open_beneath, start_writing_back
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.index import LayerEntry, digest_xattrs, make_index, write_index
from engine.snapshots.layer_tar import LayerTarFile
from engine.snapshots.lowers import is_whiteout
from engine.snapshots.tar import TarKind
from engine.snapshots.tar_writer import TarHeader, TarStream
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import ThreadPoolExecutor

_PIECE_BYTES = 1 << 20
_LARGE_BYTES = 1 << 22
_NANOSECONDS = 1_000_000_000
_KINDS = {
    stat.S_IFREG: (FileKind.FILE, TarKind.FILE),
    stat.S_IFDIR: (FileKind.DIRECTORY, TarKind.DIRECTORY),
    stat.S_IFLNK: (FileKind.SYMLINK, TarKind.SYMLINK),
    stat.S_IFCHR: (FileKind.CHARACTER_DEVICE, TarKind.CHARACTER_DEVICE),
    stat.S_IFBLK: (FileKind.BLOCK_DEVICE, TarKind.BLOCK_DEVICE),
    stat.S_IFIFO: (FileKind.FIFO, TarKind.FIFO),
}


class SealedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff`, `index` and `tar`; nothing is synced.

    Attributes:
        diff_id: Digest of the layer's tar.
        tar_bytes: How large that tar is.
    """

    diff_id: str
    tar_bytes: int
    size_bytes: int
    entry_count: int


class SettledPath(msgspec.Struct):
    """One path of a layer, as it stays."""

    path: bytes
    status: os.stat_result
    mtime_ns: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    is_opaque: bool = False
    is_dropped: bool = False


def digest_layer(directory: int, settled: Iterable[SettledPath]) -> SealedLayer:
    """Read a layer, and write `index` and `tar` beside its `diff`; blocking.

    Args:
        directory: Of the layer; stays the caller's.
        settled: All that it has, sorted.

    Raises:
        OSError: It cannot be read, or the disk is full.
    """
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_PATH | os.O_DIRECTORY)
    whole = hashlib.sha256()
    try:
        with LayerTarFile(directory) as recorder:
            pending = bytearray()

            def write(piece: bytes) -> None:
                recorder.add(piece)
                # Headers are small: a call for each would cost more than its work.
                if len(pending) + len(piece) < _PIECE_BYTES:
                    pending.extend(piece)
                    return
                whole.update(pending)
                pending.clear()
                whole.update(piece)

            stream = TarStream(write)
            packer = _Packer(root, stream, recorder)
            try:
                entries = [packer.add(found) for found in settled]
            finally:
                packer.close()
            stream.close()
            whole.update(pending)
            recorder.end()
    finally:
        os.close(root)
    index = make_index(entries)
    write_index(directory, index)
    return SealedLayer(
        diff_id=f"sha256:{whole.hexdigest()}",
        tar_bytes=stream.written_bytes,
        size_bytes=index.size_bytes,
        entry_count=index.entry_count,
    )


class _Packer:
    """Appends settled paths to a tar, and makes their entries of the index."""

    def __init__(self, root: int, stream: TarStream, recorder: LayerTarFile) -> None:
        self._root = root
        self._stream = stream
        self._recorder = recorder
        self._first_names: dict[tuple[int, int], tuple[bytes, LayerEntry]] = {}
        self._executor: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """End what it has started."""
        if self._executor is not None:
            self._executor.shutdown()

    def add(self, found: SettledPath) -> LayerEntry:
        status, path = found.status, found.path
        if is_whiteout(status):
            self._add_marker(_beside(path))
            return LayerEntry(
                path=path, kind=FileKind.WHITEOUT, mode=0, user_id=0, group_id=0, size_bytes=0,
                mtime_ns=0,
            )  # fmt: skip
        kind, tar_kind = _KINDS[stat.S_IFMT(status.st_mode)]
        identity = (status.st_dev, status.st_ino)
        if kind is not FileKind.DIRECTORY and status.st_nlink > 1 and identity in self._first_names:
            return self._add_hard_link(found, *self._first_names[identity])
        link = b""
        if kind is FileKind.SYMLINK:
            link = self._read_link(path)
        is_device = kind in {FileKind.CHARACTER_DEVICE, FileKind.BLOCK_DEVICE}
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        header = TarHeader(
            name=path,
            kind=tar_kind,
            mode=stat.S_IMODE(status.st_mode),
            user_id=status.st_uid,
            group_id=status.st_gid,
            size=status.st_size if kind is FileKind.FILE else 0,
            modified_at=found.mtime_ns // _NANOSECONDS,
            link=link,
            device_major=major if is_device else 0,
            device_minor=minor if is_device else 0,
            xattrs=found.xattrs,
        )
        self._stream.begin(header)
        content_digest = self._add_content(path, status.st_size) if kind is FileKind.FILE else b""
        if found.is_opaque:
            self._add_marker(path + b"/.wh..wh..opq")
        entry = LayerEntry(
            path=path,
            kind=kind,
            mode=header.mode,
            user_id=status.st_uid,
            group_id=status.st_gid,
            size_bytes=header.size,
            mtime_ns=found.mtime_ns,
            link=link,
            content_digest=content_digest,
            xattrs_digest=digest_xattrs(found.xattrs),
            device=major << 32 | minor if is_device else 0,
            is_opaque=found.is_opaque,
        )
        if kind is not FileKind.DIRECTORY and status.st_nlink > 1:
            self._first_names[identity] = (path, entry)
        return entry

    def _add_marker(self, name: bytes) -> None:
        self._stream.begin(TarHeader(name=name, kind=TarKind.FILE, mode=0))

    def _add_hard_link(self, found: SettledPath, name: bytes, first: LayerEntry) -> LayerEntry:
        self._stream.begin(
            TarHeader(
                name=found.path,
                kind=TarKind.HARD_LINK,
                mode=first.mode,
                user_id=first.user_id,
                group_id=first.group_id,
                modified_at=first.mtime_ns // _NANOSECONDS,
                link=name,
            )
        )
        return msgspec.structs.replace(first, path=found.path, kind=FileKind.HARD_LINK, link=name)

    def _read_link(self, path: bytes) -> bytes:
        descriptor = open_beneath(self._root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink(b"", dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _add_content(self, path: bytes, size: int) -> bytes:
        digest = hashlib.sha256()
        self._recorder.begin_content(path, ((0, size),))
        descriptor = open_beneath(self._root, path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if size >= _LARGE_BYTES:
                self._add_large(descriptor, path, size, digest)
            else:
                for piece in _pieces(descriptor, path, size):
                    digest.update(piece)
                    self._stream.write(piece)
        finally:
            os.close(descriptor)
        return digest.digest()

    def _add_large(self, descriptor: int, path: bytes, size: int, digest: hashlib._Hash) -> None:
        executor = self._side_executor()
        # It has to be on the disk before its image is recorded: while it is read, then.
        writing = executor.submit(start_writing_back, descriptor)
        try:
            for piece in _pieces(descriptor, path, size):
                # Two digests of the same bytes, side by side.
                digesting = executor.submit(digest.update, piece)
                self._stream.write(piece)
                digesting.result()
        finally:
            writing.result()

    def _side_executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            # Most layers have no large file, and it takes longer to load than they take.
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(2, thread_name_prefix="large-file")
        return self._executor


def _pieces(descriptor: int, path: bytes, size: int) -> Iterator[bytes]:
    """The content of a file of which nobody writes any more."""
    left = size
    while left:
        piece = os.read(descriptor, min(left, _PIECE_BYTES))
        if not piece:
            raise OSError(0, f"{os.fsdecode(path)} became shorter while it was read")
        yield piece
        left -= len(piece)


def _beside(path: bytes) -> bytes:
    """The name of the mark for a path that was removed (OCI image-spec, layer.md, "Whiteouts")."""
    parent, slash, name = path.rpartition(b"/")
    return parent + slash + b".wh." + name
