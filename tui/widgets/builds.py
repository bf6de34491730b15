"""The list of builds: running ones first, then those that have ended, newest first."""

from __future__ import annotations

import time

from engine.late_dataclasses import dataclass
from engine.types import BuildStatus
from tui import format as formatting
from tui.builds.texts import build_status, seconds_text
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSummaryRow:
    """One build."""

    key: str
    """Stays the same while it goes on."""
    title: str
    """Unclean."""
    status: BuildStatus
    started_at: float
    seconds: float
    step_count: int
    made_count: int
    cached_count: int
    added_bytes: int
    remark: str
    """Why it failed, or what it is about now; unclean."""
    is_watched: bool
    """It is built again when its context changes."""


class BuildList(RowList[BuildSummaryRow], inherit_bindings=False):
    """Every build that is known."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.BUILDS)]

    def row_key(self, row: BuildSummaryRow) -> str:
        """The build."""
        return row.key

    def row_filter_text(self, row: BuildSummaryRow) -> str:
        """Look in name, status and remark."""
        return f"{row.title} {row.status.value} {row.remark}"

    def row_cells(self, row: BuildSummaryRow, width: int) -> list[Cell]:
        """Draw status, name, steps, time, what it added, age, and a remark where there is room."""
        status = build_status(row.status)
        name_width = min(40, max(12, (width - 52) // 2 + 4))
        steps = f"{row.made_count}/{row.step_count}" if row.step_count else ""
        cached = f" {row.cached_count} cached" if row.cached_count else ""
        watched = "w " if row.is_watched else "  "
        age = formatting.age(row.started_at, now=time.time())
        cells = [
            Cell(fit(status.text, 12), status.style),
            Cell(watched, "accent"),
            Cell(fit(clean(row.title, limit=200), name_width) + " ", "strong"),
            Cell(fit(steps + cached, 16), ""),
            Cell(fit(seconds_text(row.seconds), 10, is_right_aligned=True)),
            Cell(fit(formatting.size(row.added_bytes), 9, is_right_aligned=True)),
            Cell(fit(age, 6, is_right_aligned=True), "dim"),
        ]
        rest = width - 12 - 2 - name_width - 1 - 16 - 10 - 9 - 6 - 2
        if rest >= 8:
            style = "bad" if row.status is BuildStatus.FAILED else "dim"
            cells.append(Cell("  " + fit(clean(row.remark, limit=200), rest), style))
        return cells
