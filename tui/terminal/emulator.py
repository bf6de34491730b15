"""The terminal that programs in containers write to: bittty, with everything else taken away.

bittty imitates decades of terminals. Here only what full-screen programs of today need is left of
it: an operation that is not in _OPERATIONS does nothing, a mode that is not in _MODES cannot be
set. It never sees a sequence that carries a text (`tui.terminal.guard`), its keyboard is not used
(`tui.terminal.keys`), and it may answer only questions whose answers the program cannot choose.
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import TYPE_CHECKING, Protocol

from bittty import Board, Model, Operation, TerminalCaps
from bittty import mode_profiles as mode_names
from bittty.present import Bell, RowsScrolledOff, ScrollbackCleared

from engine.types import TerminalSize
from tui.terminal.cells import Cell, draw_row, reverse_row
from tui.terminal.guard import SequenceGuard
from tui.terminal.model import (
    SCROLLBACK_ROWS,
    CursorPosition,
    MouseTracking,
    TerminalModes,
)
from tui.terminal.rewrap import KeptRow, rewrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tui.sanitise import StyledRun

MAXIMUM_COLUMNS, MAXIMUM_ROWS = 500, 200
_SLICE_CHARACTERS = 4096
_MAXIMUM_REPLY_BYTES = 4096
_MAXIMUM_SCROLLBACK_BYTES = 16 * 1024 * 1024
_RUN_BYTES = 100
"""About what a run takes beside its text: rows of one-cell runs must not cost a gigabyte."""
_ROW_BYTES = 100
_MAXIMUM_UNFINISHED_CHARACTERS = 1024

_MODEL = Model(
    name="xterm",
    terminfo="xterm-256color",
    reflows=True,
    da1_response="\x1b[?62;22c",  # a VT220 with colours
    da2_response="\x1b[>1;10;0c",
    da3_response=None,
    mode_capabilities=frozenset(
        {
            mode_names.ANSI_INSERT,
            mode_names.ANSI_NEWLINE,
            mode_names.DEC_AUTOWRAP,
            mode_names.DEC_CURSOR_APPLICATION,
            mode_names.DEC_CURSOR_VISIBLE,
            mode_names.DEC_LEFT_RIGHT_MARGINS,
            mode_names.DEC_NUMERIC_KEYPAD,
            mode_names.DEC_ORIGIN,
            mode_names.DEC_REVERSE_SCREEN,
            mode_names.UNICODE_GRAPHEME_CLUSTERING,
            mode_names.XTERM_ALT_SCREEN_47,
            mode_names.XTERM_ALT_SCREEN_1047,
            mode_names.XTERM_ALT_SCREEN_1049,
            mode_names.XTERM_BRACKETED_PASTE,
            mode_names.XTERM_CURSOR_BLINK,
            mode_names.XTERM_MOUSE_ANY,
            mode_names.XTERM_MOUSE_BUTTON,
            mode_names.XTERM_MOUSE_NORMAL,
            mode_names.XTERM_MOUSE_SGR,
            mode_names.XTERM_MOUSE_X10,
            mode_names.XTERM_REVERSE_WRAP,
            mode_names.XTERM_SAVE_CURSOR_1048,
            mode_names.XTERM_SYNC_OUTPUT,
        }
    ),
)

_MOUSE_TRACKING = {
    "x10": MouseTracking.PRESSES,
    "normal": MouseTracking.CLICKS,
    "button": MouseTracking.DRAGS,
    "any": MouseTracking.MOVES,
}

_OPERATIONS = frozenset(
    {
        # text and controls
        "PRINT", "REP", "C0_BEL", "C0_BS", "C0_CR", "C0_CRLF", "C0_FF", "C0_HT", "C0_LF",
        "C0_SI", "C0_SO", "C0_VT",
        # moving
        "CUU", "CUD", "CUF", "CUB", "CUP", "HVP", "CHA", "CNL", "CPL", "HPA", "HPB", "HPR",
        "VPA", "VPB", "VPR", "CBT", "CHT", "IND", "NEL", "RI", "SAVE", "RESTORE",
        # tab stops
        "CTC", "HTS", "TBC", "DECST8C",
        # erasing, inserting, scrolling
        "ED", "EL", "ECH", "ICH", "DCH", "IL", "DL", "SU", "SD", "SL", "SR", "DECSTBM",
        "DECSLRM", "DECALN",
        # colours, cursor, character sets, modes
        "SGR", "DECSCUSR", "SCS_G0", "SCS_G1", "SCS_G2", "SCS_G3", "SS2", "SS3", "LS2", "LS3",
        "LS1R", "LS2R", "LS3R", "SM", "RM", "DECSET", "DECRST", "XTSAVE", "XTRESTORE",
        "DECKPAM", "DECKPNM", "DECSTR", "RIS",
        # questions with fixed answers, or numbers that the screen's size bounds
        "DA1", "DA2", "DSR", "CPR", "DECXCPR", "DECRQM",
    }
)  # fmt: skip


class _Replies:
    """The program's end of the line: keeps what the terminal answers, up to a bound."""

    closed = False

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: str) -> int:
        if len(self.data) < _MAXIMUM_REPLY_BYTES:
            self.data += data.encode("ascii", "ignore")
        return len(data)

    def write_bytes(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None: ...

    def configure_line(self, line: object) -> None: ...

    def resize(self, rows: int, cols: int) -> None: ...

    def close(self) -> None: ...


class BitttyModel:
    """A TerminalModel over bittty. One thread at a time.

    Args:
        size: Columns and rows; more than MAXIMUM_COLUMNS and MAXIMUM_ROWS are cut.
        scrollback_rows: How many rows that scrolled off are kept.
    """

    keeps_scrollback = True

    def __init__(self, size: TerminalSize, *, scrollback_rows: int = SCROLLBACK_ROWS) -> None:
        size = _within_bounds(size)
        self._board: _Board = Board(width=size.columns, height=size.rows, model=_MODEL)
        registry = self._board.registry
        for name in set(registry) - _OPERATIONS:
            del registry[name]
        self._set_modes = registry["DECSET"]
        registry["DECSET"] = self._set_modes_as_xterm
        self._erase_line = registry["EL"]
        registry["EL"] = self._erase_line_as_tmux
        self._board.set_caps(TerminalCaps(grapheme_mode="permanently-set"))
        self._replies = _Replies()
        self._board.host.attach(self._replies)
        self._board.attach_display(self)
        self._guard = SequenceGuard()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._scrollback: deque[KeptRow] = deque()
        self._scrollback_rows = scrollback_rows
        self._scrollback_bytes = 0
        self._scrolled_count = 0
        self._bells = 0
        self._seen_page: object = None
        self._seen_generation = 0
        self._seen_reverse = False

    @property
    def size(self) -> TerminalSize:
        """Columns and rows of the screen."""
        return TerminalSize(columns=self._board.width, rows=self._board.height)

    @property
    def cursor(self) -> CursorPosition | None:
        """Where the cursor is; None while the program hides it."""
        cursor = self._board.display.cursor
        if cursor is None:
            return None
        column, row = cursor
        size = self.size
        return CursorPosition(
            column=max(0, min(column, size.columns - 1)), row=max(0, min(row, size.rows - 1))
        )

    @property
    def modes(self) -> TerminalModes:
        """What the program asked for."""
        modes, mouse = self._board.modes, self._board.mouse
        return TerminalModes(
            has_application_cursor=modes.cursor_application_mode,
            has_application_keypad=not modes.numeric_keypad,
            has_bracketed_paste=modes.bracketed_paste,
            is_alternate_screen=self._board.blitter.in_alt_screen,
            is_holding_output=modes.synchronized_output,
            mouse=_MOUSE_TRACKING.get(mouse.protocol.value, MouseTracking.NONE),
            has_sgr_mouse=mouse.encoding.value == "sgr",
        )

    @property
    def title(self) -> str:
        """The title that the program set: one short clean line."""
        return self._guard.title

    @property
    def first_line(self) -> int:
        """The number of the oldest line that is kept."""
        return self._scrolled_count - len(self._scrollback)

    @property
    def screen_line(self) -> int:
        """The number of the screen's first row."""
        return self._scrolled_count

    def feed(self, data: bytes) -> None:
        """Take output of the program."""
        text = self._guard.filter(self._decoder.decode(data))
        parser = self._board.parser
        for start in range(0, len(text), _SLICE_CHARACTERS):
            parser.feed(text[start : start + _SLICE_CHARACTERS])
            if len(parser.buffer) > _MAXIMUM_UNFINISHED_CHARACTERS:
                parser.reset()

    def resize(self, size: TerminalSize) -> None:
        """Change the screen's size; lines are broken anew, and the cursor's row stays on it."""
        size = _within_bounds(size)
        if size == self.size:
            return
        blitter = self._board.blitter
        surplus = self._board.cursor.y - size.rows + 1
        if size.columns != self.size.columns:
            self._scroll_off_begun_line()
            self._rewrap(size.columns)
        elif surplus > 0 and not blitter.in_alt_screen:
            # As xterm does it: what does not fit goes off the top, not off the bottom.
            self._scroll_off(surplus)
        self._board.resize(size.columns, size.rows)

    def row(self, line: int) -> tuple[StyledRun, ...]:
        """Draw a line by its number."""
        y = line - self._scrolled_count
        if 0 <= y < self._board.height:
            runs = draw_row(self._within_width(self._board.display.page.grid[y]))
            return reverse_row(runs) if self._board.modes.reverse_screen else runs
        index = y + len(self._scrollback)
        return self._scrollback[index].runs if 0 <= index < len(self._scrollback) else ()

    def goes_on(self, line: int) -> bool:
        """Whether the next line is a part of this one."""
        y = line - self._scrolled_count
        if y >= 0:
            return self._board.display.page.is_line_wrapped(y)
        index = y + len(self._scrollback)
        return index >= 0 and self._scrollback[index].is_wrapped

    def take_dirty_rows(self) -> frozenset[int]:
        """The rows of the screen that changed since the last call."""
        page = self._board.display.page
        is_reversed = self._board.modes.reverse_screen
        if page is self._seen_page and is_reversed == self._seen_reverse:
            dirty = frozenset(page.dirty_rows(self._seen_generation))
        else:
            dirty = frozenset(range(self._board.height))
        self._seen_page, self._seen_reverse = page, is_reversed
        self._seen_generation = page.observe()
        return dirty

    def take_replies(self) -> bytes:
        """What the terminal answers to the program's questions."""
        data, self._replies.data = self._replies.data, b""
        return data

    def take_bells(self) -> int:
        """How often the bell rang since the last call."""
        bells, self._bells = self._bells, 0
        return bells

    def _set_modes_as_xterm(self, operation: Operation) -> None:
        # xterm clears the alternate screen when mode 1049 enters it; bittty 0.3.0 does not.
        blitter = self._board.blitter
        was_alternate = blitter.in_alt_screen
        self._set_modes(operation)
        if blitter.in_alt_screen and not was_alternate and 1049 in operation.args[0]:
            self._board.registry["ED"](Operation("ED", (2,)))

    def _erase_line_as_tmux(self, operation: Operation) -> None:
        # Behind a row that is full to its last cell there is nothing to erase. xterm takes that
        # cell for the place of the cursor, and a coloured line of just this length loses its end.
        if operation.args[0] != 0 or not self._board.cursor.wrap_pending:
            self._erase_line(operation)

    def present(self, event: object) -> None:
        """Take what bittty tells; it calls this for every line that scrolls off."""
        if isinstance(event, RowsScrolledOff):
            for line in event.lines:
                cells = self._within_width(line.cells)
                runs = draw_row(cells, has_blanks=line.wrapped)
                self._keep(KeptRow(runs=runs, is_wrapped=line.wrapped))
                self._scrolled_count += 1
        elif isinstance(event, ScrollbackCleared):
            self._scrollback.clear()
            self._scrollback_bytes = 0
        elif isinstance(event, Bell):
            self._bells += 1

    def _within_width(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        # bittty 0.3.0 puts a wide character that is broken anew on a screen of one column whole.
        width = self._board.width
        return cells if len(cells) <= width else cells[:width]

    def _scroll_off(self, rows: int) -> None:
        blitter = self._board.blitter
        blitter.scroll_top, blitter.scroll_bottom = 0, self._board.height - 1
        blitter.scroll(rows)
        self._board.cursor.y -= rows

    def _scroll_off_begun_line(self) -> None:
        """Let a line whose first rows have scrolled off follow them, to be broken as one."""
        if self._board.blitter.in_alt_screen:
            return
        if not self._scrollback or not self._scrollback[-1].is_wrapped:
            return
        page = self._board.display.page
        rows = next((y + 1 for y in range(self._board.height) if not page.is_line_wrapped(y)), 0)
        if 0 < rows <= self._board.cursor.y:
            self._scroll_off(rows)

    def _rewrap(self, columns: int) -> None:
        rows, first = self._scrollback, self.first_line
        self._scrollback, self._scrollback_bytes = deque(), 0
        broken = list(rewrap(rows, columns))
        for row in broken:
            self._keep(row)
        self._scrolled_count = first + len(broken)

    def _keep(self, row: KeptRow) -> None:
        self._scrollback.append(row)
        self._scrollback_bytes += _cost(row)
        while (
            len(self._scrollback) > self._scrollback_rows
            or self._scrollback_bytes > _MAXIMUM_SCROLLBACK_BYTES
        ):
            self._scrollback_bytes -= _cost(self._scrollback.popleft())


def _cost(row: KeptRow) -> int:
    return _ROW_BYTES + sum([len(run.text) + _RUN_BYTES for run in row.runs])


def _within_bounds(size: TerminalSize) -> TerminalSize:
    return TerminalSize(
        columns=max(1, min(size.columns, MAXIMUM_COLUMNS)),
        rows=max(1, min(size.rows, MAXIMUM_ROWS)),
    )


# --- the parts of bittty that are used; it comes without types -----------------------------------


class _Page(Protocol):
    grid: list[list[Cell]]

    def dirty_rows(self, seen: int) -> list[int]: ...

    def observe(self) -> int: ...

    def is_line_wrapped(self, y: int) -> bool: ...


class _Display(Protocol):
    page: _Page
    cursor: tuple[int, int] | None


class _Host(Protocol):
    def attach(self, connection: _Replies) -> None: ...


class _Parser(Protocol):
    buffer: str

    def feed(self, chunk: str) -> None: ...

    def reset(self) -> None: ...


class _Cursor(Protocol):
    y: int
    wrap_pending: bool


class _Modes(Protocol):
    cursor_application_mode: bool
    numeric_keypad: bool
    bracketed_paste: bool
    synchronized_output: bool
    reverse_screen: bool


class _Choice(Protocol):
    value: str


class _Mouse(Protocol):
    protocol: _Choice
    encoding: _Choice


class _Blitter(Protocol):
    in_alt_screen: bool
    scroll_top: int
    scroll_bottom: int

    def scroll(self, lines: int) -> None: ...


class _Board(Protocol):
    width: int
    height: int
    registry: dict[str, Callable[[Operation], None]]
    host: _Host
    display: _Display
    parser: _Parser
    cursor: _Cursor
    modes: _Modes
    blitter: _Blitter
    mouse: _Mouse

    def set_caps(self, caps: TerminalCaps) -> None: ...

    def attach_display(self, display: BitttyModel) -> None: ...

    def resize(self, width: int, height: int) -> None: ...
