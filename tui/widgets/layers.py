"""The Layers pane: an image's history as a stack, the newest step on top."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types import LayerSummary, WritableLayer
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableRow:
    """The writable layer of the selected container; None as long as it was not measured."""

    container_name: str
    container_id: str
    layer: WritableLayer | None


StackRow = WritableRow | LayerSummary


class LayerList(RowList[StackRow], inherit_bindings=False):
    """The stack of the selected image or container."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.LAYERS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._largest_bytes = 1

    def set_stack(self, rows: tuple[StackRow, ...]) -> None:
        """Show a stack, topmost row first; the bars are scaled to its largest layer."""
        largest = max((_size_bytes(row) for row in rows), default=1) or 1
        if largest != self._largest_bytes:
            self._largest_bytes = largest
            self.redraw_rows()
        self.set_rows(rows)

    def row_key(self, row: StackRow) -> str:
        """The position, or the container."""
        if isinstance(row, WritableRow):
            return f"writable {row.container_id}"
        return str(row.position)

    def row_filter_text(self, row: StackRow) -> str:
        """Look in the instruction."""
        return row.container_name if isinstance(row, WritableRow) else row.created_by

    def row_cells(self, row: StackRow, width: int) -> list[Cell]:
        """Draw size, bar, instruction and what is shared."""
        is_ascii = self.app.has_class("-ascii")
        bar_width = bar_cells(width)
        size_bytes = _size_bytes(row)
        if isinstance(row, WritableRow):
            name = clean(row.container_name, limit=128)
            size_text = "..." if row.layer is None else formatting.size(size_bytes)
            rest = max(0, width - 9 - bar_width - 2)
            return [
                Cell(fit(size_text, 8, is_right_aligned=True) + " ", "strong"),
                Cell(
                    formatting.bar(size_bytes, self._largest_bytes, bar_width, is_ascii=is_ascii),
                    "warn",
                ),
                Cell("  "),
                Cell(fit(f"~ writable layer of {name}", rest), "warn"),
            ]
        shared = ""
        if not row.is_empty and row.shared_image_count > 1:
            shared = f" shared by {row.shared_image_count} images"
            if width < 56:
                shared = f" ={row.shared_image_count} images"
        return step_cells(
            created_by=row.created_by,
            size_bytes=None if row.is_empty else size_bytes,
            largest_bytes=self._largest_bytes,
            note=shared,
            width=width,
            is_ascii=is_ascii,
        )


def bar_cells(width: int) -> int:
    """How wide the bar of a row is."""
    return 10 if width >= 60 else 6


def step_cells(
    *,
    created_by: str,
    size_bytes: int | None,
    largest_bytes: int,
    note: str,
    width: int,
    is_ascii: bool,
) -> list[Cell]:
    """Draw a step of an image's history: size, bar, instruction, and a note at the end.

    Args:
        created_by: The step, unclean.
        size_bytes: None for a step that made no layer.
        largest_bytes: What a whole bar stands for.
        note: Clean; always shown whole.
        width: Of the row.
        is_ascii: Draw the bar of plain characters.
    """
    bar_width = bar_cells(width)
    rest = max(0, width - 9 - bar_width - 2 - len(note))
    text = formatting.instruction(clean(created_by))
    keyword, blank, arguments = text.partition(" ")
    is_empty = size_bytes is None
    text_style = "dim" if is_empty else ""
    body = fit(keyword + blank + arguments, rest)
    keyword_part = body[: len(keyword)]
    size_text = "-" if size_bytes is None else formatting.size(size_bytes)
    return [
        Cell(fit(size_text, 8, is_right_aligned=True) + " ", text_style),
        Cell(formatting.bar(size_bytes or 0, largest_bytes, bar_width, is_ascii=is_ascii), "bar"),
        Cell("  "),
        Cell(keyword_part, "dim" if is_empty else "accent"),
        Cell(body[len(keyword_part) :], text_style),
        Cell(note, "dim"),
    ]


def _size_bytes(row: StackRow) -> int:
    if isinstance(row, WritableRow):
        return 0 if row.layer is None else row.layer.size_bytes
    return row.size_bytes
