"""A few lines to look at: no cursor, no focus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.strip import Strip

from tui.widgets.rows import Cell, LineView

if TYPE_CHECKING:
    from collections.abc import Sequence


class Lines(LineView, can_focus=False, inherit_bindings=False):
    """Draws lines of cells; those that are too long are cut, those without room left out."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._lines: tuple[tuple[Cell, ...], ...] = ()

    def show_lines(self, lines: Sequence[tuple[Cell, ...]]) -> None:
        """Show other lines; nothing is drawn when they are the same as before."""
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        width = self.size.width
        if not 0 <= y < len(self._lines):
            return Strip.blank(width, self.base_style())
        strip = Strip([Segment(cell.text, self.named_style(cell.style)) for cell in self._lines[y]])
        if strip.cell_length > width:
            strip = Strip([*strip.crop(0, width - 1), Segment("…")])
        return strip.adjust_cell_length(width).apply_style(self.base_style())
