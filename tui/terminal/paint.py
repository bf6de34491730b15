"""Puts what an emulator shows onto a real terminal.

Bytes that were written long ago are not sent to a terminal again: they would be answered, ring,
scroll and flicker. They go through the emulator, and its screen is painted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.color import ColorSystem

from tui.terminal.model import MouseTracking

if TYPE_CHECKING:
    from tui.sanitise import StyledRun
    from tui.terminal.model import TerminalModel

_MOUSE_MODES = {
    MouseTracking.PRESSES: 9,
    MouseTracking.CLICKS: 1000,
    MouseTracking.DRAGS: 1002,
    MouseTracking.MOVES: 1003,
}


def screen_sequence(model: TerminalModel) -> bytes:
    """Build what draws the emulator's screen on a terminal of the same size.

    A full-screen program's picture takes the alternate screen; lines of a shell are written where
    the cursor is, as if they came now.
    """
    size, cursor, modes = model.size, model.cursor, model.modes
    rows = [_row_text(model.row(model.screen_line + y)) for y in range(size.rows)]
    pieces: list[str] = []
    if modes.is_alternate_screen:
        pieces.append("\x1b[?1049h\x1b[H\x1b[2J")
        pieces += [f"\x1b[{y + 1};1H{row}" for y, row in enumerate(rows) if row]
        if cursor is not None:
            pieces.append(f"\x1b[{cursor.row + 1};{cursor.column + 1}H")
    else:
        last = max([y for y, row in enumerate(rows) if row], default=0)
        below = 0
        if cursor is not None:
            last = max(last, cursor.row)
            below = last - cursor.row
        first = next((y for y, row in enumerate(rows) if row), last)
        if cursor is not None:
            first = min(first, cursor.row)
        pieces.append("\r" + "\r\n".join(rows[first : last + 1]) + "\r")
        if below:
            pieces.append(f"\x1b[{below}A")
        if cursor is not None and cursor.column:
            pieces.append(f"\x1b[{cursor.column}C")
    if modes.has_application_cursor:
        pieces.append("\x1b[?1h")
    if modes.has_application_keypad:
        pieces.append("\x1b=")
    if modes.has_bracketed_paste:
        pieces.append("\x1b[?2004h")
    if modes.mouse is not MouseTracking.NONE:
        pieces.append(f"\x1b[?{_MOUSE_MODES[modes.mouse]}h")
    if modes.has_sgr_mouse:
        pieces.append("\x1b[?1006h")
    if cursor is None:
        pieces.append("\x1b[?25l")
    return "".join(pieces).encode("utf-8", "replace")


def _row_text(runs: tuple[StyledRun, ...]) -> str:
    return "".join(
        run.style.render(run.text, color_system=ColorSystem.TRUECOLOR) if run.style else run.text
        for run in runs
    )
