"""gzip by every processor: blocks compressed apart and put together as one stream, as pigz does.

The stream depends on the content alone, not on how many threads there are or how it comes.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from isal import isal_zlib

if TYPE_CHECKING:
    from concurrent.futures import Future

_BLOCK_BYTES = 1 << 20
_LEVEL = 2
_RAW_WINDOW_BITS = -15
_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Without a name and a time, from no particular system (RFC 1952)."""
_LAST_BLOCK = b"\x03\x00"
_MOST_THREADS = 4


class ParallelGzip:
    """A compressor like those of zlib; memory is bounded by a few blocks."""

    def __init__(self) -> None:
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        self._pending: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._checksum = 0
        self._size = 0
        self._head = _HEAD

    def compress(self, data: bytes, /) -> bytes:
        """Take in data; returns what is ready of the stream, which may be nothing."""
        self._checksum = isal_zlib.crc32(data, self._checksum)
        self._size += len(data)
        rest = memoryview(data)
        while len(self._buffer) + len(rest) >= _BLOCK_BYTES:
            missing = _BLOCK_BYTES - len(self._buffer)
            block = b"".join((self._buffer, rest[:missing])) if self._buffer else rest[:missing]
            self._buffer.clear()
            rest = rest[missing:]
            self._pending.append(self._pool.submit(_deflate, block))
        self._buffer += rest
        return self._take(leaves=2 * self._threads)

    def flush(self) -> bytes:
        """The end of the stream."""
        if self._buffer:
            self._pending.append(self._pool.submit(_deflate, bytes(self._buffer)))
        rest = self._take(leaves=0)
        self._pool.shutdown()
        return rest + _LAST_BLOCK + struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF)

    def _take(self, *, leaves: int) -> bytes:
        head, self._head = self._head, b""
        parts = [head]
        while len(self._pending) > leaves:
            parts.append(self._pending.popleft().result())
        return b"".join(parts)


def _deflate(block: bytes | memoryview) -> bytes:
    compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_RAW_WINDOW_BITS)
    # Ends at a byte, with more to follow.
    return compressor.compress(block) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
