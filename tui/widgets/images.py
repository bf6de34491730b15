"""The Images pane: one row a name, with tag, size and age."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
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
        age_text = formatting.age(row.image.created_at, now=time.time())
        tag_width = 9 if width < 46 else 14
        name_width = max(6, width - tag_width - 8 - 6 - 3)
        return [
            Cell(fit(repository, name_width) + " ", "" if row.name else "dim"),
            Cell(fit(tag, tag_width) + " ", "" if row.name else "dim"),
            Cell(fit(size_text, 8, is_right_aligned=True) + " "),
            Cell(fit(age_text, 6, is_right_aligned=True), "dim"),
        ]
