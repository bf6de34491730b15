"""Layers of registries that somebody looks into: fetched once, as long as there is room.

A pull takes them from here as well.

Each is a file without a name on the store's file system, so that nothing is left of it when the
process ends, in whatever way. A file system that has no such files keeps none.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Self

from engine.errors import StoreError
from engine.store.durability import make_directory, write_all

if TYPE_CHECKING:
    from pathlib import Path

KEPT_BYTES = 1 << 30
_SHARE_OF_FREE = 4


class KeptLayer:
    """A blob in a file; its descriptor is its own. Use as a context manager."""

    def __init__(self, descriptor: int, *, offset: int = 0) -> None:
        """Take over a descriptor; nobody minds where it stands."""
        self._descriptor = descriptor
        self._position = offset

    def read(self, size: int, /) -> bytes:
        """As BlobStream."""
        piece = os.pread(self._descriptor, size, self._position)
        self._position += len(piece)
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)


class LayerCopy:
    """A blob that is kept while it comes; leaving the block without `finish` drops it."""

    def __init__(self, cache: LayerCache, digest: str, descriptor: int) -> None:
        """For LayerCache only; -1 keeps nothing."""
        self._cache = cache
        self._digest = digest
        self._descriptor = descriptor

    def write(self, piece: bytes) -> None:
        """Add to it. A disk that is full ends the keeping and not the look."""
        if self._descriptor >= 0:
            try:
                write_all(self._descriptor, piece)
            except OSError:
                self._drop()

    def finish(self) -> None:
        """Keep it: all of it has come, and it is what its digest says."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._cache.put(self._digest, descriptor)

    def _drop(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._drop()


class LayerCache:
    """The layers that were looked into last. Any thread may use it; everything blocks."""

    def __init__(self, directory: Path, *, maximum_bytes: int = KEPT_BYTES) -> None:
        """Keep layers on the file system of a directory, so many bytes of them together."""
        self._directory = directory
        self._maximum_bytes = maximum_bytes
        self._lock = threading.Lock()
        self._kept: dict[str, int] = {}
        """Descriptors by digest, those used last at the end."""
        self._is_closed = False

    def open(self, digest: str, *, offset: int = 0) -> KeptLayer | None:
        """A layer that is kept, to be read from an offset on."""
        with self._lock:
            descriptor = self._kept.pop(digest, None)
            if descriptor is None:
                return None
            self._kept[digest] = descriptor
            # Of its own: it may be dropped here while it is read.
            return KeptLayer(os.dup(descriptor), offset=offset)

    def copy(self, digest: str, size_bytes: int) -> LayerCopy:
        """Begin to keep a layer of so many bytes, if there is room."""
        descriptor = -1
        with contextlib.suppress(OSError, StoreError):
            make_directory(self._directory)
            disk = os.statvfs(self._directory)
            room = min(self._maximum_bytes, disk.f_bavail * disk.f_frsize // _SHARE_OF_FREE)
            if size_bytes <= room:
                flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
                descriptor = os.open(self._directory, flags, 0o600)
        return LayerCopy(self, digest, descriptor)

    def put(self, digest: str, descriptor: int) -> None:
        """For LayerCopy: take over a descriptor, and drop what there is no room for any more."""
        with self._lock:
            before = self._kept.pop(digest, None)
            if before is not None:
                os.close(before)
            self._kept[digest] = descriptor
            total = sum(os.fstat(one).st_size for one in self._kept.values())
            while self._kept and (self._is_closed or total > self._maximum_bytes):
                oldest = self._kept.pop(next(iter(self._kept)))
                total -= os.fstat(oldest).st_size
                os.close(oldest)

    def drop(self, digest: str) -> None:
        """Keep a layer no longer."""
        with self._lock:
            descriptor = self._kept.pop(digest, None)
            if descriptor is not None:
                os.close(descriptor)

    def close(self) -> None:
        """Keep nothing any more, also nothing that comes later."""
        with self._lock:
            self._is_closed = True
            for descriptor in self._kept.values():
                os.close(descriptor)
            self._kept.clear()
