"""What registries have: repositories that were found, tags, and the steps of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from engine.late_dataclasses import dataclass
from engine.types import RemoteLayer
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.layers import step_cells
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import FoundImage

_STARS_WIDTH = 7
_OFFICIAL_WIDTH = 9
_TYPED = "   as typed"


def found_columns(width: int) -> tuple[int, int]:
    """How wide name and description are in a row of this width."""
    name_width = max(16, min(44, width * 2 // 5))
    return name_width, max(0, width - name_width - _STARS_WIDTH - _OFFICIAL_WIDTH - 3)


def found_header(width: int) -> tuple[Cell, ...]:
    """The line above the rows."""
    name_width, _ = found_columns(width - 1)
    return (
        Cell(" " + fit("NAME", name_width) + " ", "dim"),
        Cell(fit("STARS", _STARS_WIDTH, is_right_aligned=True) + "  ", "dim"),
        Cell(fit("OFFICIAL", _OFFICIAL_WIDTH) + "DESCRIPTION", "dim"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A name: the typed one, which no search need know, or one that a search found."""

    name: str
    found: FoundImage | None = None
    is_typed: bool = False


class FoundList(RowList[FoundRow], inherit_bindings=False):
    """Names, the typed one first."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.REGISTRY)]

    def row_key(self, row: FoundRow) -> str:
        """The typed name is one row, whatever is typed."""
        return "" if row.is_typed else row.name

    def row_filter_text(self, row: FoundRow) -> str:
        """Look in the name."""
        return row.name

    def row_cells(self, row: FoundRow, width: int) -> list[Cell]:
        """Draw name, stars, whether it is official, description."""
        name_width, description_width = found_columns(width)
        found = row.found
        name = clean(row.name, limit=300)
        if found is None:
            wide = max(name_width, min(cell_len(name), width - len(_TYPED)))
            return [Cell(fit(name, wide), "strong"), Cell(_TYPED, "dim")]
        cells = [Cell(fit(name, name_width) + " ", "strong")]
        official = "official" if found.is_official else ""
        description = " ".join(clean(found.description, limit=1000).split())
        return [
            *cells,
            Cell(fit(str(found.star_count), _STARS_WIDTH, is_right_aligned=True) + "  "),
            Cell(fit(official, _OFFICIAL_WIDTH), "good"),
            Cell(fit(description, description_width), "dim"),
        ]


class TagList(RowList[str], inherit_bindings=False):
    """Tags of one repository."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.REGISTRY)]

    def row_key(self, row: str) -> str:
        """The tag."""
        return row

    def row_filter_text(self, row: str) -> str:
        """The tag."""
        return row

    def row_cells(self, row: str, width: int) -> list[Cell]:
        """Draw the tag."""
        return [Cell(fit(clean(row, limit=200), width))]


class RemoteLayerList(RowList[RemoteLayer], inherit_bindings=False):
    """The steps of an image in a registry, the newest on top."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._largest_bytes = 1

    def show_steps(self, steps: tuple[RemoteLayer, ...]) -> None:
        """Show steps, oldest first; the bars are scaled to the largest layer."""
        self._largest_bytes = max((step.size_bytes for step in steps), default=1) or 1
        self.set_rows(tuple(reversed(steps)))

    def row_key(self, row: RemoteLayer) -> str:
        """The position."""
        return str(row.position)

    def row_filter_text(self, row: RemoteLayer) -> str:
        """Look in the instruction."""
        return row.created_by

    def row_cells(self, row: RemoteLayer, width: int) -> list[Cell]:
        """Draw size, bar, instruction, and whether the layer is here."""
        return step_cells(
            created_by=row.created_by or row.digest or "",
            size_bytes=None if row.is_empty else row.size_bytes,
            largest_bytes=self._largest_bytes,
            note=" here" if row.is_present else "",
            width=width,
            is_ascii=self.app.has_class("-ascii"),
        )
