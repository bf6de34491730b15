"""What a terminal emulator is to the rest of the interface."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.types import TerminalSize
    from tui.sanitise import StyledRun

SCROLLBACK_ROWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorPosition:
    """Where the cursor is drawn, from 0, in cells of the screen."""

    column: int
    row: int


class MouseTracking(StrEnum):
    """What a program wants to hear of the mouse: nothing, or what a mode of xterm's says."""

    NONE = "none"
    PRESSES = "presses"
    CLICKS = "clicks"
    DRAGS = "drags"
    MOVES = "moves"


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalModes:
    """What the program asked of the terminal, as far as somebody outside has to act on it.

    Attributes:
        has_application_cursor: Cursor keys send SS3 sequences (DECCKM).
        has_application_keypad: The keypad sends sequences (DECKPAM).
        has_bracketed_paste: Pasted text is marked as such (mode 2004).
        is_alternate_screen: A full-screen program draws; what scrolls is not kept.
        is_holding_output: The program is in the middle of a picture (mode 2026).
        mouse: What it wants to hear of the mouse (modes 9, 1000, 1002, 1003).
        has_sgr_mouse: It wants that in the form that has no bounds (mode 1006).
    """

    has_application_cursor: bool = False
    has_application_keypad: bool = False
    has_bracketed_paste: bool = False
    is_alternate_screen: bool = False
    is_holding_output: bool = False
    mouse: MouseTracking = MouseTracking.NONE
    has_sgr_mouse: bool = False


class TerminalModel(Protocol):
    """A screen that a program's output is written to, with what scrolled off it.

    Whatever the bytes are, no call raises, memory is bounded, and what comes out is safe to draw:
    rows hold no control character, and replies nothing that the program chose.

    Lines are numbered from the first that ever scrolled off; `first_line` is the oldest that is
    kept, the screen's rows come after the last, so a number means the same line as long as it is
    there and the screen's width does not change: then all lines are broken anew.
    """

    @property
    def size(self) -> TerminalSize:
        """Columns and rows of the screen."""

    @property
    def cursor(self) -> CursorPosition | None:
        """Where the cursor is; None while the program hides it."""

    @property
    def modes(self) -> TerminalModes:
        """What the program asked for."""

    @property
    def title(self) -> str:
        """The title that the program set: one short clean line, to be shown as its words."""

    @property
    def first_line(self) -> int:
        """The number of the oldest line that is kept."""

    @property
    def screen_line(self) -> int:
        """The number of the screen's first row."""

    def feed(self, data: bytes) -> None:
        """Take output of the program; blocking, about a second for 4 MB."""

    def resize(self, size: TerminalSize) -> None:
        """Change the screen's size; at least one column and one row."""

    def row(self, line: int) -> tuple[StyledRun, ...]:
        """Draw a line by its number; blanks at its end may be left out.

        Together the runs are never wider than the screen. A line that is gone or not there yet is
        empty.
        """

    def goes_on(self, line: int) -> bool:
        """Whether a line was too long for the screen, so that the next is a part of it."""

    def take_dirty_rows(self) -> frozenset[int]:
        """The rows of the screen that changed since the last call."""

    def take_replies(self) -> bytes:
        """What the terminal answers to the program's questions; to be sent as input."""

    def take_bells(self) -> int:
        """How often the program rang the bell since the last call."""
