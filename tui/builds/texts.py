"""How builds read on screen: glyphs, words, figures and reasons. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import BuildStatus, BuildStepState, CacheOutcome
from tui import format as formatting
from tui.sanitise import clean
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.types import BuildProgress, BuildStage, BuildStep, BuildWarning
    from tui.builds.model import BuildModel

_GLYPHS = {
    BuildStepState.QUEUED: (".", "dim"),
    BuildStepState.RUNNING: (">", "warn"),
    BuildStepState.CACHED: ("=", "bar"),
    BuildStepState.DONE: ("+", "good"),
    BuildStepState.FAILED: ("x", "bad"),
    BuildStepState.SKIPPED: ("-", "dim"),
    BuildStepState.CANCELLED: ("!", "warn"),
}
_STATUSES = {
    BuildStatus.RUNNING: (">", "warn"),
    BuildStatus.DONE: ("+", "good"),
    BuildStatus.FAILED: ("x", "bad"),
    BuildStatus.CANCELLED: ("!", "warn"),
}
_COUNTED = (
    BuildStepState.CACHED,
    BuildStepState.RUNNING,
    BuildStepState.FAILED,
    BuildStepState.SKIPPED,
    BuildStepState.CANCELLED,
)
MADE = (BuildStepState.DONE, BuildStepState.CACHED)
LONGEST_NAME = 128


def step_glyph(state: BuildStepState) -> Cell:
    """The sign of a step's state; its word always stands beside it or in the legend."""
    return Cell(*_GLYPHS[state])


def step_state(state: BuildStepState) -> Cell:
    """Sign and word of a step's state."""
    glyph, style = _GLYPHS[state]
    return Cell(f"{glyph} {state.value}", style)


def build_status(status: BuildStatus) -> Cell:
    """Sign and word of what has become of a build."""
    glyph, style = _STATUSES[status]
    return Cell(f"{glyph} {status.value}", style)


def seconds_text(seconds: float | None) -> str:
    """Write how long a step took: `0.4 s`, `12.3 s`, `4 m 05 s`, `1 h 02 m`; never below zero."""
    if seconds is None:
        return ""
    tenths = max(0, round(seconds * 10))
    if tenths < 600:
        return f"{tenths // 10}.{tenths % 10} s"
    whole = tenths // 10
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def step_seconds(step: BuildStep, *, now: float) -> float | None:
    """How long a step took, or has taken until now."""
    if step.state is BuildStepState.RUNNING and step.started_at is not None:
        return max(0.0, now - step.started_at)
    return step.seconds


def build_seconds(progress: BuildProgress, *, now: float) -> float:
    """How long a build took, or has taken until now."""
    return max(0.0, (progress.ended_at or now) - progress.started_at)


def change_text(size_bytes: int) -> str:
    """Write by how much something grew: `+12.1 MB`, `-3 kB`."""
    return f"{'+' if size_bytes >= 0 else '-'}{formatting.size(abs(size_bytes))}"


def entries_text(count: int) -> str:
    """Write how many files, directories and links there are: `1 entry`, `6,811 entries`."""
    return "1 entry" if count == 1 else f"{count:,} entries"


def stage_name(stage: BuildStage) -> str:
    """What a stage is called, clean."""
    return clean(stage.name, limit=LONGEST_NAME) or f"stage {stage.number}"


def step_name(step: BuildStep, stages: Sequence[BuildStage]) -> str:
    """Which step of which stage: `builder 2/5`; only `2/5` if there is one stage."""
    place = f"{step.number}/{step.count}"
    return place if len(stages) < 2 else f"{stage_name(stages[step.stage])} {place}"


def step_text(step: BuildStep) -> str:
    """The instruction in one line with single blanks, clean."""
    return " ".join(clean(step.text).split())


def lines_text(step: BuildStep) -> str:
    """Which lines of the Dockerfile: `line 3`, `lines 3-5`."""
    if not step.line:
        return ""
    return (
        f"line {step.line}" if step.end_line <= step.line else f"lines {step.line}-{step.end_line}"
    )


def added_bytes(steps: Sequence[BuildStep]) -> int:
    """What steps that were run have added."""
    return sum(step.size_bytes for step in steps if step.state is BuildStepState.DONE)


def totals_cells(model: BuildModel, *, now: float, is_short: bool = False) -> tuple[Cell, ...]:
    """How far a build is: status, time, steps by state, and what they added.

    Args:
        model: The build.
        now: What time it is.
        is_short: There is little room.
    """
    progress = model.progress
    if progress is None:
        return (build_status(model.status),)
    steps = progress.steps
    cells = [
        build_status(model.status),
        Cell(f"  {seconds_text(build_seconds(progress, now=now))}", "strong"),
    ]
    if steps:
        made = sum(step.state in MADE for step in steps)
        of = "/" if is_short else " of "
        cells.append(Cell(f"  {made}{of}{len(steps)} steps"))
    for state in _COUNTED:
        count = sum(step.state is state for step in steps)
        if count:
            cells += [Cell("  "), Cell(f"{count} {state.value}", _GLYPHS[state][1])]
    if added := added_bytes(steps):
        cells.append(Cell(f"  {formatting.size(added)}{'' if is_short else ' added'}"))
    if progress.warnings:
        count = len(progress.warnings)
        cells.append(Cell(f"  {count} {'warning' if count == 1 else 'warnings'} (c)", "warn"))
    return tuple(cells)


def cache_line(step: BuildStep) -> Cell:
    """What the cache had for a step, and the weightiest reason."""
    verdict = step.cache
    if verdict is None:
        return Cell("the cache has nothing to do with it" if step.instruction == "FROM" else "")
    match verdict.outcome:
        case CacheOutcome.HIT:
            return Cell("in the cache: nothing that it reads has changed", "bar")
        case CacheOutcome.UNUSED:
            return Cell("the cache was not asked", "dim")
        case CacheOutcome.MISS:
            if not verdict.reasons:
                return Cell("not in the cache", "warn")
            more = verdict.reason_count - 1
            rest = f"  and {more} more" if more > 0 else ""
            text = clean(verdict.reasons[0].text, limit=300)
            return Cell(f"not in the cache: {text}{rest}", "warn")


def reason_cells(step: BuildStep) -> list[tuple[Cell, ...]]:
    """Every reason for which a step was run, a line each."""
    verdict = step.cache
    if verdict is None:
        return []
    lines: list[tuple[Cell, ...]] = [
        (Cell(f"{reason.kind.value:<18}", "dim"), Cell(clean(reason.text, limit=500)))
        for reason in verdict.reasons
    ]
    left = verdict.reason_count - len(verdict.reasons)
    if left > 0:
        lines.append((Cell(f"{'':<18}and {left} more", "dim"),))
    return lines


def warning_place(warning: BuildWarning, dockerfile: str) -> str:
    """Where a warning is about: `Dockerfile:3:7`, clean."""
    name = clean(dockerfile, limit=LONGEST_NAME)
    if not warning.line:
        return name
    return f"{name}:{warning.line}" + (f":{warning.column}" if warning.column else "")
