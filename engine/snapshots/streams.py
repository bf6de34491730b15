"""Where a tar's bytes come from: a stretch of a file, plain or through a decompressor.

A `ThreadedSource` reads, decompresses and hashes in a thread of its own, so that the thread that
writes files has a processor to itself. Memory is bounded: a few chunks are in flight.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Protocol, Self, cast

from isal import igzip_lib

from engine.errors import ArchiveError, EngineError, LayerLimitError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 20
_CHUNKS_IN_FLIGHT = 6
MAGIC_BYTES = 6
# gzip cannot pass 1,032 to 1. Zstandard can, also in honest layers (a `lastlog` of zeros), but
# not by this much over this length.
_BOMB_RATIO = 5000
_BOMB_FREE_BYTES = 4 << 30
# What a member leaves unused is copied: of millions of tiny ones, a little each time.
_FIRST_FED_BYTES = 1 << 12
# Each takes its time to begin; zstd:chunked has one for each file.
_MOST_MEMBERS = 1_000_000

_IsalError = cast("type[Exception]", igzip_lib.IsalError)  # its stub says an instance
_WINDOW_TOO_LARGE = "too much memory"  # what libzstd says
_DAMAGED = (zstd.ZstdError, _IsalError, EOFError)

_REFUSED_MAGIC = (
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
)


class ByteSource(Protocol):
    """A stream of bytes that can be read forwards."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, at least one; empty at the end."""

    def skip(self, size: int, /) -> int:
        """Go over `size` bytes; returns how many there were."""


class Decompressor(Protocol):
    """What isal and zstd have in common."""

    @property
    def eof(self) -> bool:
        """The end of the compressed stream was reached."""

    @property
    def needs_input(self) -> bool:
        """Nothing more comes out without more going in."""

    @property
    def unused_data(self) -> bytes:
        """What came after the end of the compressed stream."""

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        """Take in `data`, give out at most `max_length` bytes."""


class FileSource:
    """A stretch of a file that can be seeked; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, *, offset: int = 0, size: int | None = None) -> None:
        self._descriptor = descriptor
        self._position = offset
        self._end = os.fstat(descriptor).st_size if size is None else offset + size
        self._buffer = b""
        self._buffer_start = offset

    def read(self, size: int, /) -> bytes:
        """As ByteSource."""
        start = self._position - self._buffer_start
        if not 0 <= start < len(self._buffer):
            wanted = min(max(size, 1 << 16), self._end - self._position)
            if wanted <= 0:
                return b""
            self._buffer = os.pread(self._descriptor, wanted, self._position)
            self._buffer_start = self._position
            start = 0
        piece = self._buffer[start : start + size]
        self._position += len(piece)
        return piece

    def skip(self, size: int, /) -> int:
        """As ByteSource; costs nothing."""
        length = max(0, min(size, self._end - self._position))
        self._position += length
        return length


def compression_of(magic: bytes) -> str:
    """`gzip`, `zstd`, or empty for anything else, by the first bytes; raises nothing."""
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    if magic.startswith(b"\x28\xb5\x2f\xfd") or (
        magic[1:4] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F
    ):
        return "zstd"
    return ""


def decompressor_of(
    magic: bytes, label: str, *, window_bytes: int | None = None
) -> Decompressor | None:
    """A decompressor for a stream with these first bytes; None where it is not compressed.

    Args:
        magic: The first bytes.
        label: What errors call the stream.
        window_bytes: As `decompress` has it.

    Raises:
        ArchiveError: It is compressed in a way that images do not use.
    """
    for refused, name in _REFUSED_MAGIC:
        if magic.startswith(refused):
            raise ArchiveError(
                label,
                f"it is compressed with {name}, which is not supported",
                hint="Decompress it first, or compress it with gzip or zstd",
            )
    return _new_decompressor(compression_of(magic), window_bytes)


def _new_decompressor(compression: str, window_bytes: int | None) -> Decompressor | None:
    if compression == "gzip":
        gzip: Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return gzip
    if compression == "zstd":
        options: dict[int, int] = {}
        if window_bytes is not None:
            parameter = zstd.DecompressionParameter.window_log_max
            lowest, highest = parameter.bounds()
            options[parameter] = max(lowest, min(window_bytes.bit_length() - 1, highest))
        zstandard: Decompressor = zstd.ZstdDecompressor(options=options)
        return zstandard
    return None


def decompress(
    pieces: Iterator[bytes],
    magic: bytes,
    label: str,
    *,
    window_bytes: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[bytes]:
    """Decompress a stream piece by piece, in chunks of at most `chunk_bytes`.

    Several members one after another are one stream, and zeros after the last one are ignored,
    as gzip(1) and zstd(1) have it.

    Args:
        pieces: The stream.
        magic: Its first bytes.
        label: What errors call it.
        window_bytes: How much of it zstd may keep in memory, as a power of two; None for what
            zstd(1) takes, which is 128 MiB.
        chunk_bytes: At most so much comes at once.

    Raises:
        LayerLimitError: It needs a larger window.
        ArchiveError: The stream is damaged, cut short, or grows beyond all reason.
    """
    decompressor = decompressor_of(magic, label, window_bytes=window_bytes)
    if decompressor is None:
        yield from pieces
        return
    compression = compression_of(magic)
    taken = given = member_count = 0
    is_member_open = False
    fed_bytes = _FIRST_FED_BYTES
    for fresh in pieces:
        taken += len(fresh)
        view = memoryview(fresh)
        position = 0
        while position < len(fresh) or (is_member_open and not decompressor.needs_input):
            if decompressor.eof:
                rest = len(fresh) - position
                if not fresh[position] and fresh.count(b"\0", position) == rest:
                    break
                if compression_of(fresh[position : position + MAGIC_BYTES]) != compression and (
                    rest >= 4
                ):
                    raise ArchiveError(
                        label, f"there is something else after its {compression} data"
                    )
                member_count += 1
                if member_count > _MOST_MEMBERS:
                    raise ArchiveError(
                        label, f"it is compressed in more than {_MOST_MEMBERS:,} pieces"
                    )
                fresh_decompressor = _new_decompressor(compression, window_bytes)
                assert fresh_decompressor is not None
                decompressor = fresh_decompressor
                fed_bytes = _FIRST_FED_BYTES
            is_hungry = not is_member_open or decompressor.needs_input
            fed = view[position : position + fed_bytes] if is_hungry else b""
            try:
                chunk = decompressor.decompress(fed, chunk_bytes)
            except _DAMAGED as error:
                if _WINDOW_TOO_LARGE in str(error):
                    raise _window_error(label, window_bytes) from None
                raise ArchiveError(label, f"its {compression} data is damaged: {error}") from None
            position += len(fed)
            fed_bytes = min(2 * fed_bytes, CHUNK_BYTES)
            is_member_open = not decompressor.eof
            if not is_member_open:
                position -= len(decompressor.unused_data)
            if chunk:
                given += len(chunk)
                if given > _BOMB_FREE_BYTES and given > taken * _BOMB_RATIO:
                    raise ArchiveError(
                        label, f"it grows more than {_BOMB_RATIO:,} times when decompressed"
                    )
                yield chunk
    if not decompressor.eof:
        raise ArchiveError(label, f"its {compression} data ends too early: it is truncated")


def _window_error(label: str, window_bytes: int | None) -> LayerLimitError:
    if window_bytes is None:
        return LayerLimitError(
            label,
            "decompressing it takes more than 128 MiB of memory",
            hint="Compress it without --long and --ultra",
        )
    return LayerLimitError(
        label,
        f"decompressing it takes more than {window_bytes >> 20:,} MiB of memory",
        hint="LAMELLA_LAYER_WINDOW=SIZE (128m) allows more, as zstd --long and --ultra need it",
    )


class StoppedError(Exception):
    """The reader has gone; nobody wants more."""


class ThreadedSource:
    """A stream that a thread of its own makes, while another one reads it.

    Use as a context manager: leaving it ends the thread.
    """

    def __init__(self, *, thread_name: str) -> None:
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(_CHUNKS_IN_FLIGHT)
        self._stop = threading.Event()
        self._chunk = b""
        self._position = 0
        self._is_at_end = False
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._wake()
        while self._thread.is_alive():
            # The thread may wait for room: make some until it has seen the stop.
            try:
                self._chunks.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _wake(self) -> None:
        """Have the thread come back from whatever else it waits for than room."""

    def _begin_part(self) -> None:
        """Read what comes behind an end."""
        self._is_at_end = False

    def _produce(self) -> None:
        """Make the stream: `_give` its chunks; runs in the thread."""
        raise NotImplementedError

    def _give(self, chunk: bytes | None) -> None:
        """Hand on a chunk, or None: the end, or that of a part."""
        self._chunks.put(chunk)
        if self._stop.is_set():
            raise StoppedError

    def _run(self) -> None:
        try:
            self._produce()
            self._give(None)
        except StoppedError:
            return
        except (EngineError, OSError, MemoryError) as error:
            self._chunks.put(error)

    def _next_chunk(self) -> bool:
        if self._is_at_end:
            return False
        item = self._chunks.get()
        if isinstance(item, bytes):
            self._chunk = item
            self._position = 0
            return True
        self._is_at_end = True
        self._chunk = b""
        self._position = 0
        if item is not None:
            raise item
        return False

    def read(self, size: int, /) -> bytes:
        """As ByteSource; raises what the thread raised."""
        position = self._position
        if position >= len(self._chunk):
            if not self._next_chunk():
                return b""
            position = 0
        piece = self._chunk[position : position + size]
        self._position = position + len(piece)
        return piece

    def skip(self, size: int, /) -> int:
        """As ByteSource; raises what the thread raised."""
        left = size
        while left:
            available = len(self._chunk) - self._position
            if not available:
                if not self._next_chunk():
                    break
                continue
            step = min(left, available)
            self._position += step
            left -= step
        return size - left

    def drain(self) -> None:
        """Read what is left, to its end; raises what the thread raised."""
        while self._next_chunk():
            pass


class Pack(Protocol):
    """Makes a stream by writing it, piece by piece."""

    def __call__(self, write: Callable[[bytes], None], /) -> None:
        """Write all of it; blocking."""


class PackedSource(ThreadedSource):
    """What another piece of code writes, to be read here, and hashed on the way.

    Attributes:
        produced_bytes: How much was written, for progress.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__(thread_name="packer")
        self._pack = pack
        self._hash = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self.produced_bytes = 0

    def _produce(self) -> None:
        self._pack(self._write)
        self._flush()

    def _write(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            chunk = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered_bytes = 0
            self._hash.update(chunk)
            self.produced_bytes += len(chunk)
            self._give(chunk)

    def finish(self) -> str:
        """Read to the end and return the digest of everything."""
        self.drain()
        return f"sha256:{self._hash.hexdigest()}"


class StreamSource(ThreadedSource):
    """A tar from a pipe, a socket or a terminal's other end, decompressed if it is compressed.

    Attributes:
        consumed_bytes: How much was read, for progress.
    """

    def __init__(self, descriptor: int, *, label: str, window_bytes: int | None = None) -> None:
        """Read a descriptor to its end; it stays the caller's. `decompress` has the rest."""
        super().__init__(thread_name="stream-reader")
        self._window_bytes = window_bytes
        self._descriptor = descriptor
        self._label = label
        self.consumed_bytes = 0

    def _produce(self) -> None:
        first = b""
        while len(first) < MAGIC_BYTES and (piece := os.read(self._descriptor, CHUNK_BYTES)):
            first += piece
        magic, window_bytes = first[:MAGIC_BYTES], self._window_bytes
        pieces = self._pieces(first)
        for chunk in decompress(pieces, magic, self._label, window_bytes=window_bytes):
            self._give(chunk)

    def _pieces(self, first: bytes) -> Iterator[bytes]:
        piece = first
        while piece:
            self.consumed_bytes += len(piece)
            yield piece
            piece = os.read(self._descriptor, CHUNK_BYTES)
