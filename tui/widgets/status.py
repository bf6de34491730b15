"""The line on top (host and totals) and the line at the bottom (keys)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from tui.keymap import Command, display_keys
from tui.sanitise import clean
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Callable


class OneLine(Widget):
    """A line of styled pieces: left, and right as far as there is room."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line--strong",
        "line--dim",
        "line--good",
        "line--warn",
        "line--bad",
        "line--key",
        "line--accent",
        "line--bar",
    }

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._left: tuple[Cell, ...] = ()
        self._right: tuple[Cell, ...] = ()

    def show_cells(self, left: tuple[Cell, ...], right: tuple[Cell, ...] = ()) -> None:
        """Show pieces of clean text; nothing is drawn when they are the same as before."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw the line."""
        width = self.size.width
        if y > 0:
            return Strip.blank(width, self.rich_style)
        right = self._segments(self._right)
        right_width = sum(cell_len(segment.text) for segment in right)
        left = Strip(self._segments(self._left))
        room = width - right_width
        if room < min(left.cell_length, 16):
            return left.adjust_cell_length(width).apply_style(self.rich_style)
        strip = Strip([*left.adjust_cell_length(room), *right])
        return strip.adjust_cell_length(width).apply_style(self.rich_style)

    def _segments(self, cells: tuple[Cell, ...]) -> list[Segment]:
        return [
            Segment(
                cell.text,
                self.get_component_rich_style(f"line--{cell.style}", partial=True)
                if cell.style
                else None,
            )
            for cell in cells
        ]


class KeyLine(OneLine):
    """The keys of the focused pane, as many as fit; the last ones are always shown."""

    def show_commands(
        self,
        own: tuple[Command, ...],
        common: tuple[Command, ...],
        keys_of: Callable[[Command], str],
    ) -> None:
        """Show the pane's own commands left and the common ones right."""

        def pieces(commands: tuple[Command, ...]) -> list[tuple[Cell, Cell]]:
            return [
                (
                    Cell(
                        " " + clean(display_keys(keys_of(command).split(",")[0]), limit=16), "key"
                    ),
                    Cell(f" {command.label} ", "dim"),
                )
                for command in commands
            ]

        right = tuple(cell for pair in pieces(common) for cell in pair)
        room = self.app.size.width - sum(cell_len(cell.text) for cell in right)
        left: list[Cell] = []
        for pair in pieces(own):
            needed = sum(cell_len(cell.text) for cell in pair)
            if needed > room:
                break
            room -= needed
            left += pair
        self.show_cells(tuple(left), right)
