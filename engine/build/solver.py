"""One build on its way: stages side by side, in each one step after the other."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from engine.build.cache import HIT, CacheHit, StepPlace
from engine.build.failures import StepFailures
from engine.build.graph import SourceKind
from engine.build.images import FinishedStage
from engine.build.layers import BuildLayer
from engine.build.plan import sources_of
from engine.build.reproduction import differences
from engine.errors import BuildStepError, EngineError
from engine.images.catalog import layer_directory
from engine.late_dataclasses import dataclass
from engine.snapshots.removal import engine_error
from engine.types import BuildStepState

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from engine.build.cache import BuildCache
    from engine.build.cache_sources import CacheSources
    from engine.build.graph import SourceReference
    from engine.build.keys import StepInputs
    from engine.build.layers import LayerDraft, LayerStack, LayerWorkshop
    from engine.build.plan import BuildPlan, StagePlan
    from engine.build.progress import BuildState
    from engine.build.steps import StageStep
    from engine.config import EngineConfig
    from engine.oci.documents import ConfigSection
    from engine.snapshots.packing import SealedLayer
    from engine.store.image_lock import ImageLock


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a step may use besides its own words.

    Attributes:
        stack: What it stands on.
        stacks: What `--from` texts of it lead to.
        position: Of the step.
    """

    stage: StagePlan
    stack: LayerStack
    stacks: Mapping[str, LayerStack]
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step has done.

    Attributes:
        started_at_ns: When it began to write.
        mounted_on: Where something was mounted in it.
        is_sealed: What it wrote is a layer already: `sealed`, or nothing.
    """

    exit_code: int | None = None
    started_at_ns: int = 0
    mounted_on: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_sealed: bool = False
    sealed: SealedLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """What is left of a step that has failed.

    Attributes:
        config: Of its stage.
        text: The instruction.
    """

    config: ConfigSection
    text: str
    stack: LayerStack
    draft: LayerDraft
    result: StepResult


class PreparedStep(Protocol):
    """A step that knows what it is made of, and can be done if that is necessary."""

    @property
    def inputs(self) -> StepInputs:
        """What it is made of, without a listing of its files."""

    async def listed_inputs(self) -> StepInputs:
        """The same with the listing, which only a step that is run needs."""

    def skip(self) -> None:
        """It is not run: what it has made before is here."""

    def warm_up(self) -> None:
        """Begin what its running needs and takes time; it is run for certain."""

    async def run(self, draft: LayerDraft) -> StepResult:
        """Do it: write into a draft.

        Raises:
            EngineError: It failed.
        """


class StepPreparer(Protocol):
    """Finds out what steps are made of."""

    async def prepare(self, step: StageStep, context: StepContext) -> PreparedStep:
        """Read what a step copies, as far as that is part of what it is made of.

        Raises:
            EngineError: Something that it needs is missing.
        """

    async def prepare_squash(self, layers: LayerStack, context: StepContext) -> PreparedStep:
        """Make one layer of several, on what they stand on.

        Raises:
            EngineError: One of them could not be made.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverOptions:
    """How a build is to go.

    Attributes:
        uncached_stages: Names and numbers of stages that use no cache.
        most_parallel_steps: How many steps may run at once.
        place: What the place of every step begins with.
    """

    dockerfile: str
    place: str
    uses_cache: bool
    uncached_stages: frozenset[str]
    most_parallel_steps: int
    keeps_failed_step: bool


class Solver:
    """Builds what a plan says."""

    def __init__(
        self,
        plan: BuildPlan,
        options: SolverOptions,
        *,
        config: EngineConfig,
        state: BuildState,
        cache: BuildCache,
        cache_sources: CacheSources,
        workshop: LayerWorkshop,
        preparer: StepPreparer,
        image_stacks: Mapping[str, LayerStack],
        lock: ImageLock,
    ) -> None:
        """Prepare; nothing happens yet.

        Args:
            plan: What there is to do.
            options: How.
            config: Where the store is.
            state: Is told of everything.
            cache: Of the store.
            cache_sources: What `--cache-from` names.
            workshop: Makes layers.
            preparer: Knows the instructions.
            image_stacks: Layers of the images that stages stand on or copy from, by name.
            lock: Of the images.
        """
        self._plan = plan
        self._options = options
        self._config = config
        self._state = state
        self._cache = cache
        self._cache_sources = cache_sources
        self._workshop = workshop
        self._preparer = preparer
        self._image_stacks = image_stacks
        self._lock = lock
        self._running = asyncio.Semaphore(options.most_parallel_steps)
        loop = asyncio.get_running_loop()
        self._finished: dict[int, asyncio.Future[FinishedStage]] = {
            number: loop.create_future() for number in plan.stages
        }
        self._stages: list[asyncio.Task[None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._failures = StepFailures(state, dockerfile=options.dockerfile, root=config.root)
        self.failed: FailedStep | None = None
        """What is left of the step that has failed, if it was to be kept."""

    async def solve(self, target: int) -> FinishedStage:
        """Build every stage; returns the target when all of its layers are in place.

        Raises:
            BuildStepError: A step failed; everything else has been ended.
            EngineError: Something else did.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for plan in self._plan.stages.values():
                    self._stages.append(tasks.create_task(self._build_stage(plan)))
            await asyncio.gather(*self._publishing)
            return await self._finished[target]
        except BaseExceptionGroup as group:
            # What was finished before serves the next build.
            if self._publishing:
                await asyncio.wait(self._publishing)
            raise _first_error(group) from None
        finally:
            for future in self._finished.values():
                future.cancel()
            for task in self._publishing:
                task.cancel()
            if self._publishing:
                await asyncio.wait(self._publishing)

    # --- stages -------------------------------------------------------------------------------

    async def _build_stage(self, plan: StagePlan) -> None:
        position = plan.from_position
        base = plan.node.base
        below: FinishedStage | None = None
        if base.kind is SourceKind.STAGE:
            below = await asyncio.shield(self._finished[base.stage])
            stack: LayerStack = tuple(below.layers)
        else:
            stack = self._image_stacks.get(base.name, ())
        self._state.begin(position)
        self._state.finish(
            position,
            state=BuildStepState.DONE,
            chain_id=stack[-1].known_chain_id if stack and stack[-1].is_in_place else None,
            is_empty=True,
        )
        made = dict.fromkeys(range(len(plan.state.history)), False)
        for step_position, step in plan.steps:
            layer = await self._do_step(plan, step_position, step, stack)
            if layer is not None:
                stack = (*stack, layer)
                made[step.origin.history] = True
        finished = FinishedStage(
            base=plan.base,
            config=plan.state.config,
            author=plan.state.author,
            history=plan.history,
            made_layer=(*(below.made_layer if below else ()), *made.values()),
            layers=stack,
        )
        if plan.squash_position is not None:
            finished = await self._squash(plan, plan.squash_position, finished)
        self._finished[plan.node.number].set_result(finished)

    async def _squash(
        self, plan: StagePlan, position: int, finished: FinishedStage
    ) -> FinishedStage:
        """The same with one layer in place of all that are above the base's."""
        base_count = len(plan.base.document.diff_ids)
        stack, layers = tuple(finished.layers[:base_count]), tuple(finished.layers[base_count:])
        if len(layers) > 1:
            context = StepContext(stage=plan, stack=stack, stacks={}, position=position)
            layer = await self._do(context, self._preparer.prepare_squash(layers, context))
            layers = () if layer is None else (layer,)
        else:
            self._state.begin(position)
            self._state.finish(position, is_empty=True)
        return replace(
            finished,
            made_layer=(False,) * len(finished.made_layer),
            layers=(*stack, *layers),
            squashed=finished,
        )

    async def _do_step(
        self, plan: StagePlan, position: int, step: StageStep, stack: LayerStack
    ) -> BuildLayer | None:
        """Do a step of the Dockerfile, or find it done; returns the layer that it adds, if any."""
        stacks = {
            text: await self._stack_of(plan.node.sources[text])
            for text in dict.fromkeys(sources_of(step))
        }
        context = StepContext(stage=plan, stack=stack, stacks=stacks, position=position)
        return await self._do(context, self._preparer.prepare(step, context), step)

    async def _do(
        self,
        context: StepContext,
        preparing: Coroutine[object, object, PreparedStep],
        step: StageStep | None = None,
    ) -> BuildLayer | None:
        plan, position, stack = context.stage, context.position, context.stack
        shown = self._state.step(position)
        where = StepPlace(
            place=f"{self._options.place} {plan.node.stage.name or plan.node.number} "
            f"{shown.number}",
            text=shown.text,
        )
        try:
            prepared = await preparing
            parent = stack[-1] if stack else None
            uses_cache = self._options.uses_cache and not self._options.uncached_stages & {
                plan.node.stage.name, str(plan.node.number),
            }  # fmt: skip
            if uses_cache:
                hit = await self._cache.look(prepared.inputs.digest, parent)
                if hit is None and step is not None:
                    hit = self._cache_sources.find(plan, step, parent)
                if hit is not None:
                    prepared.skip()
                    return self._take(position, hit)
            async with self._running:
                self._workshop.warm_up()
                prepared.warm_up()
                inputs = await prepared.listed_inputs()
                verdict, draft = await asyncio.gather(
                    self._cache.explain(inputs, parent, where, is_used=uses_cache),
                    self._workshop.draft(stack),
                )
                self._state.begin(position, cache=verdict)
                return await self._run(prepared, inputs, context, where, draft)
        except EngineError as error:
            raise self._failures.of_error(position, error) from error
        except OSError as error:
            failure = self._failures.of_error(position, engine_error(error, where.text))
            raise failure from error

    def _take(self, position: int, hit: CacheHit) -> BuildLayer | None:
        """A step need not be done."""
        layer = hit.layer
        self._state.finish(
            position,
            state=BuildStepState.CACHED,
            cache=HIT,
            is_empty=layer is None,
            chain_id=None if layer is None else layer.chain_id,
            size_bytes=0 if layer is None else layer.size_bytes,
            entry_count=0 if layer is None else layer.entry_count,
        )
        return None if layer is None else BuildLayer.of_store(self._config, layer)

    async def _stack_of(self, source: SourceReference) -> LayerStack:
        if source.kind is SourceKind.STAGE:
            finished = await asyncio.shield(self._finished[source.stage])
            return tuple(finished.layers)
        return self._image_stacks.get(source.name, ())

    # --- steps --------------------------------------------------------------------------------

    async def _run(
        self,
        prepared: PreparedStep,
        inputs: StepInputs,
        context: StepContext,
        where: StepPlace,
        draft: LayerDraft,
    ) -> BuildLayer | None:
        position, stack = context.position, context.stack
        began = time.monotonic()
        result = await prepared.run(draft)
        if result.exit_code:
            if self._options.keeps_failed_step:
                self.failed = FailedStep(
                    config=context.stage.state.config,
                    text=where.text,
                    stack=stack,
                    draft=draft,
                    result=result,
                )
            raise await self._failures.of_exit(position, prepared, result)
        if result.is_sealed:
            has_changes = result.sealed is not None
        else:
            has_changes = await self._workshop.settle(
                draft,
                stack,
                label=where.text,
                started_at_ns=result.started_at_ns,
                mounted_on=result.mounted_on,
            )
        seconds = time.monotonic() - began
        parent = stack[-1] if stack else None
        if not has_changes:
            self._state.finish(
                position, is_empty=True, exit_code=result.exit_code, warnings=result.warnings
            )
            self._spawn(self._record_empty(inputs, where, parent, seconds, position))
            return None
        if result.sealed is not None:
            same = await self._cache_sources.alike(draft.layer_directory, parent)
            if same is not None:
                return self._take(position, CacheHit(layer=same))
        layer = BuildLayer(draft.layer_directory)
        self._state.finish(position, exit_code=result.exit_code, warnings=result.warnings)
        self._spawn(self._publish(inputs, where, draft, layer, parent, seconds, position, result))
        return layer

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._publishing.add(task)
        task.add_done_callback(self._end_stages_after)

    def _end_stages_after(self, task: asyncio.Task[None]) -> None:
        """End every stage when a layer could not be made: what stands on it is for nothing."""
        if task.cancelled() or task.exception() is None:
            return
        for stage in self._stages:
            stage.cancel()

    async def _record_empty(
        self,
        inputs: StepInputs,
        where: StepPlace,
        parent: BuildLayer | None,
        seconds: float,
        position: int,
    ) -> None:
        try:
            parent_chain_id = None if parent is None else await parent.chain_id()
            await self._cache.record(
                inputs, where, parent_chain_id=parent_chain_id, layer=None, seconds=seconds
            )
        except EngineError as error:
            raise self._failures.of_error(position, error) from error

    async def _publish(
        self,
        inputs: StepInputs,
        where: StepPlace,
        draft: LayerDraft,
        layer: BuildLayer,
        parent: BuildLayer | None,
        seconds: float,
        position: int,
        result: StepResult,
    ) -> None:
        """Read a layer, put it into place, and record it; the next step runs meanwhile."""
        try:
            sealed = result.sealed or await self._workshop.digest(draft, label=where.text)
            earlier = await self._cache.earlier_result(inputs.digest, parent)
            async with self._lock.shared():
                record = await self._workshop.put_into_place(draft, layer, parent, sealed)
                await self._cache.record(
                    inputs,
                    where,
                    parent_chain_id=record.parent_chain_id,
                    layer=record,
                    seconds=seconds,
                )
            self._workshop.placed(layer, record.chain_id)
        except EngineError as error:
            failure = self._failures.of_error(position, error)
            layer.give_up(failure)
            raise failure from error
        except BaseException as error:
            layer.give_up(error)
            raise
        warnings: tuple[str, ...] = ()
        if earlier is not None and earlier != record.chain_id:
            warnings = await asyncio.to_thread(
                differences, layer_directory(self._config, earlier), layer.directory
            )
        self._state.finish(
            position,
            chain_id=record.chain_id,
            size_bytes=sealed.size_bytes,
            entry_count=sealed.entry_count,
            exit_code=result.exit_code,
            warnings=warnings,
        )


def _first_error(group: BaseExceptionGroup) -> BaseException:
    """What a person is told of several failures: the first that says something."""
    found: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            found.append(error)
    for kind in (BuildStepError, EngineError):
        for error in found:
            if isinstance(error, kind):
                return error
    return found[0]
