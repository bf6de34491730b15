"""Shows an open terminal: its screen, and what scrolled off it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.types import TerminalSize
from tui.keymap import Context, bindings_of
from tui.terminal.keys import encode_key, encode_paste
from tui.terminal.model import MouseTracking
from tui.terminal.mouse import (
    NO_BUTTON,
    WHEEL_DOWN,
    WHEEL_LEFT,
    WHEEL_RIGHT,
    WHEEL_UP,
    MouseAction,
    encode_mouse,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events
    from textual.timer import Timer

    from tui.terminal.session import OpenTerminal

FRAME_SECONDS = 1 / 20
RESIZE_DELAY_SECONDS = 0.05
HOLD_SECONDS = 0.5
"""How long a program may keep a picture back (mode 2026) before it is painted all the same."""
WHEEL_ROWS = 3


class TerminalView(Widget, can_focus=True, inherit_bindings=False):
    """Draws the lines that changed, at most 20 times a second; gives keys to the program.

    Scrolled back, keys move, select and copy instead; the picture stays still meanwhile.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"terminal--selection"}
    BINDINGS = [*bindings_of(Context.HISTORY)]

    class ModeChanged(Message):
        """It was scrolled back, or is at the end again; or the selection began or ended."""

    def __init__(self, terminal: OpenTerminal, *, id: str) -> None:
        super().__init__(id=id)
        self.terminal = terminal
        self._leave_keys: frozenset[str] = frozenset()
        self._top: int | None = None
        """The first visible line while scrolled back; None at the end."""
        self._point = (0, 0)
        """Line and column of the cursor that selects."""
        self._mark: tuple[int, int] | None = None
        self._drawn_cursor: int | None = None
        self._drawn_top = 0
        self._painted_at = 0.0
        self._held_since: float | None = None
        self._paint_timer: Timer | None = None
        self._resize_timer: Timer | None = None

    def on_mount(self) -> None:
        """Follow the terminal."""
        self.terminal.listener = self.changed

    def on_unmount(self) -> None:
        """Follow it no more; it goes on."""
        if self.terminal.listener == self.changed:
            self.terminal.listener = None

    def set_leave_keys(self, keys: frozenset[str]) -> None:
        """Say which keys are not for the program."""
        self._leave_keys = keys

    # --- painting ---------------------------------------------------------------------------------

    def changed(self) -> None:
        """Paint soon: what comes within a frame is painted together."""
        if self._paint_timer is None and self.is_attached:
            due = self._painted_at + FRAME_SECONDS - time.monotonic()
            self._paint_timer = self.set_timer(max(0.001, due), self._paint)

    def _paint(self) -> None:
        self._paint_timer = None
        model, now = self.terminal.model, time.monotonic()
        if model.modes.is_holding_output and not self.terminal.is_over:
            self._held_since = self._held_since or now
            if now - self._held_since < HOLD_SECONDS:
                self._painted_at = now
                self.changed()
                return
        else:
            self._held_since = None
        self._painted_at = now
        for _ in range(min(1, model.take_bells())):
            self.app.bell()
        dirty = {model.screen_line + row for row in model.take_dirty_rows()}
        if self._top is not None and self._top < model.first_line:
            self._top = model.first_line
            self._point = (max(self._point[0], self._top), self._point[1])
        top = self.top_line
        cursor = model.cursor
        line = None if cursor is None else model.screen_line + cursor.row
        if top != self._drawn_top:
            self.refresh()
        else:
            dirty |= {n for n in (line, self._drawn_cursor) if n is not None}
            height = self.size.height
            regions = [
                Region(0, n - top, self.size.width, 1) for n in dirty if 0 <= n - top < height
            ]
            if regions:
                self.refresh(*regions)
        self._drawn_cursor = line
        self._drawn_top = top
        self.post_message(self.ModeChanged())

    @property
    def top_line(self) -> int:
        """The number of the first visible line."""
        return self.terminal.model.screen_line if self._top is None else self._top

    @property
    def is_scrolled_back(self) -> bool:
        """Whether keys move and select instead of going to the program."""
        return self._top is not None

    @property
    def is_selecting(self) -> bool:
        """Whether a selection has begun."""
        return self._mark is not None

    def render_line(self, y: int) -> Strip:
        """Draw one visible line."""
        line, width = self.top_line + y, self.size.width
        base = self.rich_style
        segments = [Segment(run.text, base + run.style) for run in self.terminal.model.row(line)]
        strip = Strip(segments).adjust_cell_length(width, base)
        selected = self._selected_columns(line)
        if selected is not None:
            style = self.get_component_rich_style("terminal--selection", partial=True)
            strip = _restyle(strip, *selected, lambda before: before + style)
        column = self._cursor_column(line)
        if column is not None and column < width:
            strip = _restyle(strip, column, column + 1, _reversed)
        return strip

    def _cursor_column(self, line: int) -> int | None:
        if self._top is not None:
            return self._point[1] if line == self._point[0] else None
        model = self.terminal.model
        cursor = model.cursor
        if cursor is None or self.terminal.is_over or line != model.screen_line + cursor.row:
            return None
        return cursor.column

    def _selected_columns(self, line: int) -> tuple[int, int] | None:
        if self._mark is None:
            return None
        (first, left), (last, right) = sorted((self._mark, self._point))
        if not first <= line <= last:
            return None
        return (left if line == first else 0, right + 1 if line == last else self.size.width)

    # --- size -------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Tell the program when the size has stayed for a moment."""
        if self._resize_timer is not None:
            self._resize_timer.stop()
        self._resize_timer = self.set_timer(RESIZE_DELAY_SECONDS, self.fit)

    def fit(self) -> None:
        """Give the program the size that is there."""
        width, height = self.size
        if width and height and not self.terminal.is_over:
            if self.is_scrolled_back and width != self.terminal.model.size.columns:
                self.action_history_leave()  # its lines are broken anew
            self.terminal.resize(TerminalSize(columns=width, rows=height))
        self._drawn_top = -1
        self.changed()

    # --- keys for the program ---------------------------------------------------------------------

    async def on_key(self, event: events.Key) -> None:
        """Give the key to the program, unless it leaves or the view is scrolled back."""
        if event.key in self._leave_keys or self.terminal.is_over:
            return
        if self.is_scrolled_back:
            return
        event.stop()
        event.prevent_default()
        modes = self.terminal.model.modes
        is_page = event.key in ("pageup", "pagedown") and not modes.is_alternate_screen
        if is_page or event.key in ("shift+pageup", "shift+pagedown"):
            self.action_history_page(-1.0 if "up" in event.key else 1.0)
            return
        self._send(encode_key(event.key, event.character, modes))

    def on_paste(self, event: events.Paste) -> None:
        """Give pasted text to the program."""
        event.stop()
        if not self.is_scrolled_back:
            self._send(encode_paste(event.text, self.terminal.model.modes))

    def _send(self, data: bytes) -> None:
        if data and not self.terminal.send(data):
            self.app.bell()

    # --- mouse ------------------------------------------------------------------------------------

    @property
    def wants_mouse(self) -> bool:
        """Whether the program asked for the mouse."""
        has_asked = self.terminal.model.modes.mouse is not MouseTracking.NONE
        return has_asked and not self.terminal.is_over

    def _give_mouse(self, event: events.MouseEvent, action: MouseAction, button: int) -> bool:
        """Give what the mouse did to the program; False when that is not for it."""
        if not self.wants_mouse or self.is_scrolled_back:
            return False
        event.stop()
        model = self.terminal.model
        self._send(
            encode_mouse(
                action,
                button,
                max(0, min(int(event.x), model.size.columns - 1)),
                max(0, min(int(event.y), model.size.rows - 1)),
                model.modes,
                has_shift=event.shift,
                has_meta=event.meta,
                has_control=event.ctrl,
            )
        )
        return True

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Press a button in the program, which gets all until its release."""
        if self._give_mouse(event, MouseAction.PRESS, _button_of(event)):
            self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Release a button in the program."""
        self.release_mouse()
        self._give_mouse(event, MouseAction.RELEASE, _button_of(event))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move or drag in the program."""
        self._give_mouse(event, MouseAction.MOVE, _button_of(event))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll back, or in a full-screen program."""
        event.stop()
        if not self._give_mouse(event, MouseAction.PRESS, WHEEL_UP):
            self._scroll_wheel(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll towards the end, or in a full-screen program."""
        event.stop()
        if not self._give_mouse(event, MouseAction.PRESS, WHEEL_DOWN):
            self._scroll_wheel(1)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Scroll sideways in the program."""
        self._give_mouse(event, MouseAction.PRESS, WHEEL_LEFT)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """Scroll sideways in the program."""
        self._give_mouse(event, MouseAction.PRESS, WHEEL_RIGHT)

    def _scroll_wheel(self, direction: int) -> None:
        modes = self.terminal.model.modes
        if modes.is_alternate_screen and not self.is_scrolled_back:
            key = "up" if direction < 0 else "down"
            self._send(encode_key(key, None, modes) * WHEEL_ROWS)
        else:
            self._scroll(direction * WHEEL_ROWS)

    # --- scrolled back ----------------------------------------------------------------------------

    def _last_line(self) -> int:
        return self.terminal.model.screen_line + self.terminal.model.size.rows - 1

    def _scroll(self, rows: int) -> None:
        model = self.terminal.model
        if self._top is None:
            if rows >= 0:
                return
            cursor = model.cursor
            row = 0 if cursor is None else cursor.row
            self._point = (model.screen_line + row, 0 if cursor is None else cursor.column)
        top = max(model.first_line, min(self.top_line + rows, model.screen_line))
        if top == model.screen_line and rows > 0 and self._mark is None:
            self.action_history_leave()
            return
        self._top = top
        bottom = top + self.size.height - 1
        self._point = (max(top, min(self._point[0], bottom)), self._point[1])
        self.refresh()
        self.post_message(self.ModeChanged())

    def action_history_page(self, pages: float) -> None:
        """Scroll by pages."""
        self._scroll(int(pages * max(1, self.size.height - 1)))

    def action_history_move(self, rows: int, columns: int) -> None:
        """Move the selecting cursor."""
        line, column = self._point
        model = self.terminal.model
        line = max(model.first_line, min(line + rows, self._last_line()))
        self._point = (line, max(0, min(column + columns, self.size.width - 1)))
        top = self.top_line
        if line < top:
            self._top = line
        elif line >= top + self.size.height:
            self._top = line - self.size.height + 1
        self.refresh()

    def action_history_column(self, column: int) -> None:
        """Move to the first or the last column."""
        self._point = (self._point[0], 0 if column == 0 else self.size.width - 1)
        self.refresh()

    def action_history_to(self, index: int) -> None:
        """Move to the oldest or the newest line."""
        model = self.terminal.model
        target = model.first_line if index == 0 else self._last_line()
        self.action_history_move(target - self._point[0], 0)

    def action_history_select(self) -> None:
        """Begin a selection here, or give it up."""
        self._mark = None if self._mark is not None else self._point
        self.refresh()
        self.post_message(self.ModeChanged())

    def action_history_copy(self) -> None:
        """Copy the selection, or the line, and go back to the program."""
        text = self.selected_text()
        if text:
            self.app.copy_to_clipboard(text)
        self.action_history_leave()

    def action_history_leave(self) -> None:
        """Go back to the end; keys are the program's again."""
        self._top = self._mark = None
        self._drawn_top = -1
        self.refresh()
        self.changed()
        self.post_message(self.ModeChanged())

    def selected_text(self) -> str:
        """The selection, or the cursor's line; without the blanks at the ends of lines.

        What the program wrote as one line is one, also where the screen broke it.
        """
        (first, left), (last, right) = sorted((self._mark or (self._point[0], 0), self._point))
        if self._mark is None:
            left, right = 0, self.size.width
        lines = [""]
        model = self.terminal.model
        for number in range(first, last + 1):
            strip = Strip([Segment(run.text) for run in model.row(number)])
            begin = left if number == first else 0
            end = right + 1 if number == last else strip.cell_length
            begin, end = _whole_glyphs(strip, begin, max(begin, end))
            lines[-1] += strip.crop(begin, end).text
            if number != last and not model.goes_on(number):
                lines.append("")
        return "\n".join(line.rstrip() for line in lines)


def _button_of(event: events.MouseEvent) -> int:
    return event.button - 1 if event.button else NO_BUTTON


def _restyle(strip: Strip, left: int, right: int, change: Callable[[Style], Style]) -> Strip:
    """Change the style of the cells from `left` to before `right`."""
    left, right = _whole_glyphs(strip, left, right)
    parts = list(strip.divide([left, right, strip.cell_length]))
    parts[1] = Strip([Segment(s.text, change(s.style or Style.null())) for s in parts[1]])
    return Strip.join(parts)


def _reversed(style: Style) -> Style:
    # A cursor on what is reversed already has to be seen as well.
    return style + Style(reverse=not style.reverse)


def _whole_glyphs(strip: Strip, left: int, right: int) -> tuple[int, int]:
    """Widen a range of cells that begins or ends within a wide character: half of one is none."""
    position = 0
    text = strip.text
    if text.isascii():
        return left, right
    for character in text:
        end = position + cell_len(character)
        if position < left < end:
            left = position
        if position < right < end:
            right = end
        position = end
    return left, right
