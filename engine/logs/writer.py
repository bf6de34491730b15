"""Write a container's output to its log file.

A record is a line of its own: `<time> <stream> <F|P> <text>`, the format of CRI logs. F ends a
line of the container's; P does not, because the container has not ended it yet or because it is
longer than 16 KiB. So what the container wrote to a stream is the texts of its records with a
newline after each F, byte for byte, and a prompt without a newline shows at once. The time has 30
characters, `2026-01-31T12:00:00.123456789Z`, and never runs backwards in a file.

Used in monitors: standard library alone, and a full disk must not stop a container.
"""

from __future__ import annotations

import errno
import os
import time

MAXIMUM_TEXT_BYTES = 16 << 10
TIMESTAMP_BYTES = 30
HEADER_BYTES = TIMESTAMP_BYTES + len(" stdout F ")
_TAIL_BYTES = 2 * MAXIMUM_TEXT_BYTES
_MOST_PIECES = 512  # below IOV_MAX


class LogWriter:
    """Appends to one log; the only writer of it. Its calls block as long as the disk does.

    Nothing is ever raised for want of space or for another error of the file system: what could
    not be written is counted in `lost_bytes`, and said in the log when writing works again.
    """

    def __init__(self, path: str, *, file_bytes: int, file_count: int) -> None:
        """Open or make the log.

        Args:
            path: The current file; older ones have `.1`, `.2` and so on behind it.
            file_bytes: A file that has grown to this is rotated: it may be one chunk larger.
            file_count: Files kept, the current one included.
        """
        self.path = path
        self.lost_bytes = 0
        self._unreported_bytes = 0
        self._reason = ""
        self._file_bytes = file_bytes
        self._file_count = max(file_count, 1)
        self._descriptor = -1
        self._size = 0
        self._last_ns = 0
        self._second = -1
        self._second_text = b""
        self._unended: set[str] = set()
        self._is_closed = False
        self._open()

    @property
    def last_time_ns(self) -> int:
        """Time of the newest record; whatever is written from now on has a later one."""
        return self._last_ns

    def write(self, stream: str, chunk: bytes) -> None:
        """Append what was read from `stdout` or `stderr`, by one system call."""
        if not chunk or self._is_closed:
            return
        if self._unreported_bytes and not self._report_loss():
            self._lose(len(chunk))
            return
        pieces = self._records(stream, chunk)
        if self._append_pieces(pieces):
            is_unended = not chunk.endswith(b"\n")
        else:
            records = b"".join(pieces)
            written = self._append(records)
            if written < len(records):
                lost = records[written:]
                self._lose(len(lost) - lost.count(b"\n") * HEADER_BYTES)
            start = records.rfind(b"\n", 0, max(written - 1, 0)) + 1
            mark = records[start + HEADER_BYTES - 2 : start + HEADER_BYTES - 1]
            is_unended = mark == b"P" if written else stream in self._unended
        if is_unended:
            self._unended.add(stream)
        else:
            self._unended.discard(stream)
        if self._size >= self._file_bytes:
            self._rotate()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._unreported_bytes and not self._is_closed:
            self._report_loss()
        self._is_closed = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # --- records ------------------------------------------------------------------------------

    def _records(self, stream: str, chunk: bytes) -> list[bytes | memoryview]:
        """The records of a chunk, in pieces: joining them would cost as much as all the rest."""
        start = self._timestamp() + b" " + stream.encode()
        full, partial = start + b" F ", start + b" P "
        end = chunk.rfind(b"\n") + 1
        ended, rest = (chunk, b"") if end == len(chunk) else (chunk[:end], chunk[end:])
        pieces: list[bytes | memoryview] = []
        if ended and _has_long_line(ended):
            lines = ended[:-1].split(b"\n")
            pieces = [
                b"%s\n" % piece for line in lines for piece in _long_line(line, partial, full)
            ]
        elif ended:
            headed = ended.replace(b"\n", b"\n" + full)
            pieces = [full, memoryview(headed)[: -len(full)]]
        for at in range(0, len(rest), MAXIMUM_TEXT_BYTES):
            pieces.append(b"%s%s\n" % (partial, rest[at : at + MAXIMUM_TEXT_BYTES]))
        return pieces

    def _timestamp(self) -> bytes:
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        second, nanosecond = divmod(self._last_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            moment = time.gmtime(second)
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", moment).encode()
        return b"%s.%09dZ" % (self._second_text, nanosecond)

    # --- the file -----------------------------------------------------------------------------

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640
            )
            self._size = os.fstat(self._descriptor).st_size
            if self._size:
                self._continue_file()
        except OSError as error:
            self._reason = os.strerror(error.errno or errno.EIO)
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            return False
        return True

    def _continue_file(self) -> None:
        """Go on after an earlier run: its last time holds, and a line cut by a crash ends."""
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(self._size - _TAIL_BYTES, 0))
        if not tail.endswith(b"\n"):
            self._size += os.write(self._descriptor, b"\n")
        for line in reversed(tail.splitlines()):
            if (last_ns := parse_timestamp(line[:TIMESTAMP_BYTES])) is not None:
                self._last_ns = max(self._last_ns, last_ns)
                return

    def _append_pieces(self, pieces: list[bytes | memoryview]) -> bool:
        """Write everything at once; False, and nothing written, if that did not work."""
        if self._descriptor < 0 or len(pieces) > _MOST_PIECES:
            return False
        try:
            written = os.writev(self._descriptor, pieces)
        except OSError:
            return False
        if written < sum(len(piece) for piece in pieces):
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                os.close(self._descriptor)
                self._descriptor = -1
            return False
        self._size += written
        return True

    def _append(self, records: bytes) -> int:
        """Write whole records, as many as fit; returns their bytes."""
        if self._descriptor < 0 and not self._open():
            return 0
        written = 0
        try:
            while written < len(records):
                written += os.write(self._descriptor, memoryview(records)[written:])
        except OSError as error:
            self._reason = os.strerror(error.errno or errno.EIO)
            # A reader takes nothing that has no newline yet, so what is cut was seen by nobody.
            kept = records.rfind(b"\n", 0, written) + 1
            try:
                os.ftruncate(self._descriptor, self._size + kept)
            except OSError:
                os.close(self._descriptor)
                self._descriptor = -1
            written = kept
        self._size += written
        return written

    def _rotate(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        try:
            # Oldest first: at every moment the names are in the order of age, at most one missing.
            for number in range(self._file_count - 1, 0, -1):
                newer = self.path if number == 1 else f"{self.path}.{number - 1}"
                try:
                    os.rename(newer, f"{self.path}.{number}")
                except FileNotFoundError:
                    continue
            if self._file_count == 1:
                os.unlink(self.path)
        except OSError as error:
            self._reason = os.strerror(error.errno or errno.EIO)
        self._open()

    # --- loss ---------------------------------------------------------------------------------

    def _lose(self, size: int) -> None:
        self.lost_bytes += size
        self._unreported_bytes += size

    def _report_loss(self) -> bool:
        """Say in the log what is missing; False while that cannot be written either."""
        text = f"[lamella: {self._unreported_bytes} bytes of output lost here: {self._reason}]"
        now = self._timestamp()
        # A line that was being written when the disk filled up ends here.
        lines = [b"%s %s F \n" % (now, stream.encode()) for stream in sorted(self._unended)]
        marker = b"".join(lines) + b"%s stderr F %s\n" % (now, text.encode())
        if self._append(marker) < len(marker):
            return False
        self._unended.clear()
        self._unreported_bytes = 0
        return True


def parse_timestamp(text: bytes) -> int | None:
    """Nanoseconds since the epoch of a record's first 30 bytes; None if they are no time."""
    if len(text) != TIMESTAMP_BYTES or text[19:20] != b"." or text[29:] != b"Z":
        return None
    try:
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
        nanosecond = int(text[20:29])
    except ValueError:
        return None
    # Days since the epoch in the Gregorian calendar (Howard Hinnant, chrono-compatible
    # low-level date algorithms): the calendar module would double what a monitor imports.
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100
    seconds = (days + day_of_year - 719468) * 86400 + hour * 3600 + minute * 60 + second
    return seconds * 1_000_000_000 + nanosecond


def _has_long_line(text: bytes) -> bool:
    position = 0
    while len(text) - position > MAXIMUM_TEXT_BYTES:
        newline = text.rfind(b"\n", position, position + MAXIMUM_TEXT_BYTES + 1)
        if newline < 0:
            return True
        position = newline + 1
    return False


def _long_line(line: bytes, partial: bytes, full: bytes) -> list[bytes]:
    cuts = range(0, max(len(line), 1), MAXIMUM_TEXT_BYTES)
    return [
        (full if at == cuts[-1] else partial) + line[at : at + MAXIMUM_TEXT_BYTES] for at in cuts
    ]
