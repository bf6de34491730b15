"""From bittty's cells to what Textual draws."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from rich.color import Color
from rich.style import Style

from tui.sanitise import PLAIN, StyledRun, clean_glyph

if TYPE_CHECKING:
    from collections.abc import Sequence


class CellColor(Protocol):
    """A colour of bittty's, which comes without types."""

    mode: str
    value: int | tuple[int, int, int] | None


class CellStyle(Protocol):
    """A style of bittty's."""

    fg: CellColor | None
    bg: CellColor | None
    bold: bool | None
    dim: bool | None
    italic: bool | None
    underline: bool | None
    reverse: bool | None
    conceal: bool | None
    strike: bool | None
    overline: bool | None

    def __hash__(self) -> int: ...


Cell = tuple[CellStyle, str]


def draw_row(cells: Sequence[Cell], *, has_blanks: bool = False) -> tuple[StyledRun, ...]:
    """Join cells of one style; every run is as wide as its cells are many.

    Blanks at the end that cannot be seen are left out unless `has_blanks`.
    """
    end = len(cells)
    invisible: CellStyle | None = None
    while end and not has_blanks:
        style, character = cells[end - 1]
        if character != " ":
            break
        if style is not invisible:
            if _is_visible(style):
                break
            invisible = style
        end -= 1
    runs: list[StyledRun] = []
    start = 0
    while start < end:
        style = cells[start][0]
        stop = start + 1
        while stop < end and (cells[stop][0] is style or cells[stop][0] == style):
            stop += 1
        if stop < len(cells) and not cells[stop][1]:
            stop += 1  # the other half of a wide character
        text = "".join([cell[1] for cell in islice(cells, start, stop)])
        if not (text.isascii() and text.isprintable()):
            text = _clean(cells, start, stop)
        runs.append(StyledRun(text, _rich_style(style)))
        start = stop
    return tuple(runs)


def _clean(cells: Sequence[Cell], start: int, stop: int) -> str:
    pieces: list[str] = []
    for index in range(start, stop):
        text = cells[index][1]
        if text:
            is_wide = index + 1 < len(cells) and not cells[index + 1][1]
            pieces.append(clean_glyph(text, 1 + is_wide))
        elif index == start:
            pieces.append(" ")  # half of a character whose beginning is not there
    return "".join(pieces)


def reverse_row(runs: tuple[StyledRun, ...]) -> tuple[StyledRun, ...]:
    """Swap foreground and background."""
    return tuple(
        StyledRun(run.text, run.style + Style(reverse=not run.style.reverse)) for run in runs
    )


@lru_cache(maxsize=2048)
def _is_visible(style: CellStyle) -> bool:
    """Whether a blank in this style can be seen."""
    return bool(style.bg or style.reverse or style.underline or style.strike)


@lru_cache(maxsize=2048)
def _rich_style(style: CellStyle) -> Style:
    rich = Style(
        color=_rich_color(style.fg),
        bgcolor=_rich_color(style.bg),
        bold=style.bold or None,
        dim=style.dim or None,
        italic=style.italic or None,
        underline=style.underline or None,
        reverse=style.reverse or None,
        conceal=style.conceal or None,
        strike=style.strike or None,
        overline=style.overline or None,
    )
    return rich or PLAIN


def _rich_color(color: CellColor | None) -> Color | None:
    if color is None:
        return None
    match color.mode, color.value:
        case "indexed", int(index):
            return Color.from_ansi(index & 0xFF)
        case "rgb", (int(red), int(green), int(blue)):
            return Color.from_rgb(red & 0xFF, green & 0xFF, blue & 0xFF)
        case _:
            return None
