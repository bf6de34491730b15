"""The Files tab: a layer's tree, with what it adds, changes and removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

from engine.types import ChangeKind, FileKind
from tui import format as formatting
from tui.file_tree import FileNode, FileTreeModel
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.types import FileEntry

_MARKS = {
    ChangeKind.ADDED: ("+", "added", "good"),
    ChangeKind.MODIFIED: ("~", "changed", "warn"),
    ChangeKind.REMOVED: ("-", "removed", "bad"),
    ChangeKind.UNCHANGED: (" ", "", ""),
}


class FileTreeView(RowList[FileNode], inherit_bindings=False):
    """A collapsible tree."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.FILES)]

    class Chosen(Message):
        """Enter was pressed on what is no directory."""

        def __init__(self, entry: FileEntry) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._model: FileTreeModel | None = None
        self._has_attributes = True
        # How trees are shown holds from one layer to the next.
        self._is_by_size = False
        self._hidden: set[ChangeKind] = set()

    @property
    def model(self) -> FileTreeModel | None:
        """The tree that is shown."""
        return self._model

    def show_tree(self, model: FileTreeModel | None) -> None:
        """Show another tree, from its top."""
        if model is self._model:
            return
        self._model = model
        self._cursor = 0
        self.scroll_to(y=0, animate=False, force=True)
        self._reshow()

    def set_filter(self, text: str) -> None:
        """Show only paths that contain `text`, with the directories that lead to them."""
        self._filter = text
        self._reshow()

    def _select_rows(self) -> Sequence[FileNode]:
        return () if self._model is None else self._model.visible()

    @property
    def total_count(self) -> int:
        """How many entries the layer has."""
        return 0 if self._model is None else len(self._model.tree.entries)

    def _reshow(self) -> None:
        if self._model is not None:
            self._model.show_as(
                is_by_size=self._is_by_size, hidden=self._hidden, filter_text=self._filter
            )
        current = self.current
        self._strips.clear()
        self._show(self._select_rows())
        if current is not None and current in self._rows:
            self._cursor = self._rows.index(current)
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self._scroll_to_cursor()
        self.refresh()
        self.post_message(self.Highlighted(self))

    # Keys

    def action_fold(self) -> None:
        """Open or close the directory under the cursor, or hand the file on."""
        node = self.current
        if node is not None and node.children:
            node.is_open = not node.is_open
            self._reshow()
        elif node is not None and node.entry is not None and not node.is_directory:
            self.post_message(self.Chosen(node.entry))

    def action_fold_open(self) -> None:
        """Open the directory, or step into it."""
        node = self.current
        if node is None or not node.children:
            return
        if node.is_open:
            self.action_move(1)
        else:
            self.action_fold()

    def action_fold_close(self) -> None:
        """Close the directory, or go to the one above."""
        node = self.current
        if node is None:
            return
        if node.children and node.is_open:
            self.action_fold()
        elif node.parent is not None and node.parent in self._rows:
            self._set_cursor(self._rows.index(node.parent))

    def action_fold_all(self) -> None:
        """Close every directory, or open them all."""
        if self._model is not None:
            self._model.fold_all()
            self._reshow()

    def action_toggle_change(self, change: str) -> None:
        """Show or hide one kind of change."""
        self._hidden ^= {ChangeKind(change)}
        self._reshow()

    def action_toggle_sort(self) -> None:
        """Sort by size, or by name."""
        self._is_by_size = not self._is_by_size
        self._reshow()

    def action_toggle_attributes(self) -> None:
        """Show or hide mode and owner."""
        self._has_attributes = not self._has_attributes
        self.redraw_rows()

    # Drawing

    def row_key(self, row: FileNode) -> str:
        """The path with what can change about its row."""
        return f"{row.is_open} {row.path}"

    def row_filter_text(self, row: FileNode) -> str:
        """The path."""
        return row.path

    def row_cells(self, row: FileNode, width: int) -> list[Cell]:
        """Draw mark, name, word, size, mode and owner."""
        glyph, word, style = _MARKS[row.change]
        entry = row.entry
        has_attributes = self._has_attributes and width >= 64
        attributes_width = 1 + 10 + 1 + 11 if has_attributes else 0
        name_width = max(8, width - 2 - 9 - 9 - attributes_width)
        indent = "  " * min(row.depth, max(0, (name_width - 12) // 2))
        open_sign, closed_sign = ("v ", "> ") if self.app.has_class("-ascii") else ("▾ ", "▸ ")
        fold = "  "
        if row.children:
            fold = open_sign if row.is_open or self._filter else closed_sign
        name = clean(row.name, limit=512)
        if row.is_directory:
            name += "/"
        if entry is not None and entry.link_target:
            arrow = " -> " if entry.kind is FileKind.SYMLINK else " = "
            name += arrow + clean(entry.link_target, limit=512)
        size_text = formatting.size(row.size_bytes) if row.size_bytes or not word else ""
        if row.change is ChangeKind.REMOVED:
            size_text = ""
        cells = [
            Cell(glyph + " ", style),
            Cell(indent + fold, "dim"),
            Cell(
                fit(name, max(0, name_width - len(indent) - 2)),
                style or "strong" * row.is_directory,
            ),
            Cell(" " + fit(word, 8), style),
            Cell(fit(size_text, 9, is_right_aligned=True)),
        ]
        if has_attributes:
            mode = owner = ""
            if entry is not None and entry.kind is not FileKind.WHITEOUT:
                mode = formatting.mode(entry.kind, entry.mode)
                owner = f"{entry.user_id}:{entry.group_id}"
            cells.append(Cell(" " + fit(mode, 10) + " ", "dim"))
            cells.append(Cell(fit(owner, 11, is_right_aligned=True), "dim"))
        return cells
