"""The files of one log, read by position; blocking.

Rotation renames from the oldest on, so names are in the order of age at every moment, with at
most one missing between two others. Looking from the newest name to the oldest therefore sees a
file twice at worst, never misses one that was there at the start.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.logs.writer import HEADER_BYTES, MAXIMUM_TEXT_BYTES, TIMESTAMP_BYTES, parse_timestamp
from engine.types import LogLine, OutputStream

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_LINES = 1000
_BLOCK_BYTES = 256 << 10
_LONGEST_RECORD = HEADER_BYTES + MAXIMUM_TEXT_BYTES + 1
_LOOK_BACK_BYTES = 1 << 20
_STREAMS = {b" stdout ": OutputStream.STDOUT, b" stderr ": OutputStream.STDERR}


@dataclass(slots=True)
class _OpenFile:
    descriptor: int
    inode: int
    position: int = 0

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


@dataclass(slots=True)
class _Tail:
    """Where each stream starts, as (file index, offset), so that only wanted lines are given."""

    wanted: int
    starts: dict[OutputStream, tuple[int, int]] = field(default_factory=dict)
    incomplete: set[OutputStream] = field(default_factory=set)
    finished: set[OutputStream] = field(default_factory=set)
    found: int = 0

    def add(self, stream: OutputStream, at: tuple[int, int], *, is_partial: bool) -> None:
        """Take the record before those taken already."""
        if stream in self.finished:
            return
        if is_partial and stream in self.incomplete:
            self.starts[stream] = at
            return
        if self.found == self.wanted:
            self.finished.add(stream)
            self.incomplete.discard(stream)
            return
        self.found += 1
        self.starts[stream] = at
        self.incomplete.add(stream)

    @property
    def is_complete(self) -> bool:
        return self.found == self.wanted and not self.incomplete


class LogFiles:
    """Reads a log from its oldest file to its newest, and on while it grows and rotates.

    Not for two callers at once, but `close` may be called from another thread at any time.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._files: list[_OpenFile] = []
        self._until_ns: int | None = None
        self._starts: dict[OutputStream, tuple[int, int]] = {}
        self._first_index = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._is_closing = False
        self._is_past = False

    def open(
        self,
        *,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        last_bytes: int | None = None,
    ) -> None:
        """Open what there is and go to the first wanted record."""
        with self._guard():
            self._until_ns = until_ns
            self._files = self._look()
            if since_ns is not None:
                while len(self._files) > 1 and self._find(self._files[0], since_ns) is None:
                    os.close(self._files.pop(0).descriptor)
                for file in self._files:
                    found = self._find(file, since_ns)
                    file.position = file.size() if found is None else found
            if last_bytes is not None:
                self._go_to_last_bytes(last_bytes)
            if tail is not None:
                self._go_to_tail(max(tail, 0))

    def close(self) -> None:
        """Close every descriptor: now, or as soon as the call that is under way ends."""
        self._is_closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._close_files()
            finally:
                self._lock.release()

    def read_batch(self, *, is_following: bool) -> tuple[LogLine, ...] | None:
        """The next lines, at most 1,000; empty at the end for now, None past `until_ns`.

        A record whose newline is not written yet is left for later.
        """
        with self._guard():
            if is_following and not self._files:
                self._files = self._look()
            while self._files and not self._is_past:
                if lines := self._take_lines():
                    return tuple(lines)
                if (
                    not self._is_past
                    and not self._fill()
                    and not self._go_on(is_following=is_following)
                ):
                    return ()
            return None if self._is_past else ()

    # --- forward ------------------------------------------------------------------------------

    def _take_lines(self) -> list[LogLine]:
        """Records out of what was read; marks when one is past the end that was asked for."""
        lines: list[LogLine] = []
        end = self._rest.rfind(b"\n") + 1
        if not end and len(self._rest) > _LOOK_BACK_BYTES:
            # Not a log: nothing that we write goes so long without a newline.
            self._rest = b""
        at = 0
        start = self._files[0].position - len(self._rest)
        while at < end and len(lines) < BATCH_LINES:
            newline = self._rest.index(b"\n", at)
            line = parse_record(self._rest[at:newline])
            place = (self._first_index, start + at)
            at = newline + 1
            if line is None or place < self._starts.get(line.stream, (0, 0)):
                continue
            if self._until_ns is not None and line.timestamp_ns > self._until_ns:
                self._is_past = True
                break
            lines.append(line)
        self._rest = self._rest[at:]
        return lines

    def _fill(self) -> bool:
        file = self._files[0]
        block = os.pread(file.descriptor, _BLOCK_BYTES, file.position)
        file.position += len(block)
        self._rest += block
        return bool(block)

    def _go_on(self, *, is_following: bool) -> bool:
        """At the end of the first file: go to the next one, if there is one."""
        if len(self._files) == 1 and is_following and not self._look_for_newer():
            return False
        if len(self._files) == 1:
            return False
        # Nothing is written to a file after its rename, but it may have been between our last
        # read and the rename.
        if self._fill():
            return True
        os.close(self._files.pop(0).descriptor)
        self._first_index += 1
        self._rest = b""
        return True

    def _look_for_newer(self) -> bool:
        file = self._files[0]
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == file.inode:
                return False
        found = self._look()
        known = next((i for i, other in enumerate(found) if other.inode == file.inode), -1)
        for other in found[: known + 1]:
            os.close(other.descriptor)
        self._files.extend(found[known + 1 :])
        return len(self._files) > 1

    def _look(self) -> list[_OpenFile]:
        """Open every file of the log, oldest first."""
        found: list[_OpenFile] = []
        number = missing = 0
        while missing < 2:
            name = f"{self.path}.{number}" if number else self.path
            number += 1
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                missing += 1
                continue
            missing = 0
            inode = os.fstat(descriptor).st_ino
            if any(file.inode == inode for file in found):
                os.close(descriptor)
            else:
                found.append(_OpenFile(descriptor, inode))
        found.reverse()
        return found

    # --- going to a place ---------------------------------------------------------------------

    def _find(self, file: _OpenFile, wanted_ns: int) -> int | None:
        """Offset of the first record at or after a time, by bisection; None if all are before."""
        low, high = 0, file.size()
        while low < high:
            middle = (low + high) // 2
            found = self._record_after(file, middle, high)
            if found is None:
                high = middle
            elif found[1] < wanted_ns:
                low = found[0] + 1
            else:
                high = middle
        # `low` is now just behind the start of the last record before the time, or 0.
        found = self._record_after(file, low, file.size())
        return None if found is None else found[0]

    def _record_after(self, file: _OpenFile, offset: int, end: int) -> tuple[int, int] | None:
        """Offset and time of the first good record that starts in [offset, end)."""
        # One byte back, so that a record that starts just here is found by the newline before it.
        position = max(offset - 1, 0)
        is_at_start = offset == 0
        while position < end:
            block = os.pread(file.descriptor, _LONGEST_RECORD * 2, position)
            if not block:
                return None
            at = 0 if is_at_start else block.find(b"\n") + 1
            while is_at_start or at > 0:
                is_at_start = False
                if position + at >= end:
                    return None
                stamp = parse_timestamp(block[at : at + TIMESTAMP_BYTES])
                if stamp is not None:
                    return position + at, stamp
                at = block.find(b"\n", at) + 1
            position += max(len(block) - TIMESTAMP_BYTES, 1)
        return None

    def _go_to_last_bytes(self, wanted: int) -> None:
        """Leave out what is further than so many bytes of the files from the end."""
        for index in range(len(self._files) - 1, -1, -1):
            file = self._files[index]
            size = file.size()
            if size - file.position >= wanted:
                found = self._record_after(file, size - wanted, size)
                self._drop_before((index, size if found is None else found[0]))
                return
            wanted -= size - file.position

    def _go_to_tail(self, wanted: int) -> None:
        """Read backwards in blocks until the last lines are found."""
        tail = _Tail(wanted)
        looked_back = 0
        for index in range(len(self._files) - 1, -1, -1):
            file = self._files[index]
            first, end = file.position, file.size()
            carried = b""
            is_newest = True
            while end > first:
                start = max(end - _BLOCK_BYTES, first)
                block = os.pread(file.descriptor, end - start, start) + carried
                if is_newest:
                    block = block[: block.rfind(b"\n") + 1]
                    is_newest = not block
                cut = block.find(b"\n") + 1 if start > first else 0
                self._take_backwards(tail, block, cut, (index, start))
                carried = block[:cut]
                if tail.found == wanted:
                    looked_back += end - start
                    if tail.is_complete or looked_back > _LOOK_BACK_BYTES:
                        break
                end = start
            if tail.found == wanted and (tail.is_complete or looked_back > _LOOK_BACK_BYTES):
                break
        newest = (len(self._files) - 1, self._end_of_last_record())
        if tail.starts or wanted == 0:
            # A stream that none of the last lines is of starts where the log ends now.
            self._starts = {stream: tail.starts.get(stream, newest) for stream in OutputStream}
            self._drop_before(min(self._starts.values()))

    def _end_of_last_record(self) -> int:
        if not self._files:
            return 0
        file = self._files[-1]
        size = file.size()
        start = max(size - _LONGEST_RECORD, 0)
        newline = os.pread(file.descriptor, size - start, start).rfind(b"\n")
        return start + newline + 1

    def _take_backwards(self, tail: _Tail, block: bytes, cut: int, place: tuple[int, int]) -> None:
        index, start = place
        end = len(block) - 1
        while end > cut and not tail.is_complete:
            at = max(block.rfind(b"\n", cut, end) + 1, cut)
            line = parse_record(block[at:end])
            if line is not None:
                tail.add(line.stream, (index, start + at), is_partial=line.is_partial)
            end = at - 1

    def _drop_before(self, place: tuple[int, int]) -> None:
        index, offset = place
        for _ in range(index):
            os.close(self._files.pop(0).descriptor)
            self._first_index += 1
        if self._files:
            self._files[0].position = offset

    # --- closing ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        finally:
            if self._is_closing:
                self.close()

    def _close_files(self) -> None:
        for file in self._files:
            os.close(file.descriptor)
        self._files.clear()


_last_stamp: tuple[bytes, int | None] = (b"", None)


def parse_record(record: bytes) -> LogLine | None:
    """One record without its newline; None if it is damaged."""
    global _last_stamp
    stream = _STREAMS.get(record[TIMESTAMP_BYTES : HEADER_BYTES - 2])
    flag = record[HEADER_BYTES - 2 : HEADER_BYTES]
    if stream is None or flag not in {b"F ", b"P "}:
        return None
    stamp = record[:TIMESTAMP_BYTES]
    known, timestamp_ns = _last_stamp
    if stamp != known:
        timestamp_ns = parse_timestamp(stamp)
        _last_stamp = (stamp, timestamp_ns)
    if timestamp_ns is None:
        return None
    return LogLine(
        stream=stream,
        timestamp_ns=timestamp_ns,
        text=record[HEADER_BYTES:],
        is_partial=flag == b"P ",
    )
