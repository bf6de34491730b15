"""The Images pane: one row a name, with tag, size and age."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.message import Message

from engine.late_dataclasses import dataclass
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.types import ImageSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One name of an image, or an image without a name."""

    image: ImageSummary
    name: str
    """Name with tag as the engine knows it, unclean; empty for a dangling image."""

    @property
    def reference(self) -> str:
        """What the engine finds this row's image by."""
        return self.name or self.image.image_id


def image_rows(images: tuple[ImageSummary, ...]) -> tuple[ImageRow, ...]:
    """Make a row of each name of each image."""
    return tuple(
        ImageRow(image=image, name=name) for image in images for name in (image.names or ("",))
    )


class ImageList(RowList[ImageRow], inherit_bindings=False):
    """Every image of the store."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.IMAGES)]

    class Marked(Message):
        """Other rows are marked than before."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._marks: set[str] = set()
        self.shows_intermediate = False
        """Also what only other images stand on."""

    @property
    def marked(self) -> tuple[ImageRow, ...]:
        """The rows that are marked, also those that the filter hides, from the top."""
        return tuple(row for row in self._all if self.row_key(row) in self._marks)

    def set_rows(self, rows: tuple[ImageRow, ...]) -> None:
        """Show other rows; what is gone is not marked any more."""
        super().set_rows(rows)
        self._marks &= {self.row_key(row) for row in rows}

    def toggle_intermediate(self) -> None:
        """Show intermediate images as well, or not."""
        self.shows_intermediate = not self.shows_intermediate
        self._apply()

    def _select_rows(self) -> Sequence[ImageRow]:
        rows = super()._select_rows()
        if self.shows_intermediate:
            return rows
        return [row for row in rows if not row.image.is_intermediate]

    def action_toggle_mark(self) -> None:
        """Mark the row under the cursor, or not, and go to the next."""
        row = self.current
        if row is not None:
            self._marks ^= {self.row_key(row)}
            self.redraw_rows()
            self.action_move(1)
            self.post_message(self.Marked())

    def clear_marks(self) -> bool:
        """Take every mark away; false if there was none."""
        if not self._marks:
            return False
        self._marks.clear()
        self.redraw_rows()
        self.post_message(self.Marked())
        return True

    def row_key(self, row: ImageRow) -> str:
        """An image can have several names: both together."""
        return f"{row.image.image_id} {row.name}"

    def row_filter_text(self, row: ImageRow) -> str:
        """Look in name and id."""
        return f"{row.name} {row.image.image_id}"

    def row_cells(self, row: ImageRow, width: int) -> list[Cell]:
        """Draw name, tag, size, age."""
        repository, _, tag = clean(row.name, limit=256).rpartition(":")
        if not row.name:
            repository, tag = "<none>", clean(row.image.image_id)[7:19]
        size_text = formatting.size(row.image.size_bytes)
        age_text = formatting.age(row.image.made_at or None, now=time.time())
        tag_width = 9 if width < 46 else 14
        name_width = max(6, width - tag_width - 8 - 6 - 3)
        mark = "* " if self.row_key(row) in self._marks else ""
        return [
            Cell(mark, "accent"),
            Cell(fit(repository, name_width - len(mark)) + " ", "" if row.name else "dim"),
            Cell(fit(tag, tag_width) + " ", "" if row.name else "dim"),
            Cell(fit(size_text, 8, is_right_aligned=True) + " "),
            Cell(fit(age_text, 6, is_right_aligned=True), "dim"),
        ]
