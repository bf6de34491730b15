"""What a step has written, as lines: bounded, and with progress bars as a terminal shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from tui.log_buffer import overwritten

if TYPE_CHECKING:
    from engine.types import OutputStream

MAXIMUM_LINES = 1_000
MAXIMUM_BYTES = 256 * 1024
"""Of one step: what is older is in its whole log, which is read when somebody asks for it."""
_LONGEST_LINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLine:
    """One line, which may still be growing."""

    number: int
    """From 0, also of lines that are not kept any more."""
    stream: OutputStream
    raw: bytes
    """Not clean; without its end, and of what was overwritten only the last."""


class StepLog:
    """The newest lines of one step."""

    def __init__(self) -> None:
        self._lines: list[OutputLine] = []
        self._open: dict[OutputStream, int] = {}
        """Numbers of lines that have no end yet."""
        self._next_number = 0
        self._size_bytes = 0
        self.lost_bytes = 0
        """What came faster than it could be shown."""

    @property
    def lines(self) -> tuple[OutputLine, ...]:
        """What is kept, oldest first."""
        return tuple(self._lines)

    def last(self, count: int) -> tuple[OutputLine, ...]:
        """The newest lines."""
        return tuple(self._lines[-count:]) if count else ()

    @property
    def line_count(self) -> int:
        """How many lines there were in all."""
        return self._next_number

    def write(self, stream: OutputStream, data: bytes) -> None:
        """Take in what was written."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._extend(stream, piece, is_ended=True)
        if rest:
            self._extend(stream, rest, is_ended=False)
        self._trim()

    def _extend(self, stream: OutputStream, piece: bytes, *, is_ended: bool) -> None:
        number = self._open.pop(stream, None)
        if number is None or not self._lines or number < self._lines[0].number:
            number = self._next_number
            self._next_number += 1
            self._lines.append(OutputLine(number=number, stream=stream, raw=b""))
        index = number - self._lines[0].number
        before = self._lines[index]
        raw = overwritten(before.raw + piece, is_ended=is_ended)[:_LONGEST_LINE_BYTES]
        self._lines[index] = replace(before, raw=raw)
        self._size_bytes += len(raw) - len(before.raw)
        if not is_ended:
            self._open[stream] = number

    def _trim(self) -> None:
        count = max(0, len(self._lines) - MAXIMUM_LINES)
        freed = sum(len(line.raw) for line in self._lines[:count])
        while self._size_bytes - freed > MAXIMUM_BYTES and count < len(self._lines) - 1:
            freed += len(self._lines[count].raw)
            count += 1
        del self._lines[:count]
        self._size_bytes -= freed
