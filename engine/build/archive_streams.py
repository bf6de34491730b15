"""Archives as ADD and a context on standard input take them: a tar, compressed or not.

What it is is told from its content, never from a name. Besides what layers can be compressed with
that is bzip2 and xz.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import select
from typing import TYPE_CHECKING

from engine.errors import ArchiveError
from engine.operations import CancelledRead
from engine.snapshots.streams import CHUNK_BYTES, compression_of, decompress
from engine.snapshots.tar import BLOCK_BYTES, TarReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.operations import Cancellation
    from engine.snapshots.streams import Decompressor

_BZIP2_MAGIC = b"BZh"
_XZ_MAGIC = b"\xfd7zXZ\x00"
_MAGIC_BYTES = 6
_LOOK_BYTES = 1 << 16
_XZ_MEMORY_BYTES = 256 << 20
_BOMB_RATIO = 20_000
_BOMB_FREE_BYTES = 4 << 30


class ArchiveStream:
    """The bytes of an archive, decompressed while they are read; a ByteSource.

    Attributes:
        consumed_bytes: How much of the archive was read, for progress.
    """

    def __init__(
        self, descriptor: int, *, label: str, cancellation: Cancellation | None = None
    ) -> None:
        """Read a descriptor to its end; it stays the caller's.

        Args:
            descriptor: Of a file, a pipe or a socket.
            label: What errors call it.
            cancellation: Ends a read that waits, with CancelledRead.
        """
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._poll: select.poll | None = None
        if cancellation is not None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
            self._poll.register(cancellation.descriptor, select.POLLIN)
            self._cancelled = cancellation.descriptor
        self.consumed_bytes = 0
        self._chunk = memoryview(b"")
        first = b""
        while len(first) < _MAGIC_BYTES and (piece := self._read()):
            first += piece
        self._chunks = _decompressed(self._pieces(first), first[:_MAGIC_BYTES], label)

    def read(self, size: int, /) -> bytes:
        """As ByteSource.

        Raises:
            ArchiveError: It is damaged, or grows beyond all reason.
            CancelledRead: It was cancelled.
        """
        if not self._chunk:
            self._chunk = memoryview(next(self._chunks, b""))
        piece = bytes(self._chunk[:size])
        self._chunk = self._chunk[size:]
        return piece

    def skip(self, size: int, /) -> int:
        """As ByteSource."""
        left = size
        while left and (piece := self.read(min(left, CHUNK_BYTES))):
            left -= len(piece)
        return size - left

    def finish(self) -> bytes:
        """Read what is left, and return the raw sha256 of all that was read of the descriptor."""
        while self.read(CHUNK_BYTES):
            pass
        while self._read():
            pass
        return self._digest.digest()

    def _read(self) -> bytes:
        if self._poll is not None:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            if self._cancelled in ready:
                raise CancelledRead
        piece = os.read(self._descriptor, CHUNK_BYTES)
        self._digest.update(piece)
        self.consumed_bytes += len(piece)
        return piece

    def _pieces(self, first: bytes) -> Iterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = self._read()


def is_archive(descriptor: int) -> bool:
    """Whether a file (opened for reading, at its beginning) is a tar that holds something.

    Blocking; reads no more than it takes to see the first entry's header. The descriptor is at
    its beginning again afterwards.
    """
    content = os.pread(descriptor, _LOOK_BYTES, 0)
    if len(content) < _MAGIC_BYTES:
        return False
    pieces = _decompressed(_stretch(descriptor), content[:_MAGIC_BYTES], "the file")
    head = b""
    try:
        while len(head) < BLOCK_BYTES and (piece := next(pieces, b"")):
            head += piece
        if len(head) < BLOCK_BYTES:
            return False
        TarReader(_Nothing(), label="the file").check_beginning(head[:BLOCK_BYTES])
    except ArchiveError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True


class _Nothing:
    """A stream with nothing in it."""

    def read(self, _size: int, /) -> bytes:
        return b""

    def skip(self, _size: int, /) -> int:
        return 0


def _stretch(descriptor: int) -> Iterator[bytes]:
    """A file in small pieces: only its beginning is wanted."""
    position = 0
    while piece := os.pread(descriptor, _LOOK_BYTES, position):
        position += len(piece)
        yield piece


def _decompressed(pieces: Iterator[bytes], magic: bytes, label: str) -> Iterator[bytes]:
    if compression_of(magic):
        return decompress(pieces, magic, label)
    if magic.startswith((_BZIP2_MAGIC, _XZ_MAGIC)):
        return _decompress_by_library(pieces, magic, label)
    return pieces


def _new_decompressor(magic: bytes) -> Decompressor:
    if magic.startswith(_BZIP2_MAGIC):
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


def _decompress_by_library(pieces: Iterator[bytes], magic: bytes, label: str) -> Iterator[bytes]:
    """Bzip2 and xz; several streams one after another are one, zeros between them are padding."""
    name = "bzip2" if magic.startswith(_BZIP2_MAGIC) else "xz"
    decompressor = _new_decompressor(magic)
    taken = given = 0
    for piece in pieces:
        taken += len(piece)
        fresh = piece
        while fresh or not (decompressor.needs_input or decompressor.eof):
            if decompressor.eof:
                fresh = fresh.lstrip(b"\0")
                if not fresh:
                    break
                decompressor = _new_decompressor(magic)
            try:
                chunk = decompressor.decompress(fresh, CHUNK_BYTES)
            except (OSError, lzma.LZMAError, EOFError) as error:
                raise ArchiveError(label, f"its {name} data is damaged: {error}") from None
            fresh = decompressor.unused_data if decompressor.eof else b""
            given += len(chunk)
            if given > _BOMB_FREE_BYTES and given > taken * _BOMB_RATIO:
                raise ArchiveError(
                    label, f"it grows more than {_BOMB_RATIO:,} times when decompressed"
                )
            if chunk:
                yield chunk
    if not decompressor.eof:
        raise ArchiveError(label, f"its {name} data ends too early: it is truncated")
