"""The layers of a pull or push: one row each, drawn again only where something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import TransferStatus
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.transfers import AT_THE_END, IN_NUMBERS, LayerState
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import LayerTransfer

_DIGEST_WIDTH = 12
_STATUS_WIDTH = 20
_AMOUNT_WIDTH = 15
_SPEED_WIDTH = 10
_WIDEST_BAR = 30
_STYLES = {
    TransferStatus.DOWNLOADING: "accent",
    TransferStatus.PUSHING: "accent",
    TransferStatus.EXTRACTING: "good",
    TransferStatus.RETRYING: "warn",
    TransferStatus.DONE: "good",
    TransferStatus.PUSHED: "good",
}


class TransferList(RowList[LayerState], inherit_bindings=False):
    """Layers on their way. As long as nobody moves, the cursor goes with what goes on."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._is_followed = True

    def show_layers(self, layers: tuple[LayerState, ...]) -> None:
        """Show the newest state; rows that are as they were are not drawn."""
        if len(layers) != len(self._all):
            self.set_rows(layers)
        else:
            before, self._all, self._rows = self._all, layers, layers
            for index, (old, new) in enumerate(zip(before, layers, strict=True)):
                if old != new:
                    for cursor in range(3):
                        self._strips.discard((self.row_key(new), self.row_width, cursor))
                    self._refresh_row(index)
        if self._is_followed:
            unfinished = (
                index
                for index, layer in enumerate(layers)
                if layer.transfer.status not in AT_THE_END
            )
            self._set_cursor(next(unfinished, len(layers) - 1))

    def action_move(self, step: int) -> None:
        """Move the cursor by rows, and let it stay there."""
        self._is_followed = False
        super().action_move(step)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages, and let it stay there."""
        self._is_followed = False
        super().action_move_page(pages)

    def action_move_to(self, index: int) -> None:
        """Move the cursor to a row, and let it stay there."""
        self._is_followed = False
        super().action_move_to(index)

    def row_key(self, row: LayerState) -> str:
        """The digest is the identity."""
        return row.transfer.digest

    def row_filter_text(self, row: LayerState) -> str:
        """Look in digest and status."""
        return f"{row.transfer.digest} {row.transfer.status}"

    def row_cells(self, row: LayerState, width: int) -> list[Cell]:
        """Draw digest, status, bar, bytes and speed."""
        transfer = row.transfer
        status_style = _STYLES.get(transfer.status, "dim")
        digest = clean(transfer.digest, limit=100).partition(":")[2][:_DIGEST_WIDTH]
        cells = [Cell(fit(digest, _DIGEST_WIDTH) + " ", "dim")]
        if transfer.status not in IN_NUMBERS and transfer.status is not TransferStatus.PREPARING:
            return [*cells, Cell(_words(transfer), status_style)]
        cells.append(Cell(fit(_words(transfer), _STATUS_WIDTH) + " ", status_style))
        if transfer.total_bytes:
            done, total = transfer.done_bytes, transfer.total_bytes
            figures = _DIGEST_WIDTH + _STATUS_WIDTH + _AMOUNT_WIDTH + _SPEED_WIDTH + 4
            bar_width = max(0, min(_WIDEST_BAR, width - figures))
            is_ascii = self.app.has_class("-ascii")
            bar = formatting.bar(done, total, bar_width, is_ascii=is_ascii)
            amount = f"{formatting.size(done)}/{formatting.size(total)}"
            cells.append(Cell(bar + " ", "bar"))
            cells.append(Cell(fit(amount, _AMOUNT_WIDTH, is_right_aligned=True)))
        if row.bytes_per_second:
            speed = f"{formatting.size(row.bytes_per_second)}/s"
            cells.append(Cell(fit(speed, _SPEED_WIDTH, is_right_aligned=True), "dim"))
        return cells


def _words(transfer: LayerTransfer) -> str:
    detail = clean(transfer.detail, limit=200)
    return f"{transfer.status} {detail}".rstrip()
