"""The very same tar again: what of a layer's tar is not in its files, kept beside them.

Unpacking loses how a tar was written: the order of entries, the flavour of headers, padding. A
layer's `tar` file has all of that, and in place of each file's content where in `diff` it lies, so
that tar and diff id can be made again. What a later entry of the same tar replaced is no longer in
`diff`; it is kept in `replaced`, under its number.

The file is a short head (magic, length of the tar), then records in one zstd stream::

    L <length: u32> <bytes>                                what the tar has here
    C <path, extents: u32> <path> <offset, length: u64>…   this much of a file of `diff`
    E <length of the tar: u64>                             the end
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING, cast

from engine.errors import StoreError
from engine.linux.files import open_beneath
from engine.snapshots.base import DIFF_NAME, REPLACED_NAME, TAR_NAME
from engine.snapshots.file_content import write_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from engine.snapshots.streams import ByteSource

_HEAD = struct.Struct("<8sQ")
_MAGIC = b"lamtar1\n"
_LITERAL = struct.Struct("<cI")
_CONTENT = struct.Struct("<cII")
_EXTENT = struct.Struct("<QQ")
_END = struct.Struct("<cQ")
_LITERAL_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20
_LEVEL = 1
_MISSING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class LayerTarFile:
    """Writes a layer's `tar` file of what the tar is made of, piece by piece; blocking.

    Use as a context manager; what was written is whole after `end` only.
    """

    def __init__(self, directory: int) -> None:
        """Begin the file; `directory` is the layer's own, and stays the caller's."""
        self._directory = directory
        self._literal = bytearray()
        self._records = bytearray()
        self._content_left = 0
        self._numbers: dict[bytes, int] = {}
        self._count = 0
        self._length = 0
        self._has_replaced = False
        self._compressor = zstd.ZstdCompressor(
            options={
                zstd.CompressionParameter.compression_level: _LEVEL,
                zstd.CompressionParameter.checksum_flag: 1,
            }
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(TAR_NAME.encode(), flags, 0o600, dir_fd=directory)
        os.lseek(self._file, _HEAD.size, os.SEEK_SET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._file)

    def add(self, piece: bytes) -> None:
        """What the tar has next: a file's content as far as one was begun, else its own."""
        self._length += len(piece)
        if self._content_left:
            self._content_left -= len(piece)
        else:
            self._literal += piece
            if len(self._literal) >= _LITERAL_BYTES:
                self._flush()

    def begin_content(self, path: bytes, extents: Sequence[tuple[int, int]]) -> None:
        """What comes next, as long as the extents are, goes into a file of `diff` just so."""
        extents = [(offset, length) for offset, length in extents if length]
        if not extents:
            return
        self._flush()
        self._records += _CONTENT.pack(b"C", len(path), len(extents)) + path
        for extent in extents:
            self._records += _EXTENT.pack(*extent)
        self._content_left = sum(length for _offset, length in extents)
        self._numbers[path] = self._count
        self._count += 1

    def keep_replaced(self, directory: int, name: bytes, path: bytes) -> None:
        """Keep a file of `diff` that is about to be removed, if the tar has its content."""
        number = self._numbers.pop(path, None)
        if number is None:
            return
        if not self._has_replaced:
            os.mkdir(REPLACED_NAME, 0o700, dir_fd=self._directory)
            self._has_replaced = True
        os.link(
            name,
            f"{REPLACED_NAME}/{number}",
            src_dir_fd=directory,
            dst_dir_fd=self._directory,
            follow_symlinks=False,
        )

    def end(self) -> None:
        """Write the end of the file; nothing is synced."""
        self._flush()
        self._records += _END.pack(b"E", self._length)
        write_all(self._file, self._compressor.compress(bytes(self._records)))
        write_all(self._file, self._compressor.flush())
        os.pwrite(self._file, _HEAD.pack(_MAGIC, self._length), 0)

    def _flush(self) -> None:
        if self._literal:
            self._records += _LITERAL.pack(b"L", len(self._literal)) + self._literal
            self._literal.clear()
        if len(self._records) >= _LITERAL_BYTES:
            write_all(self._file, self._compressor.compress(bytes(self._records)))
            self._records.clear()


class LayerTarRecorder(LayerTarFile):
    """A source for a TarReader that writes down what is read through it; blocking."""

    def __init__(self, source: ByteSource, directory: int) -> None:
        """Pass on a source; `directory` is the layer's own, and stays the caller's."""
        super().__init__(directory)
        self._source = source

    def read(self, size: int, /) -> bytes:
        """As ByteSource."""
        piece = self._source.read(size)
        self.add(piece)
        return piece

    def skip(self, size: int, /) -> int:
        """As ByteSource; what is gone over is written down too."""
        left = size
        while left and (piece := self.read(min(left, _LITERAL_BYTES))):
            left -= len(piece)
        return size - left

    def finish(self) -> None:
        """Read the source to its end, and write the end of the file; nothing is synced."""
        while self.read(_LITERAL_BYTES):
            pass
        self.end()


def layer_tar_bytes(layer_path: str) -> int | None:
    """How long a layer's tar is; None for a layer that has no `tar` file. Blocking.

    Raises:
        StoreError: The file is damaged.
    """
    try:
        with open(os.path.join(layer_path, TAR_NAME), "rb") as file:
            head = file.read(_HEAD.size)
    except FileNotFoundError:
        return None
    return _length_of(head, os.path.basename(layer_path))


def _length_of(head: bytes, label: str) -> int:
    if len(head) == _HEAD.size:
        magic, length = _HEAD.unpack(head)
        if magic == _MAGIC:
            return cast("int", length)
    raise _damaged(label)


def _damaged(label: str, reason: str = "") -> StoreError:
    return StoreError(
        f"{label} in the store is damaged" + (f": {reason}" if reason else ""),
        hint="Remove the images that use the layer, and load or pull them again",
    )


def write_layer_tar(directory: int, write: Callable[[bytes], object], label: str) -> None:
    """Write the tar that a layer was unpacked from; blocking. The caller checks its digest.

    Args:
        directory: The layer's own, with `diff` and `tar`.
        write: Takes all of what it is given.
        label: What errors call the layer.

    Raises:
        StoreError: A file is missing, or the layer's `tar` damaged.
        FileNotFoundError: The layer has no `tar` file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(TAR_NAME.encode(), flags, dir_fd=directory)
    with open(descriptor, "rb") as file:
        length = _length_of(file.read(_HEAD.size), label)
        contents = _Contents(directory, label)
        try:
            with zstd.ZstdFile(file) as stream:
                written = _write_records(_Records(stream, label), contents, write, label)
        except (zstd.ZstdError, EOFError) as error:
            raise _damaged(label, str(error)) from None
        finally:
            contents.close()
    if written != length:
        raise _damaged(label, "its tar ends too early")


def _write_records(
    records: _Records, contents: _Contents, write: Callable[[bytes], object], label: str
) -> int:
    written = 0
    while (kind := records.take(1)) != b"E":
        if kind == b"L":
            _, size = _LITERAL.unpack(kind + records.take(_LITERAL.size - 1))
            write(records.take(size))
            written += size
        elif kind == b"C":
            _, path_bytes, count = _CONTENT.unpack(kind + records.take(_CONTENT.size - 1))
            path = records.take(path_bytes)
            extents = list(_EXTENT.iter_unpack(records.take(count * _EXTENT.size)))
            for piece in contents.read(path, extents):
                write(piece)
                written += len(piece)
        else:
            raise _damaged(label, "its tar has an unknown record")
    _, length = _END.unpack(kind + records.take(_END.size - 1))
    if length != written:
        raise _damaged(label, f"its tar has {written:,} bytes, expected {length:,}")
    return written


class _Records:
    """Reads exactly as much as is asked for."""

    def __init__(self, stream: zstd.ZstdFile, label: str) -> None:
        self._stream = stream
        self._label = label

    def take(self, size: int) -> bytes:
        parts = []
        while size:
            piece = self._stream.read(size)
            if not piece:
                raise _damaged(self._label, "its tar ends too early")
            parts.append(piece)
            size -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Contents:
    """The contents of a layer's files, in the order in which the tar had them."""

    def __init__(self, directory: int, label: str) -> None:
        self._label = label
        self._count = 0
        self._replaced = -1
        self._diff = open_beneath(directory, DIFF_NAME.encode(), os.O_PATH | os.O_DIRECTORY)
        try:
            flags = os.O_PATH | os.O_DIRECTORY
            self._replaced = open_beneath(directory, REPLACED_NAME.encode(), flags)
            self._numbers = frozenset(os.listdir(f"/proc/self/fd/{self._replaced}"))
        except FileNotFoundError:
            self._numbers = frozenset()

    def close(self) -> None:
        os.close(self._diff)
        if self._replaced >= 0:
            os.close(self._replaced)

    def read(self, path: bytes, extents: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        number = str(self._count)
        self._count += 1
        is_replaced = number in self._numbers
        root, name = (self._replaced, number.encode()) if is_replaced else (self._diff, path)
        try:
            # Whatever is there: a pipe must not be waited for.
            descriptor = open_beneath(root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _MISSING:
                raise _damaged(self._label, f"{os.fsdecode(path)!r} is missing") from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _damaged(self._label, f"{os.fsdecode(path)!r} is no file any more")
            for offset, length in extents:
                end = offset + length
                while offset < end:
                    piece = os.pread(descriptor, min(_PIECE_BYTES, end - offset), offset)
                    if not piece:
                        raise _damaged(self._label, f"{os.fsdecode(path)!r} became shorter")
                    offset += len(piece)
                    yield piece
        finally:
            os.close(descriptor)
