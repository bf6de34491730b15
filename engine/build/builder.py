"""One build from its request to its image."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Protocol

from engine.build.bases import BaseFinder
from engine.build.cache import BuildCache
from engine.build.cache_mounts import CacheMounts
from engine.build.checks import check_dockerfile
from engine.build.context_opening import open_context
from engine.build.file_steps import FileSteps
from engine.build.graph import BuildGraph, SourceKind
from engine.build.images import BaseImage, describe_image
from engine.build.lanes import LanePool
from engine.build.layers import LayerWorkshop
from engine.build.parser import parse_dockerfile
from engine.build.plan import make_plan
from engine.build.preparing import RunOptions, StepPreparers
from engine.build.solver import Solver, SolverOptions
from engine.build.stage_state import environment_of
from engine.build.step_images import keep_failed_step
from engine.build.times import DEFAULT_EPOCH_SECONDS, build_times
from engine.build.warnings import parse_check_options
from engine.errors import (
    BuildStepError,
    FeatureUnavailableError,
    InvalidInputError,
    StoreError,
)
from engine.images.commits import sync_staging
from engine.late_dataclasses import dataclass
from engine.oci.documents import ConfigSection
from engine.oci.platforms import host_platform, parse_platform
from engine.operations import carry_through
from engine.types import BuildStepState, BuildWarning, BuiltImage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from engine.build.context_opening import OpenContext
    from engine.build.images import FinishedStage
    from engine.build.instructions import Dockerfile
    from engine.build.lanes import LaneMaker
    from engine.build.layer_processes import LayerProcesses
    from engine.build.plan import BuildPlan
    from engine.build.progress import BuildState
    from engine.build.times import BuildTimes
    from engine.config import EngineConfig
    from engine.images.archive_documents import NewImage
    from engine.images.building import BuildHold, BuildImages
    from engine.store.build_records import BuildRecords
    from engine.types import BuildProgress, BuildRequest


_LONGEST_SHOWN_LINE = 300


class ImagePull(Protocol):
    """Brings an image from a registry."""

    async def __call__(self, reference: str, /) -> None:
        """Have it in the store.

        Raises:
            EngineError: It does not come.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildServices:
    """What builds need of an engine.

    Attributes:
        snapshotter: How roots are put together here; builds need `overlay`.
    """

    images: BuildImages
    records: BuildRecords
    lanes: LaneMaker
    processes: LayerProcesses
    pull: ImagePull
    is_rootless: bool
    snapshotter: str


class Builder:
    """Makes one image."""

    def __init__(
        self,
        services: BuildServices,
        request: BuildRequest,
        names: tuple[str, ...],
        state: BuildState,
    ) -> None:
        """Prepare; nothing happens yet."""
        self._services = services
        self._request = request
        self._names = names
        self._state = state
        self._arguments = dict(request.arguments)

    async def plan_only(self) -> BuildProgress:
        """Say what would be done, as far as that is known without a registry."""
        self._check_request()
        async with (
            self._services.images.hold() as hold,
            open_context(self._request, hold.staging, self._config.root) as context,
        ):
            dockerfile, graph = await self._read(context)
            finder = BaseFinder(self._services, self._request, hold)
            bases = await finder.find_bases(graph, pulls=False)
            # Thousands of instructions take a while.
            plan = await asyncio.to_thread(self._make_plan, dockerfile, graph, bases)
            self._tell_plan(dockerfile, plan, context)
        return self._state.progress

    async def build(self) -> BuiltImage:
        """Build.

        Raises:
            EngineError: It failed; nothing of it is left but what the cache has.
        """
        self._check_request()
        if self._services.snapshotter != "overlay":
            raise FeatureUnavailableError(
                "building",
                "the store's file system cannot be used by overlay",
                remedy="Put the store on another file system with --root, such as ext4 or xfs",
            )
        async with self._services.images.hold() as hold:
            await self._services.records.forget_lost()
            async with open_context(self._request, hold.staging, self._config.root) as context:
                return await self._build(hold, context)

    async def _build(self, hold: BuildHold, context: OpenContext) -> BuiltImage:
        dockerfile, graph = await self._read(context)
        finder = BaseFinder(self._services, self._request, hold)
        bases = await finder.find_bases(graph, pulls=True)
        plan = await asyncio.to_thread(self._make_plan, dockerfile, graph, bases)
        cache_sources, warnings = await finder.cache_sources()
        self._tell_plan(dockerfile, plan, context, warnings)
        stacks = finder.stacks(tuple(bases.values()))
        stacks |= await finder.copied_images(graph)
        times = await asyncio.to_thread(build_times, self._request)
        epoch = times.latest_seconds
        cache = BuildCache(self._services.records, self._services.images.records, hold.catalog)
        async with contextlib.AsyncExitStack() as stack:
            workshop = LayerWorkshop(
                config=self._config,
                staging=hold.staging,
                process=await self._services.processes.borrow(
                    ("copy-files",) if plan.has_file_steps else ()
                ),
                lock=self._services.images.lock,
                mender=self._services.images.mender,
                epoch_seconds=epoch,
            )
            stack.push_async_callback(self._take_back, workshop, hold)
            stack.push_async_callback(_carried(workshop.close))
            lanes = LanePool(
                self._services.lanes,
                staging=hold.staging,
                extra_hosts=self._request.extra_hosts,
                ulimits=self._request.ulimits,
                shared_memory_bytes=self._request.shared_memory_bytes,
                step_count=plan.run_count,
            )
            stack.push_async_callback(_carried(lanes.close))
            files = FileSteps(
                context,
                workshop=workshop,
                runner=self._services.images.runner,
                named_contexts=self._request.named_contexts,
                epoch_seconds=epoch,
            )
            stack.callback(files.close)
            solver = Solver(
                plan,
                self._solver_options(context),
                config=self._config,
                state=self._state,
                cache=cache,
                cache_sources=cache_sources,
                workshop=workshop,
                preparer=StepPreparers(
                    self._run_options(epoch),
                    config=self._config,
                    state=self._state,
                    lanes=lanes,
                    workshop=workshop,
                    caches=CacheMounts(self._config.root, workshop.give_owners),
                    files=files,
                    is_rootless=self._services.is_rootless,
                ),
                image_stacks=stacks,
                lock=self._services.images.lock,
            )
            try:
                finished = await solver.solve(graph.target)
            except BuildStepError as error:
                if solver.failed is not None:
                    error.failed_image_id = await keep_failed_step(
                        self._services, hold, workshop, solver.failed
                    )
                raise
            return await carry_through(
                _beside(self._finish(hold, finished, cache, times), lanes.close(), workshop.close())
            )

    async def _take_back(self, workshop: LayerWorkshop, hold: BuildHold) -> None:
        """Take back what has its place and could not be recorded, as on a full disk."""
        if workshop.unrecorded:
            # What cannot be taken back is found by the next start.
            with contextlib.suppress(StoreError):
                collector = self._services.images.collector
                await carry_through(collector.take_unrecorded(hold.staging))

    @property
    def _config(self) -> EngineConfig:
        return self._services.images.config

    # --- what there is to do ------------------------------------------------------------------

    def _check_request(self) -> None:
        """Refuse what cannot be, before anything is read.

        Raises:
            InvalidInputError: Something cannot be.
        """
        request = self._request
        if request.platform:
            wanted, host = parse_platform(request.platform), host_platform()
            if (wanted.os, wanted.architecture) != (host.os, host.architecture):
                raise InvalidInputError(
                    f"{wanted} is not the platform of this host ({host}), and programs of it "
                    "cannot run here",
                    hint="Leave --platform out, or build on a host of that platform",
                )
        if request.network not in {"", "default", "none", "host"}:
            raise InvalidInputError(
                f'network mode "{request.network}" not supported by builds',
                hint="--network takes default, none or host",
            )

    async def _read(self, context: OpenContext) -> tuple[Dockerfile, BuildGraph]:
        content = context.dockerfile
        dockerfile = await asyncio.to_thread(
            parse_dockerfile, content, name=context.dockerfile_name
        )
        graph = BuildGraph(
            dockerfile,
            target=self._request.target,
            build_arguments=self._arguments,
            named_contexts=[one.name for one in self._request.named_contexts],
        )
        return dockerfile, graph

    def _make_plan(
        self, dockerfile: Dockerfile, graph: BuildGraph, bases: dict[int, BaseImage]
    ) -> BuildPlan:
        return make_plan(dockerfile, graph, bases, self._arguments, squashes=self._request.squashes)

    def _tell_plan(
        self,
        dockerfile: Dockerfile,
        plan: BuildPlan,
        context: OpenContext,
        warnings_before: Sequence[BuildWarning] = (),
    ) -> None:
        environments = {
            number: environment_of(stage.base.document.config or ConfigSection())
            for number, stage in plan.stages.items()
        }
        platforms = {
            number: stage.base.document.platform
            for number, stage in plan.stages.items()
            if stage.node.base.kind is not SourceKind.STAGE and stage.base.document.architecture
        }
        warnings = [
            BuildWarning(
                rule=one.rule,
                text=one.text,
                line=one.span.start.line,
                column=one.span.start.column,
                source=dockerfile.lines[one.span.start.line - 1][:_LONGEST_SHOWN_LINE],
            )
            for one in check_dockerfile(
                dockerfile,
                build_arguments=self._arguments,
                base_environment=lambda stage: environments.get(stage.index),
                base_platform=lambda stage: platforms.get(stage.index),
                is_ignored=None if context.tree is None else context.tree.is_ignored,
            )
        ]
        warnings += warnings_before
        if plan.unused_arguments:
            names = " ".join(plan.unused_arguments)
            warnings.append(
                BuildWarning(rule="", text=f"One or more build-args [{names}] were not consumed")
            )
        self._state.configs = {stage.position: stage.state.config for stage in plan.stages.values()}
        self._state.plan(stages=plan.shown_stages, steps=plan.shown_steps, warnings=tuple(warnings))
        broken = dict.fromkeys(one.rule for one in warnings if one.rule)
        if broken and parse_check_options(dockerfile).is_error:
            raise InvalidInputError(
                f"lint violation found for rules: {', '.join(broken)}",
                hint="`# check=error=true` in the Dockerfile makes errors of them",
            )

    # --- how ----------------------------------------------------------------------------------

    def _solver_options(self, context: OpenContext) -> SolverOptions:
        request = self._request
        return SolverOptions(
            dockerfile=context.dockerfile_name,
            place=f"{context.label} {context.dockerfile_name}",
            uses_cache=request.uses_cache,
            uncached_stages=frozenset(name.lower() for name in request.uncached_stages),
            most_parallel_steps=request.most_parallel_steps or os.cpu_count() or 1,
            keeps_failed_step=request.keeps_failed_step,
        )

    def _run_options(self, epoch: int | None) -> RunOptions:
        request = self._request
        network = request.network if request.network not in {"", "default"} else "default"
        environment = () if epoch is None else (f"SOURCE_DATE_EPOCH={epoch}",)
        return RunOptions(
            network=network,
            extra_hosts=request.extra_hosts,
            environment=environment,
            epoch=() if epoch == DEFAULT_EPOCH_SECONDS else (("epoch", str(epoch).lower()),),
            secrets={one.secret_id: one for one in request.secrets},
            ssh={one.ssh_id: one for one in request.ssh},
        )

    # --- the image ----------------------------------------------------------------------------

    async def _finish(
        self,
        hold: BuildHold,
        finished: FinishedStage,
        cache: BuildCache,
        times: BuildTimes,
    ) -> BuiltImage:
        """Write what is there to the disk, and then record the image."""
        seconds = times.created_seconds
        created_at = time.time() if seconds is None else float(seconds)
        image = await asyncio.to_thread(
            describe_image,
            finished,
            names=self._names,
            labels=self._request.labels,
            created_at=created_at,
        )
        chain_ids = [layer.known_chain_id for layer in finished.layers]
        unsynced = await self._services.records.unsynced(chain_ids)
        if unsynced:
            await asyncio.to_thread(sync_staging, self._config.layers_directory)
        if not await self._is_recorded(image):
            await hold.catalog.keep((image.image_id, image.manifest_digest))
            await hold.catalog.publish((image,), ())
        await cache.note_uses(synced=unsynced)
        steps = self._state.progress.steps
        return BuiltImage(
            build_id=self._state.build_id,
            image_id=image.image_id,
            names=self._names,
            size_bytes=sum(layer.size_bytes for layer in finished.layers),
            step_count=len(steps),
            cached_count=sum(step.state is BuildStepState.CACHED for step in steps),
            warnings=self._state.progress.warnings,
        )

    async def _is_recorded(self, image: NewImage) -> bool:
        """Whether the image is here already, and has its names."""
        records = self._services.images.records
        names = await records.names_of(image.image_id)
        if not set(image.names) <= set(names):
            return False
        return await records.find(image.image_id) is not None


async def _beside(
    work: Coroutine[object, object, BuiltImage], *closing: Coroutine[object, object, None]
) -> BuiltImage:
    """Do work while what it does not need is closed; all of it has ended after this."""
    outcome, *ends = await asyncio.gather(work, *closing, return_exceptions=True)
    for end in (outcome, *ends):
        if isinstance(end, BaseException):
            raise end
    assert isinstance(outcome, BuiltImage)
    return outcome


def _carried(close: Callable[[], Coroutine[object, object, None]]) -> Callable[[], Awaitable[None]]:
    """Closing that a cancellation waits for."""

    async def carried() -> None:
        await carry_through(close())

    return carried
