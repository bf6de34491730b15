"""Mouse events as the bytes that an xterm sends for them (ctlseqs, "Mouse Tracking").

A report holds a button, modifiers and a cell of the program's own screen: nothing that a program
wrote can change what else is in it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tui.terminal.model import MouseTracking

if TYPE_CHECKING:
    from tui.terminal.model import TerminalModes

WHEEL_UP, WHEEL_DOWN, WHEEL_LEFT, WHEEL_RIGHT = 64, 65, 66, 67
NO_BUTTON = 3
_SHIFT, _META, _CONTROL, _MOVED = 4, 8, 16, 32
_LAST_OLD_CELL = 223
"""The older form of a report has one byte for a column or row, which begins at 32."""


class MouseAction(StrEnum):
    """What the mouse did."""

    PRESS = "press"
    RELEASE = "release"
    MOVE = "move"


def encode_mouse(
    action: MouseAction,
    button: int,
    column: int,
    row: int,
    modes: TerminalModes,
    *,
    has_shift: bool = False,
    has_meta: bool = False,
    has_control: bool = False,
) -> bytes:
    """Encode what the mouse did; empty for what the program did not ask for.

    Args:
        button: 0 to 2 from the left, a wheel, or NO_BUTTON for a move without one.
        column: From 0, in cells of the screen.
        row: From 0, in cells of the screen.
    """
    if not _is_wanted(action, button, modes.mouse):
        return b""
    code = button
    if modes.mouse is not MouseTracking.PRESSES:
        code += _SHIFT * has_shift + _META * has_meta + _CONTROL * has_control
    if action is MouseAction.MOVE:
        code += _MOVED
    if modes.has_sgr_mouse:
        final = "m" if action is MouseAction.RELEASE else "M"
        return f"\x1b[<{code};{column + 1};{row + 1}{final}".encode()
    if action is MouseAction.RELEASE:
        code |= NO_BUTTON  # the older form does not tell which
    if column >= _LAST_OLD_CELL or row >= _LAST_OLD_CELL:
        return b""
    return b"\x1b[M" + bytes((32 + code, 33 + column, 33 + row))


def _is_wanted(action: MouseAction, button: int, tracking: MouseTracking) -> bool:
    match tracking:
        case MouseTracking.NONE:
            return False
        case MouseTracking.PRESSES:
            return action is MouseAction.PRESS and button < NO_BUTTON
        case MouseTracking.CLICKS:
            return action is not MouseAction.MOVE
        case MouseTracking.DRAGS:
            return action is not MouseAction.MOVE or button != NO_BUTTON
        case MouseTracking.MOVES:
            return True
