"""The Logs tab: a container's log, followed live."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.cells import get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from engine.types import LogLine, OutputStream
from tui.keymap import Context, bindings_of
from tui.log_buffer import BufferedLine, LogBuffer
from tui.widgets.rows import LineView

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIMESTAMP_CELLS = 13


class LogView(LineView, inherit_bindings=False):
    """Draws the lines that are visible; holds at most what LogBuffer holds."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.LOGS)]

    class ModeChanged(Message):
        """Following, wrapping, times, search or filter changed: the title says them."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.buffer = LogBuffer()
        self._shown: list[BufferedLine] = []
        self._starts: list[int] = [0]
        """First row of each shown line, and the row after the last."""
        self._widest = 0
        self._strips: LRUCache[tuple[int, int, int], list[Strip]] = LRUCache(256)
        self.is_following = True
        self.is_wrapped = False
        self.has_timestamps = False
        self.search_text = ""
        self.only_text = ""
        self._hit: int | None = None
        """Number of the line that the search stands on."""

    # Content

    def clear(self) -> None:
        """Forget the log: another container follows."""
        self.buffer = LogBuffer()
        self._hit = None
        self.is_following = True
        self._rebuild()

    def append(self, records: tuple[LogLine, ...]) -> None:
        """Show further records; at the end of the log if it is followed."""
        added, dropped = self.buffer.append(records)
        if dropped or len(added) < len(records):
            self._rebuild()
        else:
            self._extend(added)
        if self.is_following:
            self._scroll_to_end()
        self.refresh()

    def set_search(self, text: str) -> None:
        """Mark every hit and go to the last one."""
        self.search_text = text
        self._hit = None
        self._strips.clear()
        self.refresh()
        if text:
            self.action_next_hit(-1)
        self.post_message(self.ModeChanged())

    def set_only(self, text: str) -> None:
        """Show only lines that contain `text`."""
        self.only_text = text
        self._rebuild()
        if self.is_following:
            self._scroll_to_end()
        self.post_message(self.ModeChanged())

    @property
    def current_line(self) -> BufferedLine | None:
        """The line that the search stands on, else the topmost visible one."""
        for line in self._shown:
            if line.number == self._hit:
                return line
        index = bisect_right(self._starts, self.scroll_offset.y) - 1
        return self._shown[index] if 0 <= index < len(self._shown) else None

    @property
    def mode_words(self) -> tuple[str, ...]:
        """What the title says about how the log is shown."""
        words = ["following" if self.is_following else "held"]
        if self.is_wrapped:
            words.append("wrapped")
        if self.search_text:
            words.append(f"search {self.search_text}")
        if self.only_text:
            words.append(f"only {self.only_text}")
        if self.buffer.dropped_count:
            words.append(f"{self.buffer.dropped_count} older lines in the file")
        return tuple(words)

    def _passes(self, lines: Iterable[BufferedLine]) -> list[BufferedLine]:
        wanted = self.only_text.casefold().encode("utf-8", "replace")
        return [line for line in lines if not wanted or wanted in line.raw.lower()]

    def _rebuild(self) -> None:
        self._shown = []
        self._starts = [0]
        self._widest = 0
        self._strips.clear()
        self._extend(self.buffer.lines)
        self.refresh()

    def _extend(self, lines: Iterable[BufferedLine]) -> None:
        prefix = _TIMESTAMP_CELLS if self.has_timestamps else 0
        width = max(8, self.size.width - 1 - prefix)  # the scrollbar may come and take one
        row = self._starts[-1]
        for line in self._passes(lines):
            self._shown.append(line)
            row += self._height(line, width) if self.is_wrapped else 1
            self._starts.append(row)
            self._widest = max(self._widest, line.width + prefix)
        columns = self.size.width if self.is_wrapped else max(self.size.width, self._widest + 1)
        size = Size(columns, row)
        if size != self.virtual_size:
            self.virtual_size = size

    def _height(self, line: BufferedLine, room: int) -> int:
        if line.width == len(line.raw):
            return max(1, -(-line.width // room))  # a cell a character
        return len(_wrap([Segment(run.text) for run in line.runs()], room))

    def on_resize(self) -> None:
        """Lay wrapped lines out again."""
        self._rebuild()
        if self.is_following:
            self._scroll_to_end()

    def forget_strips(self) -> None:
        """Forget every strip that was kept."""
        self._strips.clear()

    # Keys

    def action_move(self, step: int) -> None:
        """Scroll by rows; scrolling up holds the log, reaching its end follows it again."""
        self._scroll_to_row(self.scroll_offset.y + step)

    def action_move_page(self, pages: float) -> None:
        """Scroll by pages."""
        self._scroll_to_row(self.scroll_offset.y + int(pages * max(2, self.size.height)))

    def action_move_to(self, index: int) -> None:
        """Scroll to the first or the last row."""
        self._scroll_to_row(self._starts[-1] if index < 0 else 0)

    def action_toggle_follow(self) -> None:
        """Follow the log's end, or stay here."""
        self._set_following(is_following=not self.is_following)
        if self.is_following:
            self._scroll_to_end()

    def action_toggle_timestamps(self) -> None:
        """Show or hide the time of each line."""
        self.has_timestamps = not self.has_timestamps
        self._relayout()

    def action_toggle_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        self.is_wrapped = not self.is_wrapped
        self._relayout()

    def action_scroll_sideways(self, cells: int) -> None:
        """Scroll sideways."""
        self.scroll_to(x=self.scroll_offset.x + cells, animate=False, force=True)

    def action_next_hit(self, direction: int) -> None:
        """Go to the next (1) or the previous (-1) hit of the search."""
        if not self.search_text:
            return
        wanted = self.search_text.casefold().encode("utf-8", "replace")
        numbers = [line.number for line in self._shown]
        position = bisect_right(numbers, self._hit) - 1 if self._hit is not None else None
        if position is None:
            order = range(len(numbers) - 1, -1, -1) if direction < 0 else range(len(numbers))
        elif direction > 0:
            order = range(position + 1, len(numbers))
        else:
            order = range(position - 1, -1, -1)
        for index in order:
            if wanted in self._shown[index].raw.lower():
                self._hit = self._shown[index].number
                self._set_following(is_following=False)
                top = self._starts[index] - self.size.height // 2
                self.scroll_to(y=max(0, top), animate=False, force=True)
                self._strips.clear()
                self.refresh()
                return
        self.app.bell()

    def _relayout(self) -> None:
        index = bisect_right(self._starts, self.scroll_offset.y) - 1
        self._rebuild()
        if self.is_following:
            self._scroll_to_end()
        elif 0 <= index < len(self._shown):
            self.scroll_to(x=0, y=self._starts[index], animate=False, force=True)
        self.post_message(self.ModeChanged())

    def _set_following(self, *, is_following: bool) -> None:
        if is_following != self.is_following:
            self.is_following = is_following
            self.post_message(self.ModeChanged())

    def _last_top(self) -> int:
        return max(0, self._starts[-1] - self.size.height)

    def _scroll_to_row(self, row: int) -> None:
        last = self._last_top()
        row = max(0, min(row, last))
        self._set_following(is_following=row >= last)
        self.scroll_to(y=row, animate=False, force=True)

    def _scroll_to_end(self) -> None:
        self.scroll_to(y=self._last_top(), animate=False, force=True)

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Draw one visible row."""
        if not self._shown:
            return self.render_empty(y)
        width = self.row_width
        row = y + self.scroll_offset.y
        index = bisect_right(self._starts, row) - 1
        if row < 0 or index >= len(self._shown):
            return Strip.blank(width, self.base_style())
        strips = self._line_strips(self._shown[index], self.size.width - 1)
        part = row - self._starts[index]
        if part >= len(strips):
            return Strip.blank(width, self.base_style())
        left = 0 if self.is_wrapped else self.scroll_offset.x
        return strips[part].crop_extend(left, left + width, self.base_style())

    def _line_strips(self, line: BufferedLine, width: int) -> list[Strip]:
        key = (line.number, len(line.raw), width)
        strips = self._strips.get(key)
        if strips is None:
            strips = self._strips[key] = self._draw(line, width)
        return strips

    def _draw(self, line: BufferedLine, width: int) -> list[Strip]:
        is_error = line.stream is OutputStream.STDERR
        base = self.base_style()
        default = self.named_style("bad") if is_error else Style.null()
        segments = [Segment(run.text, default + run.style) for run in line.runs()]
        if self.search_text:
            segments = _mark_hits(segments, self.search_text, self.named_style("hit"))
        text = Strip(segments)
        prefix: list[Segment] = []
        if self.has_timestamps:
            moment = datetime.fromtimestamp(line.timestamp_ns / 1e9, UTC).astimezone()
            stamp = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
            prefix = [Segment(stamp + " ", self.named_style("dim"))]
        if line.number == self._hit:
            base += self.get_component_rich_style("row--cursor", partial=True)
        if not self.is_wrapped:
            return [Strip([*prefix, *text]).apply_style(base)]
        room = max(8, width - (_TIMESTAMP_CELLS if prefix else 0))
        indent = [Segment(" " * _TIMESTAMP_CELLS)] if prefix else []
        parts = _wrap(segments, room)
        return [
            Strip([*(prefix if number == 0 else indent), *part]).apply_style(base)
            for number, part in enumerate(parts)
        ]


def _wrap(segments: list[Segment], room: int) -> list[list[Segment]]:
    """Break into rows of at most `room` cells; a wide character goes to the next row whole."""
    rows: list[list[Segment]] = [[]]
    used = 0
    for text, style, _control in segments:
        start = 0
        for index, character in enumerate(text):
            cells = get_character_cell_size(character)
            if used + cells > room:
                rows[-1].append(Segment(text[start:index], style))
                rows.append([])
                start, used = index, 0
            used += cells
        rows[-1].append(Segment(text[start:], style))
    return rows


def _mark_hits(segments: list[Segment], wanted: str, style: Style) -> list[Segment]:
    needle = wanted.casefold()
    marked: list[Segment] = []
    for segment in segments:
        text, low = segment.text, segment.text.casefold()
        if len(low) != len(text) or needle not in low:
            marked.append(segment)
            continue
        start = 0
        while (found := low.find(needle, start)) >= 0:
            marked.append(Segment(text[start:found], segment.style))
            end = found + len(needle)
            marked.append(Segment(text[found:end], (segment.style or Style.null()) + style))
            start = end
        marked.append(Segment(text[start:], segment.style))
    return marked
