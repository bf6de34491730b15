"""The list of a directory of this host: names, sizes and times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui import format as formatting
from tui.host_files import HostEntry, HostListing, PathType
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = HostEntry(name=".", folded_name="", type=PathType.DIRECTORY)
"""Takes the directory itself."""
PARENT = HostEntry(name="..", folded_name="", type=PathType.DIRECTORY)
_PLAIN = {PathType.DIRECTORY, PathType.FILE}


class HostFileList(RowList[HostEntry], inherit_bindings=False):
    """A directory; the ways out of it stay whatever the filter says."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.PICKER)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._shows_hidden = False
        self._ways: tuple[HostEntry, ...] = ()
        self._undotted: tuple[HostEntry, ...] = ()

    @property
    def shows_hidden(self) -> bool:
        """Whether names with a dot in front are shown."""
        return self._shows_hidden

    @property
    def entry_count(self) -> int:
        """How many names pass."""
        return len(self.rows) - len(self._ways)

    @property
    def hidden_count(self) -> int:
        """How many names have a dot in front and are not shown for it."""
        return 0 if self._shows_hidden else len(self._all) - len(self._undotted)

    def show_listing(self, listing: HostListing, *ways: HostEntry) -> None:
        """Show a directory.

        Args:
            listing: What it holds.
            ways: HERE and PARENT, as far as they lead anywhere.
        """
        self._ways = ways
        self._undotted = (*ways, *listing.visible)
        self.set_rows((*ways, *listing.entries))

    def toggle_hidden(self) -> None:
        """Show names with a dot in front, or not."""
        self._shows_hidden = not self._shows_hidden
        self._apply()

    def go_to_first_name(self) -> None:
        """Put the cursor on the first row that is no way out."""
        self._set_cursor(len(self._ways) if self.entry_count else 0)

    def _select_rows(self) -> Sequence[HostEntry]:
        wanted = self._filter.casefold()
        shows_hidden = self._shows_hidden or wanted.startswith(".")
        rows = self._all if shows_hidden else self._undotted
        if not wanted:
            return rows
        names = rows[len(self._ways) :]
        return [*self._ways, *(row for row in names if wanted in row.folded_name)]

    def row_key(self, row: HostEntry) -> str:
        """Names are unique in a directory."""
        return row.name

    def row_filter_text(self, row: HostEntry) -> str:
        """The name."""
        return row.name

    def row_cells(self, row: HostEntry, width: int) -> list[Cell]:
        """Draw name, size or type, and age."""
        if row is HERE:
            return [Cell("./", "accent"), Cell("  take this directory", "dim")]
        if row is PARENT:
            return [Cell("../", "accent")]
        size_text = "" if row.type in _PLAIN else row.type.value
        if row.size_bytes is not None:
            size_text = formatting.size(row.size_bytes)
        age_text = formatting.age(row.modified_at, now=time.time())
        name = clean(row.name, limit=512) + "/" * row.is_directory
        style = {PathType.DIRECTORY: "strong", PathType.FILE: ""}.get(row.type, "dim")
        return [
            Cell(fit(name, max(8, width - 22)), style),
            Cell(fit(size_text, 13, is_right_aligned=True) + " "),
            Cell(fit(age_text, 7, is_right_aligned=True), "dim"),
        ]
