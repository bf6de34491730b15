"""The graph of a build's stages as lanes: one line a stage, a box a step, lines between them.

A step stands right of all that it waits for, so what can run at once stands in one column.
"""

from __future__ import annotations

from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import BuildStage, BuildStep, BuildStepState
from tui.builds.texts import step_glyph, step_seconds
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LEFT, _RIGHT, _UP, _DOWN = 1, 2, 4, 8
_UNICODE = " ╴╶─╵╯╰┴╷╮╭┬│┤├┼"
_ASCII = " ---|+++|++++|+++"[:12] + "|+++"
_MOST_LINE_CELLS = 50_000
"""Beyond it the lines between stages are left out: nobody could follow them."""
_MOST_CHANNELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A step of one stage waits for one of another."""

    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildGraph:
    """Where everything stands; what state it is in is not part of it."""

    stages: tuple[BuildStage, ...]
    left_of: tuple[int, ...]
    """By position: the first cell of the step's box."""
    box_width: int
    width: int
    lines: dict[tuple[int, int], int]
    """Lane and cell to the directions in which a line leaves it."""


def links_of(stages: Sequence[BuildStage], steps: Sequence[BuildStep]) -> tuple[_Link, ...]:
    """What waits for another stage, also where only the stages say so."""
    found = {
        (before, step.position): _Link(source=before, target=step.position)
        for step in steps
        for before in step.depends_on
        if before < step.position and steps[before].stage != step.stage
    }
    linked = {(steps[one.source].stage, steps[one.target].stage) for one in found.values()}
    for stage in stages:
        for other in stage.depends_on:
            last = stages[other].steps[-1:] if other < stage.position else ()
            if last and stage.steps and (other, stage.position) not in linked:
                pair = (last[0], stage.steps[0])
                found[pair] = _Link(source=pair[0], target=pair[1])
    return tuple(found.values())


def _waits_for(
    stages: Sequence[BuildStage], steps: Sequence[BuildStep], links: Sequence[_Link]
) -> list[list[int]]:
    """By position: what must be done before; only what stands before in the Dockerfile."""
    waits: list[list[int]] = [[] for _ in steps]
    for stage in stages:
        for first, second in zip(stage.steps, stage.steps[1:], strict=False):
            waits[second].append(first)
    for link in links:
        waits[link.target].append(link.source)
    return waits


def draw_graph(
    stages: tuple[BuildStage, ...], steps: tuple[BuildStep, ...], *, room: int
) -> BuildGraph:
    """Find where everything stands.

    Args:
        stages: Of the build.
        steps: Of the build.
        room: Cells that there are; with fewer than boxes need, a step is one cell.
    """
    links = links_of(stages, steps)
    columns: list[int] = []
    for before in _waits_for(stages, steps, links):
        columns.append(max((columns[position] + 1 for position in before), default=0))
    count = max(columns, default=-1) + 1
    # Lines into one column that come from one step go down together, others beside each other.
    sources: list[list[int]] = [[] for _ in range(count)]
    for column, source in sorted({(columns[link.target], link.source) for link in links}):
        sources[column].append(source)
    for box_width, gap in ((3, 3), (3, 1), (1, 1)):
        gaps = [max(gap, min(_MOST_CHANNELS, len(found))) for found in sources]
        # The first column has no line before it.
        starts = list(accumulate((g + box_width for g in gaps[1:]), initial=0)) if count else []
        width = starts[-1] + box_width if starts else 0
        if width <= room:
            break
    left_of = tuple(starts[column] for column in columns)
    lines = _Lines()
    for stage in stages:
        for first, second in zip(stage.steps, stage.steps[1:], strict=False):
            lines.across(stage.position, left_of[first] + box_width, left_of[second])
    if sum(steps[one.target].stage - steps[one.source].stage for one in links) < _MOST_LINE_CELLS:
        for link in links:
            column = columns[link.target]
            channel = sources[column].index(link.source) % gaps[column]
            bend = left_of[link.target] - gaps[column] + channel
            lane, end = steps[link.source].stage, steps[link.target].stage
            lines.across(lane, left_of[link.source] + box_width, bend)
            lines.down(bend, lane, end)
            lines.across(end, bend + 1, left_of[link.target])
    for step in steps:
        # A line that leaves a step in the middle of its stage goes along with the stage's own.
        for x in range(left_of[step.position], left_of[step.position] + box_width):
            lines.cells.pop((step.stage, x), None)
    return BuildGraph(
        stages=stages, left_of=left_of, box_width=box_width, width=width, lines=lines.cells
    )


class _Lines:
    """Lines that join where they meet."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], int] = {}

    def _add(self, lane: int, x: int, directions: int) -> None:
        self.cells[lane, x] = self.cells.get((lane, x), 0) | directions

    def across(self, lane: int, start: int, end: int) -> None:
        """Go right through these cells; `end` is not one of them."""
        for x in range(start, end):
            self._add(lane, x, _LEFT | _RIGHT)

    def down(self, x: int, start: int, end: int) -> None:
        """Come from the left in one lane, and go on to the right in one below."""
        self._add(start, x, _LEFT | _DOWN)
        for lane in range(start + 1, end):
            self._add(lane, x, _UP | _DOWN)
        self._add(end, x, _UP | _RIGHT)


def first_cell(graph: BuildGraph, steps: Sequence[BuildStep], room: int) -> int:
    """Which cell to begin at, where there is no room for all: what happens stays in view."""
    if graph.width <= room:
        return 0
    shown = [
        graph.left_of[step.position]
        for step in steps
        if step.state in (BuildStepState.RUNNING, BuildStepState.FAILED)
    ] or [graph.left_of[step.position] for step in steps if step.state is not BuildStepState.QUEUED]
    wanted = (min(shown) if shown else 0) - room // 3
    return max(0, min(wanted, graph.width - room))


def lane_cells(
    graph: BuildGraph,
    steps: Sequence[BuildStep],
    lane: int,
    *,
    start: int,
    room: int,
    slowest: frozenset[int] = frozenset(),
    is_ascii: bool = False,
) -> list[Cell]:
    """Draw one lane, from a cell on.

    Args:
        graph: Where everything stands.
        steps: As they are now.
        lane: Position of the stage.
        start: The first cell that is shown.
        room: How many are.
        slowest: Positions of the steps that the whole has to wait for.
        is_ascii: Draw lines of plain characters.
    """
    end = min(graph.width, start + room)
    characters = _ASCII if is_ascii else _UNICODE
    drawn: list[tuple[str, str]] = [
        (characters[graph.lines.get((lane, x), 0)], "dim") for x in range(start, end)
    ]
    for position in graph.stages[lane].steps:
        glyph = step_glyph(steps[position].state)
        edge = "strong" if position in slowest else "dim"
        box = [("[", edge), (glyph.text, glyph.style), ("]", edge)]
        if graph.box_width == 1:
            box = [(glyph.text, glyph.style)]
        for offset, cell in enumerate(box, graph.left_of[position] - start):
            if 0 <= offset < len(drawn):
                drawn[offset] = cell
    return list(_joined(drawn))


def _joined(drawn: Iterable[tuple[str, str]]) -> Iterable[Cell]:
    for style, group in groupby(drawn, key=lambda one: one[1]):
        yield Cell("".join(text for text, _style in group), style)


def seconds_left(
    stages: Sequence[BuildStage],
    steps: Sequence[BuildStep],
    before: Mapping[int, BuildStep],
    *,
    now: float,
) -> float | None:
    """How long a build still takes if each step takes as long as it did before; None if unknown."""
    waits = _waits_for(stages, steps, links_of(stages, steps))
    total: list[float] = []
    for step in steps:
        own = 0.0
        if not step.state.is_final:
            earlier = before.get(step.position)
            if earlier is None or earlier.state is not BuildStepState.DONE:
                return None
            own = max(0.0, (earlier.seconds or 0.0) - (step_seconds(step, now=now) or 0.0))
        total.append(own + max((total[one] for one in waits[step.position]), default=0.0))
    return max(total, default=None)


def slowest_way(
    stages: Sequence[BuildStage], steps: Sequence[BuildStep], *, now: float
) -> tuple[tuple[int, ...], float]:
    """The steps one after the other that the build has taken, or takes, its time for."""
    waits = _waits_for(stages, steps, links_of(stages, steps))
    total: list[float] = []
    for step in steps:
        before = max((total[position] for position in waits[step.position]), default=0.0)
        total.append(before + (step_seconds(step, now=now) or 0.0))
    if not total or max(total) <= 0:
        return (), 0.0
    way = [max(range(len(total)), key=total.__getitem__)]
    while waits[way[-1]]:
        way.append(max(waits[way[-1]], key=total.__getitem__))
    return tuple(reversed(way)), total[way[0]]
