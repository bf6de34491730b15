"""Where something stands in a Dockerfile."""

from __future__ import annotations

from bisect import bisect_right

from engine.errors import DockerfileError
from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """A character of the file; both count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Span:
    """From the first character to the one behind the last, which may be on a later line."""

    start: Position
    end: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A piece of the file.

    Attributes:
        text: What it says: quotes and variables are still there where they mean something later.
        span: Where it was written.
    """

    text: str
    span: Span


class Source:
    """The lines of a file, for whoever has to say what is wrong with one."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines

    def error(self, position: Position, reason: str, *, expected: str) -> DockerfileError:
        """What is wrong at a place."""
        text = self.lines[position.line - 1] if position.line <= len(self.lines) else ""
        return DockerfileError(
            self.name,
            line=position.line,
            column=position.column,
            text=text.rstrip("\r\n"),
            reason=reason,
            expected=expected,
        )


class LogicalLine:
    """What lines of a file that continue each other say together.

    Args:
        source: The file.
        pieces: Line number (from 1), column (from 1) and text of each piece.
    """

    def __init__(self, source: Source, pieces: list[tuple[int, int, str]]) -> None:
        self.source = source
        self.text = "".join(text for _line, _column, text in pieces)
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []
        offset = 0
        for line, column, text in pieces:
            self._starts.append(offset)
            self._places.append((line, column))
            offset += len(text)

    def position(self, offset: int) -> Position:
        """Where a character of the text was written."""
        index = bisect_right(self._starts, offset) - 1
        line, column = self._places[index]
        return Position(line, column + offset - self._starts[index])

    def error(self, offset: int, reason: str, *, expected: str) -> DockerfileError:
        """What is wrong at a character of the text."""
        return self.source.error(self.position(offset), reason, expected=expected)

    def span(self, start: int, end: int) -> Span:
        """Where the characters from `start` to before `end` were written."""
        if end <= start:
            position = self.position(start)
            return Span(position, position)
        last = self.position(end - 1)
        return Span(self.position(start), Position(last.line, last.column + 1))

    def word(self, start: int, end: int) -> Word:
        """The characters from `start` to before `end`, with where they were written."""
        return Word(text=self.text[start:end], span=self.span(start, end))
