"""The graph of a build: a lane for each stage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import BuildStage, BuildStep, BuildStepState
from tui import format as formatting
from tui.builds.graph import BuildGraph, draw_graph, first_cell, lane_cells, slowest_way
from tui.builds.texts import MADE, added_bytes, seconds_text, stage_name
from tui.keymap import Context, bindings_of
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import BuildProgress

_NAME_WIDTHS = (10, 18)
_WIDE_FROM_COLUMNS = 90
_FIGURES_WIDTH = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A stage with its steps as they are."""

    stage: BuildStage
    steps: tuple[BuildStep, ...]

    @property
    def made_count(self) -> int:
        """How many of them are there."""
        return sum(step.state in MADE for step in self.steps)


class BuildGraphView(RowList[LaneRow], inherit_bindings=False):
    """Stages side by side: what waits for what, and what takes longest."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.BUILD)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._progress: BuildProgress | None = None
        self._graph: BuildGraph | None = None
        self._drawn_for: tuple[int, tuple[BuildStage, ...]] = (0, ())
        self._slowest: frozenset[int] = frozenset()

    def show_build(self, progress: BuildProgress) -> None:
        """Show the newest state; lanes that are as they were are not drawn."""
        self._progress = progress
        way, _seconds = slowest_way(progress.stages, progress.steps, now=time.time())
        if frozenset(way) != self._slowest:
            self._slowest = frozenset(way)
            self.redraw_rows()
        self.set_rows(
            tuple(
                LaneRow(stage=stage, steps=tuple(progress.steps[one] for one in stage.steps))
                for stage in progress.stages
            )
        )

    def _graph_for(self, progress: BuildProgress, room: int) -> BuildGraph:
        key = (room, progress.stages)
        if self._graph is None or self._drawn_for != key:
            self._drawn_for = key
            self._graph = draw_graph(progress.stages, progress.steps, room=room)
        return self._graph

    def row_key(self, row: LaneRow) -> str:
        """The stage."""
        return str(row.stage.position)

    def row_filter_text(self, row: LaneRow) -> str:
        """Name and base."""
        return f"{row.stage.name} {row.stage.base}"

    def row_cells(self, row: LaneRow, width: int) -> list[Cell]:
        """Draw name, lane, and where there is room how far it is."""
        progress = self._progress
        if progress is None:
            return []
        is_wide = width >= _WIDE_FROM_COLUMNS
        longest = max(len(stage_name(stage)) for stage in progress.stages)
        name_width = min(_NAME_WIDTHS[is_wide], longest)
        figures_width = _FIGURES_WIDTH if is_wide else 0
        room = max(4, width - name_width - 2 - figures_width)
        graph = self._graph_for(progress, room)
        cells = lane_cells(
            graph,
            progress.steps,
            row.stage.position,
            start=first_cell(graph, progress.steps, room),
            room=room,
            slowest=self._slowest,
            is_ascii=self.app.has_class("-ascii"),
        )
        left = room - min(room, graph.width)
        return [
            Cell(fit(stage_name(row.stage), name_width) + "  ", _name_style(row)),
            *cells,
            Cell(" " * left),
            *([Cell(fit(_figures(row), figures_width, is_right_aligned=True), "dim")] * is_wide),
        ]


def _name_style(row: LaneRow) -> str:
    states = {step.state for step in row.steps}
    if BuildStepState.FAILED in states:
        return "bad"
    if BuildStepState.RUNNING in states:
        return "warn"
    return "good" if row.made_count == len(row.steps) else "dim"


def _figures(row: LaneRow) -> str:
    pieces = [f"{row.made_count}/{len(row.steps)}"]
    seconds = sum(step.seconds or 0.0 for step in row.steps)
    if seconds >= 0.05:
        pieces.append(seconds_text(seconds))
    if added := added_bytes(row.steps):
        pieces.append(formatting.size(added))
    return "  ".join(pieces)
