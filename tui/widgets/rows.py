"""A list drawn line by line: the base of every list in the application.

Stock tables lay out every row; this one draws the lines that are visible and keeps the strips of
rows that did not change, so 100,000 rows cost what 40 do.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.late_dataclasses import dataclass
from tui.keymap import Context, bindings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

Row = TypeVar("Row")

STYLE_NAMES = ("good", "warn", "bad", "accent", "dim", "strong", "bar", "hit")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a row: text that is already clean, and the name of its style (or none)."""

    text: str
    style: str = ""


def fit(text: str, width: int, *, is_right_aligned: bool = False) -> str:
    """Cut or pad a text to exactly `width` cells; what is cut ends in an ellipsis."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    padding = " " * (width - length)
    return padding + text if is_right_aligned else text + padding


def _folded(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, max(8, width)) or [""]


class LineView(ScrollView, can_focus=True, inherit_bindings=False):
    """A scrollable view that knows the application's styles and says why it is empty."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"row--{name}" for name in STYLE_NAMES} | {
        "row--cursor"
    }

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._styles: dict[str, Style] = {}
        self._empty_lines: tuple[str, ...] = ()

    def set_empty_text(self, text: str) -> None:
        """Say what stands here while there are no rows: why, and which key fills it."""
        lines = tuple(text.split("\n"))
        if lines != self._empty_lines:
            self._empty_lines = lines
            self.refresh()

    def named_style(self, name: str) -> Style:
        """Look up one of STYLE_NAMES as a Rich style without a background of its own."""
        if name not in self._styles:
            self._styles[name] = (
                self.get_component_rich_style(f"row--{name}", partial=True)
                if name
                else Style.null()
            )
        return self._styles[name]

    def notify_style_update(self) -> None:
        """Forget styles when the theme or the focus changes."""
        self._styles.clear()
        self.forget_strips()
        super().notify_style_update()

    def forget_strips(self) -> None:
        """Forget every strip that was kept."""

    def base_style(self) -> Style:
        """Foreground and background of the widget."""
        return self.rich_style

    @property
    def row_width(self) -> int:
        """Cells that a row has: the scrollbar, when there is one, takes from `size`."""
        return self.scrollable_content_region.width

    def render_empty(self, y: int) -> Strip:
        """Draw one line of the text that stands here when there are no rows."""
        width, height = self.size
        lines = [
            part
            for line in self._empty_lines
            # A line that fits keeps the blanks that put it below another one.
            for part in ([line] if cell_len(line) <= width - 2 else _folded(line, width - 2))
        ]
        index = y - max(0, (height - len(lines)) // 2)
        text = lines[index] if 0 <= index < len(lines) else ""
        left = max(0, (width - cell_len(text)) // 2)
        strip = Strip([Segment(" " * left + text, self.named_style("dim"))])
        return strip.adjust_cell_length(width).apply_style(self.base_style())


class RowList(LineView, Generic[Row], inherit_bindings=False):
    """A list with a cursor and a filter. Subclasses draw a row and give it a key."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    class Highlighted(Message):
        """The cursor stands on another row, or on none."""

        def __init__(self, view: LineView) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> LineView:
            """The list, for `@on` selectors."""
            return self.view

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._all: tuple[Row, ...] = ()
        self._rows: Sequence[Row] = ()
        self._cursor = 0
        self._filter = ""
        self._strips: LRUCache[tuple[str, int, int], Strip] = LRUCache(512)

    # What a subclass says about its rows

    def row_key(self, row: Row) -> str:
        """What identifies a row while its content changes."""
        raise NotImplementedError

    def row_cells(self, row: Row, width: int) -> list[Cell]:
        """Draw a row into `width` cells; a longer one is cut."""
        raise NotImplementedError

    def row_segments(self, row: Row, width: int) -> list[Segment]:
        """Draw a row that has styles of its own; the others have cells."""
        return self._segments(self.row_cells(row, width))

    def _segments(self, cells: list[Cell]) -> list[Segment]:
        return [Segment(cell.text, self.named_style(cell.style)) for cell in cells if cell.text]

    def row_filter_text(self, row: Row) -> str:
        """The text that a filter is looked for in."""
        raise NotImplementedError

    # State

    @property
    def filter_text(self) -> str:
        """The filter, or empty."""
        return self._filter

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that pass the filter."""
        return self._rows

    @property
    def total_count(self) -> int:
        """How many rows there are with the filter away."""
        return len(self._all)

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if 0 <= self._cursor < len(self._rows) else None

    def set_rows(self, rows: tuple[Row, ...]) -> None:
        """Show other rows; the cursor stays on its row, or near where it was."""
        if rows == self._all:
            return
        self._all = rows
        self._apply()

    def set_filter(self, text: str) -> None:
        """Show only rows that contain `text`, in whatever case."""
        if text != self._filter:
            self._filter = text
            self._apply()

    def move_to_key(self, key: str) -> bool:
        """Put the cursor on the row with this key, if it is shown."""
        for index, row in enumerate(self._rows):
            if self.row_key(row) == key:
                self._set_cursor(index)
                return True
        return False

    def redraw_rows(self) -> None:
        """Draw every row again, because something outside the rows changed."""
        self._strips.clear()
        self.refresh()

    def redraw_changed_rows(self) -> None:
        """Draw the visible rows again, and send to the terminal only those that look different."""
        top, height = self.scroll_offset.y, self.size.height
        before = {index: self._strip(index) for index in self._visible(top, height)}
        self._strips.clear()
        for index, strip in before.items():
            if self._strip(index) != strip:
                self._refresh_row(index)

    def _visible(self, top: int, height: int) -> range:
        return range(max(0, top), min(len(self._rows), top + height))

    def forget_strips(self) -> None:
        """Forget every strip that was kept."""
        self._strips.clear()

    def _select_rows(self) -> Sequence[Row]:
        wanted = self._filter.casefold()
        if not wanted:
            return self._all
        return [row for row in self._all if wanted in self.row_filter_text(row).casefold()]

    def _apply(self) -> None:
        before = self.current
        before_key = None if before is None else self.row_key(before)
        old_keys = [self.row_key(row) for row in self._rows] if len(self._rows) < 5000 else None
        self._show(self._select_rows())
        if before_key is not None:
            after = next(
                (n for n, row in enumerate(self._rows) if self.row_key(row) == before_key), None
            )
            if after is not None:
                self._cursor = after
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self._strips.clear()
        current = self.current
        is_other = (None if current is None else self.row_key(current)) != before_key
        self.refresh()
        is_elsewhere = old_keys is None or is_other or len(old_keys) != len(self._rows)
        if is_elsewhere or old_keys != [self.row_key(row) for row in self._rows]:
            self._scroll_to_cursor()
        if is_other or current != before:
            self.post_message(self.Highlighted(self))

    def _show(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self.virtual_size = Size(self.size.width, len(rows))

    # Moving

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self._set_cursor(self._cursor + step)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages."""
        self._set_cursor(self._cursor + int(pages * max(2, self.size.height)))

    def action_move_to(self, index: int) -> None:
        """Move the cursor to a row; -1 is the last."""
        self._set_cursor(len(self._rows) - 1 if index < 0 else index)

    def _set_cursor(self, index: int) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if index == self._cursor:
            return
        before, self._cursor = self._cursor, index
        self._refresh_row(before)
        self._refresh_row(index)
        self._scroll_to_cursor()
        self.post_message(self.Highlighted(self))

    def _scroll_to_cursor(self) -> None:
        height = self.size.height
        if height <= 0:
            return
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, force=True)

    def _refresh_row(self, index: int) -> None:
        y = index - self.scroll_offset.y
        if 0 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self) -> None:
        """Fit the rows to the new width."""
        self.virtual_size = Size(self.size.width, len(self._rows))
        self._strips.clear()
        self._scroll_to_cursor()

    def on_focus(self) -> None:
        """Show the cursor as that of the focused list."""
        self.redraw_rows()

    def on_blur(self) -> None:
        """Show the cursor as that of a list without the focus."""
        self.redraw_rows()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        self._set_cursor(self.scroll_offset.y + event.y)

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Draw one visible line."""
        if not self._rows:
            return self.render_empty(y)
        index = y + self.scroll_offset.y
        width = self.row_width
        if index >= len(self._rows):
            return Strip.blank(width, self.base_style())
        return self._strip(index)

    def _strip(self, index: int) -> Strip:
        row, width = self._rows[index], self.row_width
        cursor = (1 + self.has_focus) if index == self._cursor else 0
        key = (self.row_key(row), width, cursor)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._draw(row, width, cursor)
            self._strips[key] = strip
        return strip

    def _draw(self, row: Row, width: int, cursor: int) -> Strip:
        marker = Cell("▌" if cursor and not self.app.has_class("-ascii") else " ", "accent")
        if cursor and marker.text == " ":
            marker = Cell(">", "accent")
        strip = Strip([*self._segments([marker]), *self.row_segments(row, width - 1)])
        if strip.cell_length > width:
            strip = Strip([*strip.crop(0, width - 1), Segment("…")])
        strip = strip.adjust_cell_length(width)
        base = self.base_style()
        if cursor:
            base += self.get_component_rich_style("row--cursor", partial=True)
        return strip.apply_style(base)
