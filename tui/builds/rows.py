"""The rows of a build: its stages, their steps, and what those write."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import BuildStage, BuildStep, BuildStepState
from tui.builds.compare import growth_of
from tui.builds.model import Fold
from tui.builds.texts import change_text, stage_name
from tui.sanitise import clean, clean_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tui.builds.model import BuildModel
    from tui.builds.step_log import OutputLine

_FAILED_LINES = 12
_MOST_ERROR_LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """Where the steps of a stage begin."""

    stage: BuildStage
    needs: str
    """Names of the stages that it takes from, clean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step."""

    step: BuildStep
    is_open: bool
    has_log: bool
    growth: str
    """What it adds more than before: `+12.1 MB`; empty if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A line that a step has written."""

    position: int
    line: OutputLine


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRow:
    """A line of ours below a step: clean."""

    position: int
    number: int
    text: str
    style: str


BuildRow = StageRow | StepRow | LogRow | NoteRow


def position_of(row: BuildRow) -> int | None:
    """The step that a row belongs to."""
    match row:
        case StageRow():
            return row.stage.steps[0] if row.stage.steps else None
        case StepRow():
            return row.step.position
        case LogRow() | NoteRow():
            return row.position


def build_rows(model: BuildModel, *, tail: int, width: int = 80) -> tuple[BuildRow, ...]:
    """Every row of a build.

    Args:
        model: The build.
        tail: How many lines of a running step's log are shown as long as nobody opens it.
        width: What an error is folded to, so that its end is seen as well.
    """
    progress = model.progress
    if progress is None:
        return ()
    rows: list[BuildRow] = []
    for stage in progress.stages:
        if len(progress.stages) > 1:
            others = [progress.stages[other] for other in stage.depends_on]
            needs = ", ".join(stage_name(one) for one in others if one.name != stage.base)
            rows.append(StageRow(stage=stage, needs=needs))
        for position in stage.steps:
            rows += _step_rows(model, progress.steps[position], tail=tail, width=width)
    return tuple(rows)


def _step_rows(model: BuildModel, step: BuildStep, *, tail: int, width: int) -> Iterator[BuildRow]:
    position = step.position
    log = model.log(position)
    is_open = model.is_log_shown(position)
    growth = growth_of(step, model.before.get(position))
    yield StepRow(
        step=step,
        is_open=is_open,
        has_log=log.line_count > 0,
        growth=change_text(growth) if growth else "",
    )
    if is_open:
        is_automatic = model.fold(position) is Fold.AUTOMATIC
        short = _FAILED_LINES if step.state is BuildStepState.FAILED else tail
        lines = log.last(short) if is_automatic else log.lines
        hidden = log.line_count - len(lines)
        if hidden:
            text = f"{hidden:,} lines above; l shows the whole log"
            yield NoteRow(position=position, number=0, text=text, style="dim")
        if log.lost_bytes:
            text = "some of it came too fast to be shown; l shows the whole log"
            yield NoteRow(position=position, number=1, text=text, style="dim")
        for line in lines:
            yield LogRow(position=position, line=line)
    if step.error:
        folded = [
            part
            for line in clean_lines(step.error)[:_MOST_ERROR_LINES]
            for part in textwrap.wrap(line, max(20, width - 6))
        ]
        for number, text in enumerate(folded[:_MOST_ERROR_LINES], 2):
            yield NoteRow(position=position, number=number, text=text, style="bad")
    for number, warning in enumerate(step.warnings, 2 + _MOST_ERROR_LINES):
        text = clean(warning, limit=500)
        yield NoteRow(position=position, number=number, text=text, style="warn")
