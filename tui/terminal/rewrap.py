"""Breaks rows that scrolled off again when the screen's width has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from engine.late_dataclasses import dataclass
from tui.sanitise import StyledRun, clean_glyph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row that scrolled off.

    Attributes:
        runs: What it shows; with the blanks at its end if it goes on.
        is_wrapped: The program's line goes on in the next row.
    """

    runs: tuple[StyledRun, ...]
    is_wrapped: bool = False


def rewrap(rows: Iterable[KeptRow], columns: int) -> Iterator[KeptRow]:
    """Join rows to the lines that the program wrote, and break those at another width.

    The last row may be one that goes on: on the screen, whose rows are not touched here.
    """
    line: list[StyledRun] = []
    for row in rows:
        for run in row.runs:
            _append(line, run)
        if row.is_wrapped:
            continue
        yield from _break(line, columns, is_wrapped=False)
        line = []
    if line:
        yield from _break(line, columns, is_wrapped=True)


def _append(line: list[StyledRun], run: StyledRun) -> None:
    if not line:
        line.append(run)
        return
    before = line[-1]
    text = before.text
    is_after_gap = text.endswith("  ") or (text.endswith(" ") and cell_len(text[-2:]) == 3)
    if is_after_gap and cell_len(run.text[:1]) == 2:
        # Most likely no blank of the program's: the last cell had no room for a wide character.
        text = text[:-1]
    if before.style == run.style:
        line[-1] = StyledRun(text + run.text, run.style)
    else:
        line[-1:] = StyledRun(text, before.style), run


def _break(line: list[StyledRun], columns: int, *, is_wrapped: bool) -> Iterator[KeptRow]:
    row: list[StyledRun] = []
    used = 0
    for run in line:
        start = 0
        while start < len(run.text):
            end, cells = _fitting(run.text, start, columns - used)
            text = run.text[start:end]
            if end == start and not used:
                # A wide character on a screen of one column.
                end, cells, text = start + 1, columns, clean_glyph(run.text[start], columns)
            if text:
                row.append(StyledRun(text, run.style))
            start, used = end, used + cells
            if start < len(run.text):
                yield KeptRow(runs=tuple(row), is_wrapped=True)
                row, used = [], 0
    yield KeptRow(runs=tuple(row), is_wrapped=is_wrapped)


def _fitting(text: str, start: int, room: int) -> tuple[int, int]:
    """Where the part of a text ends that fits, and how many cells it takes."""
    if text.isascii():
        end = min(len(text), start + room)
        return end, end - start
    used = 0
    for index in range(start, len(text)):
        cells = cell_len(text[index])
        if used + cells > room:
            return index, used
        used += cells
    return len(text), used
