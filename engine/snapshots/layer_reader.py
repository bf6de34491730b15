"""Layers' blobs, decompressed and hashed on both sides, in two threads for all of a stack.

One reads, decompresses and hashes blobs, ahead of who unpacks: while the files of one layer are
made, the next one is read already. The other hashes tars. Memory is bounded all the same: a few
chunks are in flight, of whichever layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol

from engine.errors import ArchiveError
from engine.late_dataclasses import dataclass
from engine.snapshots.streams import (
    CHUNK_BYTES,
    MAGIC_BYTES,
    StoppedError,
    ThreadedSource,
    compression_of,
    decompress,
)
from engine.snapshots.tar import too_large_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from engine.config import LayerLimits


_HASHED_IN_FLIGHT = 4


class BlobReader(Protocol):
    """A layer's blob, wherever it is."""

    @property
    def size(self) -> int:
        """Of the whole blob."""

    def read_at(self, position: int, size: int, /) -> bytes:
        """At least one byte of the blob; empty where its file ends too early."""


class StoredBlob:
    """A blob that is a stretch of a file; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, *, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self.size = size

    def read_at(self, position: int, size: int, /) -> bytes:
        """As BlobReader."""
        return os.pread(self._descriptor, size, self._offset + position)


class Growth:
    """Hears that blobs were made or have grown, until it is stopped."""

    def __init__(self, grown: int) -> None:
        """Wait for an eventfd that is written to after each piece; it stays the caller's."""
        self._grown = grown
        self._is_stopped = threading.Event()

    def wait(self) -> None:
        """Return after the next piece; one waits, in a thread of its own."""
        os.eventfd_read(self._grown)
        if self._is_stopped.is_set():
            raise StoppedError

    def stop(self) -> None:
        """Let nobody wait any more."""
        self._is_stopped.set()
        os.eventfd_write(self._grown, 1)


class GrowingBlob:
    """A blob whose file somebody else still writes; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, *, size: int, growth: Growth) -> None:
        self._descriptor = descriptor
        self._growth = growth
        self.size = size

    def read_at(self, position: int, size: int, /) -> bytes:
        """As BlobReader; waits for bytes that are not there yet."""
        while not (piece := os.pread(self._descriptor, size, position)):
            self._growth.wait()
        return piece


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """One layer to read.

    Attributes:
        label: What errors call it.
        limits: What its tar may have.
    """

    blob: BlobReader
    label: str
    limits: LayerLimits


class _Hasher:
    """Hashes in a thread of its own, in the order of what it is given."""

    def __init__(self) -> None:
        self._tasks: queue.Queue[Callable[[], object] | None] = queue.Queue(_HASHED_IN_FLIGHT)
        self._thread = threading.Thread(target=self._run, name="layer-hasher", daemon=True)
        self._thread.start()

    def add(self, task: Callable[[], object]) -> None:
        """Have something done; waits for room."""
        self._tasks.put(task)

    def close(self) -> None:
        """End the thread when it has done everything; blocking."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


class LayerReader(ThreadedSource):
    """The tars of layers, one after another: `begin`, read, `finish`, and again."""

    def __init__(
        self, blobs: Generator[LayerBlob, None, None], *, growth: Growth | None = None
    ) -> None:
        """Read blobs in their order.

        Args:
            blobs: Runs, and is closed, in the thread: it may open files and wait for them.
            growth: What it and its blobs wait for.
        """
        super().__init__(thread_name="layer-reader")
        self._blobs = blobs
        self._growth = growth
        self._read: list[_ReadLayer] = []
        self._number = -1

    def begin(self) -> None:
        """Turn to the next layer, of which nothing may be there yet."""
        self._number += 1
        self._begin_part()

    @property
    def consumed_bytes(self) -> int:
        """How much of this layer's blob was read, for progress."""
        return self._read[self._number].consumed_bytes if self._number < len(self._read) else 0

    def finish(self) -> tuple[str, str]:
        """Read the layer to its end; returns the digests of its blob and of its tar."""
        self.drain()
        return self._read[self._number].digests()

    def _wake(self) -> None:
        if self._growth is not None:
            self._growth.stop()

    def _produce(self) -> None:
        hasher = _Hasher()
        try:
            with contextlib.closing(self._blobs) as blobs:
                for layer in blobs:
                    read = _ReadLayer(layer)
                    self._read.append(read)
                    for chunk in read.chunks(hasher):
                        self._give(chunk)
                    self._give(None)
        finally:
            hasher.close()


class _ReadLayer:
    """One layer, on both sides of its decompression."""

    def __init__(self, layer: LayerBlob) -> None:
        self._layer = layer
        self._blob_hash = hashlib.sha256()
        self._tar_hash = hashlib.sha256()
        self._is_hashed = threading.Event()
        self._is_plain = False
        self.consumed_bytes = 0

    def chunks(self, hasher: _Hasher) -> Iterator[bytes]:
        """The tar; large ones are hashed elsewhere."""
        label, limits = self._layer.label, self._layer.limits
        magic = self._magic()
        self._is_plain = not compression_of(magic)
        is_large = self._layer.blob.size >= CHUNK_BYTES
        given = 0
        for chunk in decompress(self._pieces(), magic, label, window_bytes=limits.window_bytes):
            given += len(chunk)
            if given > limits.unpacked_bytes:
                raise too_large_error(label, limits.unpacked_bytes)
            if is_large:
                hasher.add(partial(self._tar_hash.update, chunk))
            else:
                self._tar_hash.update(chunk)
            yield chunk
        if is_large:
            hasher.add(self._is_hashed.set)
        else:
            self._is_hashed.set()

    def _magic(self) -> bytes:
        blob = self._layer.blob
        magic = b""
        wanted = min(MAGIC_BYTES, blob.size)
        while len(magic) < wanted and (piece := blob.read_at(len(magic), wanted - len(magic))):
            magic += piece
        return magic

    def _pieces(self) -> Iterator[bytes]:
        blob = self._layer.blob
        position, end = 0, blob.size
        while position < end:
            piece = blob.read_at(position, min(CHUNK_BYTES, end - position))
            if not piece:
                raise ArchiveError(self._layer.label, "it ends too early: it is truncated")
            if not self._is_plain:
                self._blob_hash.update(piece)
            position += len(piece)
            self.consumed_bytes = position
            yield piece

    def digests(self) -> tuple[str, str]:
        """Of the blob and of the tar, when all of it was read; waits until it is hashed."""
        self._is_hashed.wait()
        diff_id = f"sha256:{self._tar_hash.hexdigest()}"
        if self._is_plain:
            return diff_id, diff_id
        return f"sha256:{self._blob_hash.hexdigest()}", diff_id
