"""What a build is going to do: its stages with every variable replaced, and their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.graph import SCRATCH, SourceKind
from engine.build.stage_state import StageState
from engine.build.steps import CopyStep, RunStep
from engine.late_dataclasses import dataclass
from engine.oci.documents import ConfigSection
from engine.types import BuildStage, BuildStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from engine.build.graph import BuildGraph, StageNode
    from engine.build.images import BaseImage
    from engine.build.instructions import Dockerfile
    from engine.build.steps import HistoryItem, StageStep

_MOST_TEXT = 4000
"""Of an instruction as it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A stage whose instructions have had their effect.

    Attributes:
        position: Among the stages that are built.
        base: The image at its bottom, through whatever stages.
        state: Its configuration and its own steps and history.
        steps: With the position of each among all; FROM comes before them.
        from_position: Position of its FROM.
        squash_position: Position of making one layer of all, after its steps; None if it does not.
        history: Of the stages below, and its own.
    """

    node: StageNode
    position: int
    base: BaseImage
    state: StageState
    steps: tuple[tuple[int, StageStep], ...]
    from_position: int
    history: tuple[HistoryItem, ...]
    squash_position: int | None = None

    @property
    def last_position(self) -> int:
        """Position of what is done last."""
        return max(self.from_position + len(self.steps), self.squash_position or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything that there is to do.

    Attributes:
        stages: By number in the Dockerfile.
        unused_arguments: Names of the request's that nothing asked for.
    """

    stages: Mapping[int, StagePlan]
    shown_stages: tuple[BuildStage, ...]
    shown_steps: tuple[BuildStep, ...]
    unused_arguments: tuple[str, ...]

    @property
    def run_count(self) -> int:
        """How many steps run a program."""
        return sum(isinstance(step, RunStep) for step in self._steps())

    @property
    def has_file_steps(self) -> bool:
        """Whether any step is no RUN."""
        return not all(isinstance(step, RunStep) for step in self._steps())

    def _steps(self) -> Iterator[StageStep]:
        for stage in self.stages.values():
            for _position, step in stage.steps:
                yield step


def make_plan(
    dockerfile: Dockerfile,
    graph: BuildGraph,
    bases: Mapping[int, BaseImage],
    build_arguments: Mapping[str, str],
    *,
    squashes: bool = False,
) -> BuildPlan:
    """Let every instruction of the stages that are needed have its effect.

    Args:
        dockerfile: What was parsed.
        graph: Which stages are needed.
        bases: By the number of the stage, for those that stand on no other one.
        build_arguments: What `--build-arg` says.
        squashes: The target is to be one layer on its base.

    Raises:
        DockerfileError: One makes no sense with the values that its variables have.
    """
    stages: dict[int, StagePlan] = {}
    used = set(graph.used_arguments)
    count = 0
    for position, (number, node) in enumerate(graph.nodes.items()):
        state, base, below = _begin(dockerfile, graph, node, bases, stages, build_arguments)
        for trigger in node.triggers:
            state.apply(trigger, is_trigger=True)
        for instruction in node.stage.instructions:
            state.apply(instruction)
        used |= state.used_arguments
        stages[number] = StagePlan(
            node=node,
            position=position,
            base=base,
            state=state,
            steps=tuple(enumerate(state.steps, count + 1)),
            from_position=count,
            history=(*below, *state.history),
            squash_position=count + len(state.steps) + 1
            if squashes and number == graph.target
            else None,
        )
        count = stages[number].last_position + 1
    return BuildPlan(
        stages=stages,
        shown_stages=tuple(_shown_stage(plan, stages) for plan in stages.values()),
        shown_steps=tuple(step for plan in stages.values() for step in _shown_steps(plan, stages)),
        unused_arguments=tuple(sorted(build_arguments.keys() - used)),
    )


def _begin(
    dockerfile: Dockerfile,
    graph: BuildGraph,
    node: StageNode,
    bases: Mapping[int, BaseImage],
    stages: Mapping[int, StagePlan],
    build_arguments: Mapping[str, str],
) -> tuple[StageState, BaseImage, tuple[HistoryItem, ...]]:
    if node.base.kind is SourceKind.STAGE:
        below = stages[node.base.stage]
        state = StageState(
            dockerfile,
            below.state.config,
            author=below.state.author,
            variables=below.state.variables,
            build_arguments=build_arguments,
            global_arguments=graph.global_arguments,
        )
        state.clear_triggers()
        return state, below.base, below.history
    base = bases[node.number]
    state = StageState(
        dockerfile,
        base.document.config or ConfigSection(),
        author=base.document.author or "",
        build_arguments=build_arguments,
        global_arguments=graph.global_arguments,
    )
    state.clear_triggers()
    if base.name == SCRATCH:
        state.set_default_path()
    return state, base, ()


def _shown_stage(plan: StagePlan, stages: Mapping[int, StagePlan]) -> BuildStage:
    return BuildStage(
        position=plan.position,
        number=plan.node.number,
        name=plan.node.stage.name,
        base=plan.node.base.name,
        depends_on=tuple(sorted(stages[number].position for number in plan.node.needs)),
        steps=tuple(range(plan.from_position, plan.last_position + 1)),
    )


def _shown_steps(plan: StagePlan, stages: Mapping[int, StagePlan]) -> list[BuildStep]:
    base = plan.node.base
    count = plan.last_position - plan.from_position + 1
    start = plan.node.stage.base
    shown = [
        BuildStep(
            position=plan.from_position,
            stage=plan.position,
            number=1,
            count=count,
            instruction="FROM",
            text=one_line(start.origin.text),
            line=start.span.start.line,
            end_line=start.span.end.line,
            depends_on=_last_steps(stages, (base.stage,)) if base.kind is SourceKind.STAGE else (),
        )
    ]
    for number, (position, step) in enumerate(plan.steps, 2):
        instruction = step.origin.instruction
        # A trigger has no lines of its own here: it is done where the stage begins.
        place = start if step.origin.is_trigger else instruction
        needed = [
            plan.node.sources[text].stage
            for text in sources_of(step)
            if plan.node.sources[text].kind is SourceKind.STAGE
        ]
        shown.append(
            BuildStep(
                position=position,
                stage=plan.position,
                number=number,
                count=count,
                instruction=instruction.name,
                text=one_line(instruction.origin.text),
                line=place.span.start.line,
                end_line=place.span.end.line,
                depends_on=(position - 1, *_last_steps(stages, needed)),
            )
        )
    if plan.squash_position is not None:
        shown.append(
            BuildStep(
                position=plan.squash_position,
                stage=plan.position,
                number=count,
                count=count,
                instruction="SQUASH",
                text="SQUASH into one layer",
                line=0,
                end_line=0,
                depends_on=(plan.squash_position - 1,),
            )
        )
    return shown


def _last_steps(stages: Mapping[int, StagePlan], numbers: Iterable[int]) -> tuple[int, ...]:
    plans = [stages[number] for number in dict.fromkeys(numbers)]
    return tuple(plan.last_position for plan in plans)


def sources_of(step: StageStep) -> tuple[str, ...]:
    """The `--from` texts of a step."""
    if isinstance(step, CopyStep):
        return (step.source_stage,) if step.source_stage else ()
    if isinstance(step, RunStep):
        return tuple(
            dict.fromkeys(mount.source_stage for mount in step.mounts if mount.source_stage)
        )
    return ()


def one_line(text: str) -> str:
    """An instruction as it is shown: in one line, and not endless."""
    joined = " ".join(line.strip() for line in text.splitlines())
    return joined if len(joined) <= _MOST_TEXT else joined[: _MOST_TEXT - 1] + "…"
