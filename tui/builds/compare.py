"""A build beside an earlier one of the same name: which step is which, and what grew."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import BuildStatus, BuildStepState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.types import BuildProgress, BuildStage, BuildStep

_LAST = " "
_MOST_STEPS_TO_ALIGN = 500
"""Of one stage; longer ones are compared step by step as they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How much more a step adds than it did before; negative if less."""

    position: int
    size_bytes: int


def previous_build(
    builds: Sequence[BuildProgress], progress: BuildProgress
) -> BuildProgress | None:
    """The last one before it that made an image of its first name; `builds` newest first."""
    if not progress.names:
        return None
    return next(
        (
            one
            for one in builds
            if one.build_id != progress.build_id
            and one.status is BuildStatus.DONE
            and one.started_at <= progress.started_at
            and progress.names[0] in one.names
        ),
        None,
    )


def counterparts(progress: BuildProgress, previous: BuildProgress) -> Mapping[int, BuildStep]:
    """By position: the step of the earlier build that each step stands in the place of."""
    earlier = {_stage_key(stage, previous): stage for stage in previous.stages}
    found: dict[int, BuildStep] = {}
    for stage in progress.stages:
        before = earlier.get(_stage_key(stage, progress))
        if before is None:
            continue
        new = [progress.steps[position] for position in stage.steps]
        old = [previous.steps[position] for position in before.steps]
        found.update((one.position, other) for one, other in _aligned(new, old))
    return found


def _stage_key(stage: BuildStage, progress: BuildProgress) -> str:
    """The last stage stands for the last one, whatever comes before it and it is called."""
    is_last = stage.position == len(progress.stages) - 1
    return _LAST if is_last else stage.name or str(stage.number)


def _aligned(
    new: Sequence[BuildStep], old: Sequence[BuildStep]
) -> Iterator[tuple[BuildStep, BuildStep]]:
    """Pair steps of the same text, and between them those of the same instruction."""
    if max(len(new), len(old)) > _MOST_STEPS_TO_ALIGN:
        yield from zip(new, old, strict=False)
        return
    matcher = SequenceMatcher(
        None, [step.text for step in old], [step.text for step in new], autojunk=False
    )
    for _tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        pairs = zip(new[new_start:new_end], old[old_start:old_end], strict=False)
        yield from ((one, other) for one, other in pairs if one.instruction == other.instruction)


def growths(progress: BuildProgress, before: Mapping[int, BuildStep]) -> tuple[Growth, ...]:
    """The steps that add another amount than before, the largest difference first."""
    found = [
        Growth(position=step.position, size_bytes=difference)
        for step in progress.steps
        if (difference := growth_of(step, before.get(step.position)))
    ]
    return tuple(sorted(found, key=lambda one: -abs(one.size_bytes)))


def growth_of(step: BuildStep, before: BuildStep | None) -> int:
    """How much more a step adds; 0 as long as that is not known."""
    if before is None or not is_measured(step) or not is_measured(before):
        return 0
    return step.size_bytes - before.size_bytes


def is_measured(step: BuildStep) -> bool:
    """Whether it is known what a step adds: the layer of one that is done may still be read."""
    if step.state is not BuildStepState.DONE:
        return step.state is BuildStepState.CACHED
    return step.is_empty or step.chain_id is not None or step.size_bytes > 0
