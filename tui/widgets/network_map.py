"""The view of a network's map."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui.keymap import Context, bindings_of
from tui.network_map import map_lines
from tui.widgets.rows import RowList

if TYPE_CHECKING:
    from tui.network_map import MapMember, NetworkPicture
    from tui.widgets.rows import Cell


class MapRow(NamedTuple):
    """One line of the map, and whom it is about."""

    number: int
    cells: tuple[Cell, ...]
    member: MapMember | None = None
    line_of_member: int = 0

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(cell.text for cell in self.cells)


class NetworkMap(RowList[MapRow], inherit_bindings=False):
    """The map; its lines can be walked, so that one with many members can be seen whole."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._picture: NetworkPicture | None = None

    def show_picture(self, picture: NetworkPicture | None) -> None:
        """Draw another map."""
        if picture != self._picture:
            self._picture = picture
            self._draw_map()

    def on_resize(self) -> None:
        """Draw it as it fits."""
        super().on_resize()
        self._draw_map()

    def _draw_map(self) -> None:
        picture, width = self._picture, self.row_width - 1
        if picture is None or width <= 0:
            self.set_rows(())
            return
        lines = map_lines(picture, width, is_ascii=self.app.has_class("-ascii"))
        rows: list[MapRow] = []
        for number, (cells, member) in enumerate(lines):
            is_next = bool(rows) and member is not None and rows[-1].member == member
            rows.append(
                MapRow(number, cells, member, rows[-1].line_of_member + 1 if is_next else 0)
            )
        self.set_rows(tuple(rows))

    @property
    def picture(self) -> NetworkPicture | None:
        """What is drawn."""
        return self._picture

    def row_key(self, row: MapRow) -> str:
        """The member, so that the cursor stays on it; else the line."""
        if row.member is None:
            return f"line {row.number}"
        return f"{row.member.container_id} {row.line_of_member}"

    def row_filter_text(self, row: MapRow) -> str:
        """The whole line."""
        return row.text

    def row_cells(self, row: MapRow, width: int) -> list[Cell]:
        """The line's cells; what is too long is cut."""
        del width
        return list(row.cells)
