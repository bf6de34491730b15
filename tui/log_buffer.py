"""What the Logs tab holds: the newest lines, bounded by count and by bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from tui.sanitise import clean_log_line

if TYPE_CHECKING:
    from engine.types import LogLine, OutputStream
    from tui.sanitise import StyledRun

MAXIMUM_LINES = 100_000
MAXIMUM_BYTES = 64 * 1024 * 1024
_PIECE_LIMIT_BYTES = 64 * 1024
"""A line that never ends is cut here; what comes later of it is dropped from view."""


def overwritten(raw: bytes, *, is_ended: bool) -> bytes:
    """What a terminal shows of a line: each carriage return begins it anew.

    A bar that ends each of its states with one stays until the next state comes.
    """
    if b"\r" not in raw:
        return raw
    states = [state for state in raw.split(b"\r") if state]
    last = states[-1] if states else b""
    return last + b"\r" if raw.endswith(b"\r") and not is_ended else last


@dataclass(slots=True, eq=False)
class BufferedLine:
    """One line, which may still be growing."""

    number: int
    stream: OutputStream
    timestamp_ns: int
    raw: bytes
    width: int = 0
    """Cells that it takes, clean."""

    def runs(self) -> tuple[StyledRun, ...]:
        """The line, clean, with its colours."""
        return clean_log_line(self.raw)


class LogBuffer:
    """A ring of lines; partial records of one stream are joined to one line."""

    def __init__(
        self, *, maximum_lines: int = MAXIMUM_LINES, maximum_bytes: int = MAXIMUM_BYTES
    ) -> None:
        self._maximum_lines = maximum_lines
        self._maximum_bytes = maximum_bytes
        self.lines: list[BufferedLine] = []
        self.size_bytes = 0
        self.dropped_count = 0
        """Lines that fell out at the old end."""
        self._next_number = 0
        self._open: dict[OutputStream, BufferedLine] = {}

    def append(self, records: tuple[LogLine, ...]) -> tuple[list[BufferedLine], int]:
        """Take records in.

        Returns:
            The lines that are new, and how many fell out at the old end. Lines that only grew
            are neither: their text is longer at the next look.
        """
        added: list[BufferedLine] = []
        for record in records:
            line = self._open.pop(record.stream, None)
            if line is None:
                line = BufferedLine(
                    number=self._next_number,
                    stream=record.stream,
                    timestamp_ns=record.timestamp_ns,
                    raw=b"",
                )
                self._next_number += 1
                self.lines.append(line)
                added.append(line)
            if len(line.raw) < _PIECE_LIMIT_BYTES:
                raw = overwritten(line.raw + record.text, is_ended=not record.is_partial)
                self.size_bytes += len(raw) - len(line.raw)
                line.raw = raw
            line.width = _width(line)
            if record.is_partial:
                self._open[record.stream] = line
        return added, self._trim()

    def _trim(self) -> int:
        if len(self.lines) <= self._maximum_lines and self.size_bytes <= self._maximum_bytes:
            return 0
        # A tenth more than needed, so that a full ring is not moved at every line.
        count = max(0, len(self.lines) - self._maximum_lines * 9 // 10)
        size_bytes = self.size_bytes - sum(len(line.raw) for line in self.lines[:count])
        while size_bytes > self._maximum_bytes and count < len(self.lines) - 1:
            size_bytes -= len(self.lines[count].raw)
            count += 1
        del self.lines[:count]
        first = self.lines[0].number if self.lines else self._next_number
        for stream, line in tuple(self._open.items()):
            if line.number < first:
                # It goes on as a line of its own: what fell out must not grow unseen.
                del self._open[stream]
        self.size_bytes = size_bytes
        self.dropped_count += count
        return count


def _width(line: BufferedLine) -> int:
    raw = line.raw
    if raw.isascii() and b"\x1b" not in raw and b"\t" not in raw and b"\r" not in raw:
        return min(len(raw), 4096)
    return sum(cell_len(run.text) for run in line.runs())
