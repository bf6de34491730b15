"""The list of volumes: one row each, with size, who uses it, and age."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import VolumeSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """One volume; its size is None until it has been measured."""

    volume: VolumeSummary
    size_bytes: int | None


class VolumeList(RowList[VolumeRow], inherit_bindings=False):
    """Every volume of the store."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.VOLUMES)]

    def row_key(self, row: VolumeRow) -> str:
        """The name is the identity."""
        return row.volume.name

    def row_filter_text(self, row: VolumeRow) -> str:
        """Look in the name and in the names of who uses it."""
        return " ".join((row.volume.name, *row.volume.container_names))

    def row_cells(self, row: VolumeRow, width: int) -> list[Cell]:
        """Draw name, size, users, age."""
        volume = row.volume
        size_text = "…" if row.size_bytes is None else formatting.size(row.size_bytes)
        age_text = formatting.age(volume.created_at, now=time.time())
        name_width = max(14, (width - 18) * 2 // 5)
        users_width = max(8, width - name_width - 18)
        users = ", ".join(clean(name, limit=128) for name in volume.container_names)
        return [
            Cell(fit(volume_label(volume), name_width) + " ", "dim" if volume.is_anonymous else ""),
            Cell(fit(size_text, 8, is_right_aligned=True) + "  "),
            Cell(fit(users or "not used", users_width), "" if users else "dim"),
            Cell(fit(age_text, 6, is_right_aligned=True), "dim"),
        ]


def volume_label(volume: VolumeSummary) -> str:
    """What a volume is called on the screen."""
    name = clean(volume.name, limit=256)
    return f"{name[:8]} anonymous" if volume.is_anonymous else name
