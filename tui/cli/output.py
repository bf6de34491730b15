"""Writing to a terminal or a pipe: tables, messages, raw bytes.

Text from images and containers is made printable in tables and messages, and when it goes to a
terminal; otherwise it is passed on as it is. Tables are plain: no colour, so there is nothing for
NO_COLOR to switch off.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Replace what a terminal would obey, or could not draw, by U+FFFD.

    Covers C0, C1, surrogates, line separators and the invisible characters that reorder text
    (Unicode categories Cc, Cf, Cs, Zl, Zp).
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def write_line(text: str) -> None:
    """Write one line to standard output, made printable if that is a terminal."""
    if sys.stdout.isatty():
        text = printable(text)
    write_all(1, text.encode("utf-8", "surrogateescape") + b"\n")


def write_text(text: str) -> None:
    """Write lines of our own making (help, JSON) to standard output."""
    for line in text.split("\n"):
        write_line(line)


def write_message(text: str) -> None:
    """Write one line for people to standard error; it is always made printable."""
    try:
        write_all(2, printable(text).encode("utf-8", "replace") + b"\n")
    except OSError:
        return  # Nobody reads our messages: the exit code still tells.


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; blocking.

    Raises:
        BrokenPipeError: The reader is gone.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write columns, three blanks apart, as wide as their widest cell."""
    lines = table_lines(heads, rows)
    write_all(1, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay columns out; what the cells hold is made printable."""
    # A pipe ends on a terminal as well: of a pager, of `watch`, at the other end of ssh.
    table = [tuple(heads), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(_cells(row[column]) for row in table) for column in range(len(heads))]
    lines: list[str] = []
    for row in table:
        padded = [
            cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("   ".join(padded).rstrip())
    return lines


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def redraw(lines: Sequence[str]) -> None:
    """Draw a screen over the one before, in one write and without clearing it: nothing flickers.

    Lines are cut at the terminal's edge, as a broken one would push the others down, and those
    below the screen are left out. A pipe gets one screen after the other.
    """
    if not sys.stdout.isatty():
        for line in lines:
            write_line(line)
        return
    columns, rows = os.get_terminal_size(1)
    shown = [_cut(printable(line), columns) for line in lines[: max(1, rows - 1)]]
    text = "".join(f"{line}\x1b[K\n" for line in shown)
    write_all(1, f"\x1b[H{text}\x1b[J".encode("utf-8", "surrogateescape"))


def _cut(text: str, width: int) -> str:
    if _cells(text) <= width:
        return text
    used = 0
    for index, letter in enumerate(text):
        used += _cells(letter)
        if used > width:
            return text[:index]
    return text


def short_id(identifier: str) -> str:
    """The first twelve digits of an id, without `sha256:`."""
    return identifier.removeprefix("sha256:")[:12]


def shorten(text: str, width: int) -> str:
    """Cut a text to a width, ending in an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"
