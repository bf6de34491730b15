"""The steps of a build, with what they write below them; live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.segment import Segment

from engine.types import BuildStepState, OutputStream
from tui import format as formatting
from tui.builds.compare import is_measured
from tui.builds.rows import BuildRow, LogRow, NoteRow, StageRow, StepRow, position_of
from tui.builds.texts import MADE, seconds_text, stage_name, step_seconds, step_state, step_text
from tui.keymap import Context, bindings_of
from tui.sanitise import clean, clean_log_line
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import BuildStep

_URGENCIES = {
    BuildStepState.FAILED: 3,
    BuildStepState.RUNNING: 2,
    BuildStepState.DONE: 1,
    BuildStepState.CACHED: 1,
    BuildStepState.CANCELLED: 1,
}
"""Which step is followed: of those that are as urgent the last one."""
_STATE_WIDTH = 12
_INDENT = "    "
_FIGURES_WIDTH = 20
_GROWTH_WIDTH = 10
_GROWTH_FROM_COLUMNS = 90


class BuildStepList(RowList[BuildRow], inherit_bindings=False):
    """Steps and log lines. As long as nobody moves, the cursor goes with what goes on."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.BUILD)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.is_followed = True

    def show_rows(self, rows: tuple[BuildRow, ...]) -> None:
        """Show the newest state; rows that are as they were are not drawn."""
        is_same_shape = len(rows) == len(self._all) and not self._filter
        if is_same_shape and all(
            self.row_key(old) == self.row_key(new) for old, new in zip(self._all, rows, strict=True)
        ):
            before, self._all, self._rows = self._all, rows, rows
            for index, (old, new) in enumerate(zip(before, rows, strict=True)):
                if old != new:
                    self._forget(new)
                    self._refresh_row(index)
                    if index == self._cursor:
                        self.post_message(self.Highlighted(self))
        else:
            self.set_rows(rows)
        if self.is_followed:
            self._follow()

    def _forget(self, row: BuildRow) -> None:
        # Of any width: a scrollbar comes and goes between two looks.
        row_key = self.row_key(row)
        for key in [key for key in tuple(self._strips.keys()) if key[0] == row_key]:
            self._strips.discard(key)

    def _follow(self) -> None:
        """Stand on the step that failed, else on the last one that runs, with its log in view."""
        indexes = [index for index, row in enumerate(self._rows) if isinstance(row, StepRow)]
        found = max(indexes, key=self._urgency, default=None)
        if found is None or self._urgency(found) < (1, 0):
            return
        position = position_of(self._rows[found])
        last = found
        while last + 1 < len(self._rows) and position_of(self._rows[last + 1]) == position:
            last += 1
        self._set_cursor(found)
        height = self.size.height
        if height > 0 and last >= self.scroll_offset.y + height:
            self.scroll_to(y=min(found, last - height + 1), animate=False, force=True)

    def _urgency(self, index: int) -> tuple[int, int]:
        row = self._rows[index]
        state = row.step.state if isinstance(row, StepRow) else BuildStepState.QUEUED
        return (_URGENCIES.get(state, 0), index)

    def tick(self) -> None:
        """Draw anew what goes by the clock."""
        top = self.scroll_offset.y
        for index in self._visible(top, self.size.height):
            row = self._rows[index]
            if isinstance(row, StepRow) and row.step.state is BuildStepState.RUNNING:
                self._forget(row)
                self._refresh_row(index)

    def go_to_step(self, position: int) -> bool:
        """Put the cursor on a step, and let it stay there."""
        self.is_followed = False
        return self.move_to_key(f"step {position}")

    def action_move(self, step: int) -> None:
        """Move the cursor by rows, and let it stay there."""
        self.is_followed = False
        super().action_move(step)

    def action_move_page(self, pages: float) -> None:
        """Move the cursor by pages, and let it stay there."""
        self.is_followed = False
        super().action_move_page(pages)

    def action_move_to(self, index: int) -> None:
        """Move the cursor to a row; at the end it goes with what goes on again."""
        self.is_followed = False
        super().action_move_to(index)
        self.is_followed = index < 0

    # --- rows ---------------------------------------------------------------------------------

    def row_key(self, row: BuildRow) -> str:
        """What it is, and whose."""
        match row:
            case StageRow():
                return f"stage {row.stage.position}"
            case StepRow():
                return f"step {row.step.position}"
            case LogRow():
                return f"log {row.position} {row.line.number}"
            case NoteRow():
                return f"note {row.position} {row.number}"

    def row_filter_text(self, row: BuildRow) -> str:
        """Look in instructions, in what was written, and in states."""
        match row:
            case StageRow():
                return f"{row.stage.name} {row.stage.base}"
            case StepRow():
                return f"{row.step.state.value} {row.step.text}"
            case LogRow():
                return row.line.raw.decode("utf-8", "replace")
            case NoteRow():
                return row.text

    def row_cells(self, row: BuildRow, width: int) -> list[Cell]:
        """Draw what it is."""
        match row:
            case StageRow():
                return self._stage_cells(row, width)
            case StepRow():
                return self._step_cells(row, width)
            case NoteRow():
                return [Cell(_INDENT), Cell(fit(row.text, max(0, width - 4)), row.style)]
            case LogRow():
                return [Cell(_INDENT), Cell(clean(row.line.raw.decode("utf-8", "replace")))]

    def row_segments(self, row: BuildRow, width: int) -> list[Segment]:
        """Draw lines that a step has written in the colours that they have."""
        if not isinstance(row, LogRow):
            return super().row_segments(row, width)
        is_error = row.line.stream is OutputStream.STDERR
        gutter = "|" if self.app.has_class("-ascii") else "│"
        return [
            Segment(_INDENT),
            Segment(
                "! " if is_error else f"{gutter} ", self.named_style("warn" if is_error else "dim")
            ),
            *(Segment(run.text, run.style) for run in clean_log_line(row.line.raw)),
        ]

    def _stage_cells(self, row: StageRow, width: int) -> list[Cell]:
        base = clean(row.stage.base, limit=200)
        needs = f"  takes from {row.needs}" if row.needs else ""
        name = stage_name(row.stage)
        rest = max(0, width - len(name) - 1)
        return [Cell(name + " ", "strong"), Cell(fit(f"from {base}{needs}", rest), "dim")]

    def _step_cells(self, row: StepRow, width: int) -> list[Cell]:
        step = row.step
        state = step_state(step.state)
        number = f"{step.number}/{step.count}"
        opened, closed = ("v ", "> ") if self.app.has_class("-ascii") else ("▾ ", "▸ ")
        fold = "  " if not row.has_log else (opened if row.is_open else closed)
        growth_width = _GROWTH_WIDTH if width >= _GROWTH_FROM_COLUMNS else 0
        fixed = _STATE_WIDTH + 2 + len(number) + 1 + growth_width + _FIGURES_WIDTH
        body = fit(step_text(step), max(8, width - fixed))
        keyword = len(step.instruction) if body.startswith(step.instruction) else 0
        is_idle = step.state in (BuildStepState.QUEUED, BuildStepState.SKIPPED)
        style = "dim" if is_idle else ""
        cells = [
            Cell(fit(state.text, _STATE_WIDTH), state.style),
            Cell(fold, "dim"),
            Cell(f"{number} ", "dim"),
            Cell(body[:keyword], style or "accent"),
            Cell(body[keyword:], style),
        ]
        if growth_width:
            text = fit(row.growth, growth_width, is_right_aligned=True)
            cells.append(Cell(text, "bad" if row.growth.startswith("+") else "good"))
        cells += [
            Cell(fit(_size_text(step), 9, is_right_aligned=True)),
            Cell(fit(self._time_text(step), 11, is_right_aligned=True), style or "strong"),
        ]
        return cells

    def _time_text(self, step: BuildStep) -> str:
        if step.state is BuildStepState.CACHED:
            return ""
        return seconds_text(step_seconds(step, now=time.time()))


def _size_text(step: BuildStep) -> str:
    if step.state not in MADE or step.instruction == "FROM":
        return ""
    if not is_measured(step):
        return "..."
    return "-" if step.is_empty else formatting.size(step.size_bytes)
