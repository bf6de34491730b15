"""Rows that `--format` can shape: a table, a table of a template, a template, JSON.

A row is a JSON document with Docker's fields by Docker's names, as text, and behind them the
engine's own record with exact figures; templates see the same fields that `--format json` shows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tui.cli import output
from tui.cli.options import Option
from tui.cli.template_functions import LabelMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tui.cli.documents import Document
    from tui.cli.templates import Template

FORMAT = Option(
    "format", "", "FORMAT", "table, json, a template such as '{{.ID}}', or 'table {{.ID}}\\t…'"
)
_ESCAPES = (("\\t", "\t"), ("\\n", "\n"))


class Row(NamedTuple):
    """One row.

    Attributes:
        document: What templates and JSON show.
        labels: What `{{.Label "name"}}` looks up.
    """

    document: dict[str, Document]
    labels: LabelMap


class _LabelHeads(LabelMap):
    def get(self, key: str, default: Document = None, /) -> Document:  # type: ignore[override]
        """Docker's head of a column of labels: the name's last part."""
        del default
        return key.rpartition(".")[2].replace("-", " ").replace("_", " ").upper()


def row(fields: dict[str, Document], record: Document, labels: Sequence[tuple[str, str]]) -> Row:
    """Make a row of Docker's fields and the engine's record."""
    own = record if isinstance(record, dict) else {}
    return Row({**fields, **own}, LabelMap(labels))


class Shape:
    """What `--format` asks for."""

    def __init__(self, text: str | None, *, heads: Mapping[str, str]) -> None:
        """Read the option.

        Args:
            text: The option's value; None and `table` are the command's own table.
            heads: The head of each field that a table of a template may have.

        Raises:
            TemplateError: It is no template.
        """
        text = (text or "table").strip(" ")
        self._is_json = text == "json"
        self._heads = heads
        is_table = text == "table" or text.startswith("table ")
        form = text.removeprefix("table").strip(" ") if is_table else text
        for escape, character in _ESCAPES:
            form = form.replace(escape, character)
        self._has_heads = is_table
        self._template = _read_template(form) if form and not self._is_json else None

    @property
    def is_own_table(self) -> bool:
        """Whether the command shows its own table."""
        return not self._is_json and self._template is None

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """Lay rows out; not for the command's own table.

        Raises:
            TemplateError: The template asks for what is not there.
        """
        template = self._template
        if template is None:
            return [json.dumps(row.document, separators=(",", ":")) for row in rows]
        filled = [template.render(row.document, further={"Label": row.labels}) for row in rows]
        if not self._has_heads:
            return filled
        heads = template.render(LabelMap({**self._heads, "Label": _LabelHeads()}))
        table = [line.replace("\n", " ").split("\t") for line in (heads, *filled)]
        columns = max(map(len, table))
        padded = [[*line, *[""] * (columns - len(line))] for line in table]
        return output.table_lines(padded[0], padded[1:])

    def write(self, rows: Sequence[Row]) -> None:
        """Print rows; not for the command's own table."""
        for line in self.lines(rows):
            output.write_line(line)


def _read_template(form: str) -> Template:
    # Most commands are given none, and its expressions take milliseconds to compile.
    from tui.cli.templates import Template

    return Template(form)
