"""What each kind of step is made of, and how it is done."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from typing import TYPE_CHECKING

from engine.build.keys import StepInputs
from engine.build.run_mounts import (
    BoundTree,
    MountSources,
    mount_key,
    prepare_mounts,
    script_key,
)
from engine.build.run_step import StepMounts, StepProgram, run_program, step_spec
from engine.build.solver import StepResult
from engine.build.squash_step import PreparedSquash
from engine.build.steps import CopyStep, RunStep
from engine.errors import FeatureUnavailableError, InvalidInputError, StartError
from engine.late_dataclasses import dataclass
from engine.oci.platforms import host_platform
from engine.operations import carry_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from engine.build.cache_mounts import CacheMounts
    from engine.build.file_steps import FileSteps
    from engine.build.lanes import LanePool, OpenLane
    from engine.build.layers import LayerDraft, LayerStack, LayerWorkshop
    from engine.build.progress import BuildState
    from engine.build.solver import PreparedStep, StepContext
    from engine.build.steps import StageStep
    from engine.config import EngineConfig
    from engine.types import BuildSecret, BuildSsh, OutputStream

_START_FAILURES = {126, 127}
_MOST_MOUNTED_LAYERS = 500
"""The kernel's OVL_MAX_STACK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a request says of every RUN.

    Attributes:
        network: Instead of `default`.
        environment: What every program sees, and no key.
        epoch: The latest time of files, for keys, if it is not the one that all builds have.
    """

    network: str
    extra_hosts: tuple[tuple[str, str], ...]
    environment: tuple[str, ...]
    epoch: tuple[tuple[str, str], ...]
    secrets: Mapping[str, BuildSecret]
    ssh: Mapping[str, BuildSsh]


class StepPreparers:
    """Knows every kind of step."""

    def __init__(
        self,
        options: RunOptions,
        *,
        config: EngineConfig,
        state: BuildState,
        lanes: LanePool,
        workshop: LayerWorkshop,
        caches: CacheMounts,
        files: FileSteps,
        is_rootless: bool,
    ) -> None:
        """Prepare the steps of one build."""
        self.options = options
        self.config = config
        self.state = state
        self.lanes = lanes
        self.workshop = workshop
        self.caches = caches
        self.files = files
        self.is_rootless = is_rootless

    async def prepare(self, step: StageStep, context: StepContext) -> PreparedStep:
        """As StepPreparer."""
        if not isinstance(step, RunStep):
            if isinstance(step, CopyStep):
                return await self.files.prepare_copy(step, context)
            return await self.files.prepare_workdir(step, context)
        if step.is_privileged:
            raise FeatureUnavailableError(
                "--security=insecure",
                "steps of a build run as containers without privileges",
                remedy="Leave it out, or run what needs it with `lamella run --privileged`",
            )
        trees: dict[int, BoundTree] = {}
        for number, mount in enumerate(step.mounts):
            if mount.kind == "bind":
                trees[number] = await self.files.bound_tree(mount, context)
        return PreparedRun(self, step, context, trees)

    async def prepare_squash(self, layers: LayerStack, context: StepContext) -> PreparedStep:
        """As StepPreparer."""
        return PreparedSquash(
            self.workshop,
            context,
            layers,
            top=await layers[-1].chain_id(),
            uses_user_xattrs=self.is_rootless,
        )


class PreparedRun:
    """RUN."""

    def __init__(
        self,
        preparers: StepPreparers,
        step: RunStep,
        context: StepContext,
        trees: Mapping[int, BoundTree],
    ) -> None:
        self._preparers = preparers
        self._step = step
        self._context = context
        self._trees = trees
        options = preparers.options
        self._network = step.network if step.network != "default" else options.network
        self.inputs = StepInputs(
            kind="RUN",
            arguments=step.arguments,
            environment=tuple(sorted(step.environment)),
            user=step.user,
            working_directory=step.working_directory,
            network=self._network,
            platform=str(host_platform()),
            mounts=tuple(
                mount_key(step, mount, trees[number].digest if number in trees else "")
                for number, mount in enumerate(step.mounts)
            ),
            options=tuple(
                sorted(
                    (
                        *script_key(step),
                        *options.epoch,
                        *((f"host {name}", address) for name, address in options.extra_hosts),
                    )
                )
            ),
        )

    async def listed_inputs(self) -> StepInputs:
        """As PreparedStep: it has no files of its own."""
        return self.inputs

    def skip(self) -> None:
        """As PreparedStep."""
        self._preparers.lanes.skip()

    def warm_up(self) -> None:
        """As PreparedStep."""
        self._preparers.lanes.warm_up(self._network)

    async def run(self, draft: LayerDraft) -> StepResult:
        """As PreparedStep."""
        preparers = self._preparers
        # One more holds the places of mounts.
        if len(self._context.stack) + 1 >= _MOST_MOUNTED_LAYERS:
            raise InvalidInputError(
                f"max depth exceeded: the step stands on {len(self._context.stack)} layers",
                hint="Join instructions with &&, or take fewer layers from the base with --squash",
            )
        async with (
            preparers.caches.hold(self._step) as caches,
            preparers.lanes.lane(self._network) as opened,
            self._mounts(opened, draft, caches.paths) as mounts,
        ):
            not_given = await preparers.workshop.give_owners(mounts.owned)
            program = StepProgram(
                step=self._step,
                mounts=mounts,
                extra_environment=preparers.options.environment,
                is_last=not preparers.lanes.has_more_steps,
            )
            started_at_ns = time.time_ns()
            async with preparers.workshop.places.reading_until() as let_go:
                spec = step_spec(program, opened, draft, self._context.stack)
                try:
                    end = await run_program(opened, spec, self._tell, on_start=let_go)
                except StartError as error:
                    if error.exit_code not in _START_FAILURES:
                        raise
                    # As a shell would: the program ran, and this is how it ended.
                    self._tell_text(f"{error.message}\n")
                    return StepResult(exit_code=error.exit_code, warnings=opened.limitations)
        warnings = (*opened.warnings, *caches.warnings, *not_given, *end.warnings)
        if end.exit_code:
            warnings = (*warnings, *opened.limitations)
        if end.is_out_of_memory_killed:
            warnings = (*warnings, "the kernel killed a process of it for want of memory")
        return StepResult(
            exit_code=end.exit_code,
            started_at_ns=started_at_ns,
            mounted_on=mounts.places,
            warnings=warnings,
        )

    @contextlib.asynccontextmanager
    async def _mounts(
        self, opened: OpenLane, draft: LayerDraft, cache_paths: Mapping[int, Path]
    ) -> AsyncIterator[StepMounts]:
        """Have what is mounted while the step runs, for a block."""
        if not self._step.mounts and not self._step.scripts:
            yield StepMounts()
            return
        preparers = self._preparers
        private = preparers.config.container_run_directory(opened.lane_id) / "step"
        directory = draft.directory / "mounts"
        try:
            await carry_through(asyncio.to_thread(_make_directories, directory, private))
            yield await asyncio.to_thread(
                prepare_mounts,
                self._step,
                MountSources(
                    trees=self._trees,
                    caches=cache_paths,
                    secrets=preparers.options.secrets,
                    ssh=preparers.options.ssh,
                    directory=directory,
                    private_directory=private,
                    is_rootless=preparers.is_rootless,
                ),
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, private, ignore_errors=True)

    def _tell(self, stream: OutputStream, data: bytes) -> None:
        self._preparers.state.write(self._context.position, stream, data)

    def _tell_text(self, text: str) -> None:
        from engine.types import OutputStream

        self._tell(OutputStream.STDERR, text.encode("utf-8", "surrogateescape"))


def _make_directories(*directories: Path) -> None:
    for directory in directories:
        directory.mkdir(mode=0o700)
