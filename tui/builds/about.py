"""What is said about one step: in a few lines beside the others, or all of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.types import BuildStepState
from tui import format as formatting
from tui.builds.compare import growth_of, is_measured
from tui.builds.graph import links_of
from tui.builds.texts import (
    cache_line,
    change_text,
    entries_text,
    lines_text,
    reason_cells,
    seconds_text,
    step_name,
    step_seconds,
    step_state,
    warning_place,
)
from tui.sanitise import clean, clean_lines
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.types import BuildProgress, BuildStage, BuildStep, BuildWarning
    from tui.builds.model import BuildModel

Line = tuple[Cell, ...]
_LABEL_WIDTH = 10
_MOST_NAMES = 4
_AFTER_A_FAILURE = "e opens a shell in what it has left   l its whole log   r builds again"
_AFTER_A_KILL = "build it again: what was done is in the cache"


def _labelled(label: str, *cells: Cell) -> Line:
    return (Cell(f"{label:<{_LABEL_WIDTH}}", "dim"), *cells)


def step_lines(model: BuildModel, position: int) -> tuple[Line, ...]:
    """The most important things about a step, the weightiest first."""
    progress = model.progress
    if progress is None or not 0 <= position < len(progress.steps):
        return ()
    step = progress.steps[position]
    lines = [_headline(step, progress), _labelled("cache", cache_line(step))]
    if not lines[-1][-1].text:
        lines.pop()
    lines += [
        *_comparison(step, model),
        *_neighbours(step, progress),
        *(_warning(one, progress.dockerfile) for one in _warnings_of(step, progress)),
    ]
    if step.error:
        lines.insert(1, _labelled("failed", Cell(clean(step.error, limit=500), "bad")))
        # A step of which nothing is left was cut off with its application.
        is_failed = step.state is BuildStepState.FAILED
        following = _AFTER_A_FAILURE if is_failed else _AFTER_A_KILL
        lines.insert(2, _labelled("next", Cell(following, "accent")))
    return tuple(lines)


def _headline(step: BuildStep, progress: BuildProgress) -> Line:
    state = step_state(step.state)
    facts = [step_name(step, progress.stages), clean(progress.dockerfile, limit=60)]
    if place := lines_text(step):
        facts.append(place)
    if is_measured(step) and not step.is_empty and step.instruction != "FROM":
        facts.append(entries_text(step.entry_count))
    if step.exit_code:
        facts.append(f"exit code {step.exit_code}")
    return (state, Cell("  " + " · ".join(facts)))


def _comparison(step: BuildStep, model: BuildModel) -> list[Line]:
    before = model.before.get(step.position)
    if before is None or model.previous is None:
        return []
    age = formatting.age(model.previous.started_at, now=time.time())
    when = "a moment ago" if age == "now" else f"{age} ago"
    cells = [Cell(f"{formatting.size(before.size_bytes)}")]
    if before.state is BuildStepState.CACHED:
        cells.append(Cell(", in the cache", "dim"))
    elif before.seconds is not None:
        cells.append(Cell(f" in {seconds_text(before.seconds)}"))
    cells.append(Cell(f", {when}", "dim"))
    if growth := growth_of(step, before):
        cells.append(Cell(f"  now {change_text(growth)}", "bad" if growth > 0 else "good"))
    elif is_measured(step):
        cells.append(Cell("  as large now", "dim"))
    if before.text != step.text:
        cells.append(Cell(f"  it was: {clean(before.text, limit=200)}", "warn"))
    return [_labelled("before", *cells)]


def _neighbours(step: BuildStep, progress: BuildProgress) -> list[Line]:
    links = links_of(progress.stages, progress.steps)
    needed = [progress.steps[one.source] for one in links if one.target == step.position]
    needing = [progress.steps[one.target] for one in links if one.source == step.position]
    return [
        _labelled(label, Cell(_names(steps, progress.stages)))
        for label, steps in (("waits for", needed), ("needed by", needing))
        if steps
    ]


def _names(steps: list[BuildStep], stages: Sequence[BuildStage]) -> str:
    names = [step_name(step, stages) for step in steps[:_MOST_NAMES]]
    if len(steps) > _MOST_NAMES:
        names.append(f"{len(steps) - _MOST_NAMES} more")
    return ", ".join(names)


def _warnings_of(step: BuildStep, progress: BuildProgress) -> list[BuildWarning]:
    return [
        one for one in progress.warnings if step.line <= one.line <= max(step.line, step.end_line)
    ]


def _warning(warning: BuildWarning, dockerfile: str) -> Line:
    rule = f"{clean(warning.rule, limit=60)}: " if warning.rule else ""
    text = f"{rule}{clean(warning.text, limit=500)}  {warning_place(warning, dockerfile)}"
    return _labelled("warning", Cell(text, "warn"))


def whole_step(model: BuildModel, position: int) -> tuple[Line, ...]:
    """Everything about a step, to read."""
    progress = model.progress
    if progress is None:
        return ()
    step = progress.steps[position]
    lines: list[Line] = [(Cell(clean(step.text), "strong"),), ()]
    lines += step_lines(model, position)
    seconds = step_seconds(step, now=time.time())
    if seconds is not None:
        lines.append(_labelled("time", Cell(seconds_text(seconds))))
    if step.chain_id:
        lines.append(_labelled("chain id", Cell(clean(step.chain_id, limit=100))))
    if reasons := reason_cells(step):
        lines += [(), (Cell("Why it was run", "accent"),), *reasons]
    if step.warnings:
        lines += [(), (Cell("Warnings", "accent"),)]
        lines += [(Cell(text, "warn"),) for one in step.warnings for text in clean_lines(one)]
    if step.error:
        lines += [(), (Cell("Why it failed", "accent"),)]
        lines += [(Cell(text, "bad"),) for text in clean_lines(step.error)]
    return tuple(lines)


def warning_lines(progress: BuildProgress) -> tuple[Line, ...]:
    """Every warning about the Dockerfile with the line that it is about."""
    lines: list[Line] = []
    for warning in progress.warnings:
        place = warning_place(warning, progress.dockerfile)
        rule = f"  {clean(warning.rule, limit=60)}" if warning.rule else ""
        lines.append((Cell(place, "accent"), Cell(rule, "warn")))
        if warning.source:
            lines.append((Cell("    "), Cell(clean(warning.source.strip(), limit=300), "strong")))
        lines += [(Cell("    " + text),) for text in clean_lines(warning.text)]
        lines.append(())
    return tuple(lines[:-1])
