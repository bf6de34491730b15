"""A pull or a push on its way: a line for each layer, and one for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui.screens.dialogs import OperationDialog
from tui.transfers import total_text
from tui.widgets.rows import Cell
from tui.widgets.status import OneLine
from tui.widgets.transfers import TransferList

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.operations import Progress
    from tui.transfers import TransferMeter

SECONDS_BETWEEN_DRAWS = 0.1
_SECONDS_BETWEEN_LOOKS = 1.0
"""Speeds fall while nothing arrives."""
_SHARE_OF_HEIGHT = 0.92
_ROWS_AROUND = 6
"""Frame, padding, and the line of the total."""
_FEWEST_ROWS = 4


class TransferScreen(OperationDialog):
    """Shows what a meter has; draws ten times a second at most, and only what has changed."""

    def __init__(self, title: str, meter: TransferMeter) -> None:
        super().__init__(title)
        self._meter = meter
        self._drawn_at = 0.0
        self._is_draw_due = False
        self.list = TransferList(id="transfers")
        self._total = OneLine(id="transfer-total")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=" b go on in the background   esc cancel ")
        box.add_class("-transfers")
        with box:
            yield self._total
            yield self.list

    def on_mount(self) -> None:
        """Show what is known, and look again now and then."""
        self.list.set_empty_text("Asking the registry ...")
        self.list.focus()
        self._draw()
        self.set_interval(_SECONDS_BETWEEN_LOOKS, self.show_newest)

    def show_newest(self, progress: Progress | None = None) -> None:
        """Draw the newest state, now or as soon as it may be drawn again."""
        del progress
        if not self.is_mounted or self._is_draw_due:
            return
        wait = self._drawn_at + SECONDS_BETWEEN_DRAWS - time.monotonic()
        if wait <= 0:
            self._draw()
        else:
            self._is_draw_due = True
            self.set_timer(wait, self._draw)

    def on_resize(self) -> None:
        """Give the layers the room that there is."""
        self._make_room(self.list.total_count)

    def _make_room(self, layer_count: int) -> None:
        room = int(self.app.size.height * _SHARE_OF_HEIGHT) - _ROWS_AROUND
        self.list.styles.height = max(1, min(room, max(layer_count, _FEWEST_ROWS)))

    def _draw(self) -> None:
        self._is_draw_due = False
        now = self._drawn_at = time.monotonic()
        layers = self._meter.layers(now=now)
        if len(layers) != self.list.total_count:
            self._make_room(len(layers))
        self.list.show_layers(layers)
        text = total_text(self._meter.total(now=now))
        self._total.show_cells((Cell(f" {text}", "strong"),))
