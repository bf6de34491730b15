"""The content of a file as lines to read: text with numbers, anything else as bytes in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from tui.sanitise import clean
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

MAXIMUM_LINES = 50_000
_MAXIMUM_DUMPED_BYTES = 64 << 10
_LOOKED_AT_BYTES = 8000
"""Where git looks for a zero, to tell text from other files."""
_NUMBER_CELLS = 7
_BYTES_A_LINE = 16
Line = tuple[Cell, ...]


def is_text(content: bytes) -> bool:
    """Whether a file that begins with this is meant to be read."""
    return b"\0" not in content[:_LOOKED_AT_BYTES]


def file_lines(content: bytes, width: int) -> list[Line]:
    """Lay a file out; long lines go on in the next row.

    Blocks for as long as a megabyte takes: for a thread.

    Args:
        content: Of the file.
        width: Cells that a row has.
    """
    lines: list[Line] = []
    for line in _text(content, width) if is_text(content) else _dump(content):
        if len(lines) == MAXIMUM_LINES:
            lines.append((Cell(f"Only the first {MAXIMUM_LINES:,} lines are shown", "warn"),))
            break
        lines.append(line)
    return lines


def _text(content: bytes, width: int) -> Iterator[Line]:
    room = max(8, width - _NUMBER_CELLS - 1)
    for number, raw in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        # A character of UTF-8 has at most four bytes, so this cap cuts none that is shown.
        text = raw.removesuffix(b"\r").decode("utf-8", "replace")
        head = f"{number:{_NUMBER_CELLS - 1}} "
        for part in _parts(clean(text, limit=len(text) + 1), room):
            yield (Cell(head, "dim"), Cell(part))
            head = " " * _NUMBER_CELLS


def _parts(text: str, room: int) -> Iterator[str]:
    """Break a line into pieces of at most `room` cells; an empty one is a piece."""
    if text.isascii():
        for begin in range(0, max(1, len(text)), room):
            yield text[begin : begin + room]
        return
    begin = used = 0
    for index, character in enumerate(text):
        cells = cell_len(character)
        if used + cells > room:
            yield text[begin:index]
            begin, used = index, 0
        used += cells
    yield text[begin:]


def _dump(content: bytes) -> Iterator[Line]:
    """As `hexdump -C` shows it."""
    for offset in range(0, min(len(content), _MAXIMUM_DUMPED_BYTES), _BYTES_A_LINE):
        piece = content[offset : offset + _BYTES_A_LINE]
        columns = piece[:8].hex(" ").ljust(24) + piece[8:].hex(" ").ljust(24)
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        yield (Cell(f"{offset:08x}  ", "dim"), Cell(columns), Cell(f"|{letters}|", "accent"))
    if len(content) > _MAXIMUM_DUMPED_BYTES:
        yield (Cell(f"Only the first {_MAXIMUM_DUMPED_BYTES:,} bytes are shown", "warn"),)
