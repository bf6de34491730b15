"""The list of a directory of this host: names, sizes and times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui import format as formatting
from tui.host_files import HostEntry, PathType
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

    @property
    def shows_hidden(self) -> bool:
        """Whether names with a dot in front are shown."""
        return self._shows_hidden

    def toggle_hidden(self) -> None:
        """Show names with a dot in front, or not."""
        self._shows_hidden = not self._shows_hidden
        self._apply()

    def go_to_first_name(self) -> None:
        """Put the cursor on the first row that is no way out."""
        index = next((n for n, row in enumerate(self.rows) if row not in (HERE, PARENT)), 0)
        self._set_cursor(index)

    def _select_rows(self) -> Sequence[HostEntry]:
        wanted = self._filter.casefold()
        shows_hidden = self._shows_hidden or wanted.startswith(".")
        if not wanted and shows_hidden:
            return self._all
        return [
            row
            for row in self._all
            if (wanted in row.folded_name and (shows_hidden or row.folded_name[:1] != "."))
            or row is PARENT
            or row is HERE
        ]

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
