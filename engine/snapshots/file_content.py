"""Writing what an archive has of a file into the file."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING

from engine.linux.files import start_writing_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.snapshots.index import LayerEntry
    from engine.snapshots.tar import TarEntry, TarReader

LARGE_FILE_BYTES = 128 << 10
"""From here on it pays to hand a file to a ContentWriter."""
_ZEROES = bytes(1 << 18)
_SHORTEST_HOLE_BYTES = 1 << 16
_TASKS_IN_FLIGHT = 16


def write_all(descriptor: int, piece: bytes) -> None:
    """Write a whole piece at the descriptor's position."""
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def write_segments(descriptor: int, entry: TarEntry, reader: TarReader) -> None:
    """Write a sparse file's content where its map has it; what is between stays a hole."""
    segments = iter(entry.segments or ())
    left = 0
    for piece in reader.pieces():
        rest = piece
        while rest:
            while not left:
                offset, left = next(segments)
                os.lseek(descriptor, offset, os.SEEK_SET)
            part = rest[:left]
            write_all(descriptor, part)
            left -= len(part)
            rest = rest[len(part) :]


class _WholeFile:
    """A file whose content comes piece by piece; long stretches of zeros stay holes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._has_holes = False

    def add(self, piece: bytes) -> None:
        self._digest.update(piece)
        length = len(piece)
        if not piece[0] and length >= _SHORTEST_HOLE_BYTES and piece == _ZEROES[:length]:
            os.lseek(self._descriptor, length, os.SEEK_CUR)
            self._has_holes = True
        else:
            write_all(self._descriptor, piece)

    def finish(self, size: int) -> bytes:
        if self._has_holes:
            os.ftruncate(self._descriptor, size)
        return self._digest.digest()


def write_content(descriptor: int, size: int, pieces: Iterator[bytes]) -> bytes:
    """Write a whole file and return the digest of its content."""
    file = _WholeFile(descriptor)
    for piece in pieces:
        file.add(piece)
    return file.finish(size)


class ContentWriter:
    """Writes large files in a thread of its own, while the tar's next headers are read.

    The kernel begins to write each to the disk when it is whole, so that the sync at the end
    finds less to do. Memory is bounded: a few pieces are in flight.
    """

    def __init__(self) -> None:
        self._tasks: queue.Queue[Callable[[], object] | None] = queue.Queue(_TASKS_IN_FLIGHT)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="file-writer", daemon=True)
        self._thread.start()

    def write(self, descriptor: int, entry: LayerEntry, pieces: Iterator[bytes]) -> None:
        """Have a file written that has its owner and mode.

        Args:
            descriptor: Of the empty file; closed when that is done, or has failed.
            entry: Says its size and time stamp; gets the digest of the content.
            pieces: The content.

        Raises:
            OSError: What came of this file, or of one before it.
        """
        file = _WholeFile(descriptor)
        try:
            for piece in pieces:
                self._tasks.put(partial(self._attempt, file.add, piece))
                self._raise()
            self._tasks.put(partial(self._attempt, _finish, file, descriptor, entry))
        finally:
            self._tasks.put(partial(os.close, descriptor))

    def settle(self) -> None:
        """Wait until every file is written and every digest is known; raises as `write`."""
        reached = threading.Event()
        self._tasks.put(reached.set)
        reached.wait()
        self._raise()

    def close(self) -> None:
        """End the thread when it has done everything; blocking."""
        self._tasks.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _attempt(self, call: Callable[..., None], *arguments: object) -> None:
        """Do one thing, unless one before it has failed."""
        if self._error is None:
            try:
                call(*arguments)
            except (OSError, MemoryError) as error:
                self._error = error


def _finish(file: _WholeFile, descriptor: int, entry: LayerEntry) -> None:
    entry.content_digest = file.finish(entry.size_bytes)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    start_writing_back(descriptor)
