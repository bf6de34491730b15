"""Builds of an engine: those that run, and how others have ended."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from engine.build.builder import Builder
from engine.build.progress import BuildState
from engine.build.step_images import make_step_image
from engine.build.written_builds import WrittenBuilds
from engine.errors import (
    BuildNotFoundError,
    BuildStepError,
    EngineError,
    FileNotInLayerError,
)
from engine.images.catalog import layer_directory
from engine.oci.reference import parse_reference
from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.types import BuildStatus, BuildStepState, ImageId, ignore_build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from engine.build.builder import BuildServices
    from engine.types import (
        BuildEvent,
        BuildListener,
        BuildProgress,
        BuildRequest,
        BuildStep,
        BuiltImage,
        ChainId,
        FileContent,
        FileTree,
    )

_MOST_KEPT = 20
"""Ended builds whose logs stay."""


class BuildBoard:
    """Every build that this engine was asked for; the last ones with their logs."""

    def __init__(self, services: BuildServices) -> None:
        """Build with what an engine has."""
        self._services = services
        self._written = WrittenBuilds(services.images.config, services.records)
        self._builds: OrderedDict[str, BuildState] = OrderedDict()

    async def build(self, request: BuildRequest, listener: BuildListener) -> BuiltImage:
        """As EngineApi.build_image."""
        names = tuple(dict.fromkeys(parse_reference(name).familiar_name for name in request.names))
        state = BuildState(
            build_id=os.urandom(16).hex(),
            names=names,
            dockerfile=request.dockerfile or "Dockerfile",
            target=request.target,
            listener=listener,
        )
        self._builds[state.build_id] = state
        try:
            with self._services.lanes.in_use():
                async with self._written.following(state):
                    return await self._build(request, names, state)
        finally:
            self._forget_old()

    async def _build(
        self, request: BuildRequest, names: tuple[str, ...], state: BuildState
    ) -> BuiltImage:
        try:
            built = await Builder(self._services, request, names, state).build()
        except asyncio.CancelledError:
            state.end(BuildStatus.CANCELLED)
            raise
        except BuildStepError as error:
            state.end(
                BuildStatus.FAILED,
                error=error.message,
                hint=error.hint,
                failed_image_id=ImageId(error.failed_image_id) if error.failed_image_id else None,
            )
            raise
        except EngineError as error:
            state.end(BuildStatus.FAILED, error=error.message, hint=error.hint)
            raise
        except BaseException:
            state.end(BuildStatus.FAILED, error="the builder failed")
            raise
        state.end(BuildStatus.DONE, image_id=built.image_id)
        return built

    async def close(self) -> None:
        """End what waits for the next build."""
        await self._services.processes.close()

    async def plan(self, request: BuildRequest) -> BuildProgress:
        """As EngineApi.plan_build."""
        names = tuple(parse_reference(name).familiar_name for name in request.names)
        state = BuildState(
            build_id="",
            names=names,
            dockerfile=request.dockerfile or "Dockerfile",
            target=request.target,
            listener=ignore_build,
        )
        return await Builder(self._services, request, names, state).plan_only()

    def _forget_old(self) -> None:
        ended = [
            build_id
            for build_id, state in self._builds.items()
            if state.progress.status is not BuildStatus.RUNNING
        ]
        for build_id in ended[:-_MOST_KEPT]:
            del self._builds[build_id]

    # --- look ---------------------------------------------------------------------------------

    async def list(self, name: str = "") -> tuple[BuildProgress, ...]:
        """As EngineApi.list_builds."""
        found = await self._written.list(name)
        # What runs here is known better here.
        found |= {
            build_id: state.progress
            for build_id, state in self._builds.items()
            if state.progress.steps and (not name or name in state.progress.names)
        }
        return tuple(sorted(found.values(), key=lambda one: -one.started_at))

    async def follow(self, build_id: str) -> AsyncIterator[tuple[BuildEvent, ...]]:
        """As EngineApi.follow_build."""
        async for events in self._state(build_id).follow():
            yield events

    def read_log(self, build_id: str, position: int) -> bytes:
        """As EngineApi.read_step_log."""
        state = self._state(build_id)
        self._step(state, position)
        return state.log(position).read()

    def step_layer(self, build_id: str, position: int) -> tuple[BuildStep, ChainId | None]:
        """A step that has ended well, and what there is with it.

        Raises:
            BuildNotFoundError: There is none, or it has not.
        """
        state = self._state(build_id)
        step = self._step(state, position)
        if step.state not in {BuildStepState.DONE, BuildStepState.CACHED}:
            raise BuildNotFoundError(f"{build_id} (step {position})")
        return step, step.chain_id

    async def list_files(self, build_id: str, position: int) -> FileTree:
        """As EngineApi.list_step_files."""
        step, layers = await self._layers(build_id, position)
        return await asyncio.to_thread(_list_files, step, layers)

    async def read_file(self, build_id: str, position: int, path: str) -> FileContent:
        """As EngineApi.read_step_file."""
        from engine.snapshots.viewing import view_in_tree
        from engine.snapshots.writable import open_directory

        step, layers = await self._layers(build_id, position)
        label = f"the layer of {step.text}"
        missing = FileNotInLayerError(path, label, hint="The step may have removed it")
        if not layers:
            raise missing
        async with open_directory(layers[-1] / DIFF_NAME) as diff:
            runner = self._services.images.runner
            return await view_in_tree(runner, diff, path, missing=missing)

    async def make_image(self, build_id: str, position: int) -> ImageId:
        """As EngineApi.make_step_image."""
        step, chain_id = self.step_layer(build_id, position)
        config = self._state(build_id).configs[step.stage]
        return await make_step_image(self._services, chain_id, config, text=step.text)

    async def record_intermediate_images(self) -> None:
        """As EngineApi.record_intermediate_images."""
        from engine.build.intermediate_images import record_intermediate_images

        await record_intermediate_images(self._services)

    async def _layers(self, build_id: str, position: int) -> tuple[BuildStep, Sequence[Path]]:
        """A step with the directories of its layers, bottom first; its own is the last."""
        step, chain_id = self.step_layer(build_id, position)
        if chain_id is None:
            raise BuildNotFoundError(f"{build_id} (step {position} has no layer yet)")
        images = self._services.images
        found: Sequence[Path] = ()
        following: ChainId | None = chain_id
        while following is not None:
            record = await images.records.find_layer(following)
            if record is None:
                raise BuildNotFoundError(f"{build_id} (the layer of step {position} was removed)")
            found = (layer_directory(images.config, following), *found)
            following = record.parent_chain_id
        return step, found

    def _state(self, build_id: str) -> BuildState:
        found = self._builds.get(build_id)
        if found is None:
            raise BuildNotFoundError(build_id)
        return found

    def _step(self, state: BuildState, position: int) -> BuildStep:
        steps = state.progress.steps
        if not 0 <= position < len(steps):
            raise BuildNotFoundError(f"{state.build_id} (step {position})")
        return steps[position]


def _list_files(step: BuildStep, layers: Sequence[Path]) -> FileTree:
    # Loaded by who looks at files.
    from engine.snapshots.index import MergedTree, read_index
    from engine.types import FileTree

    if step.is_empty or not layers:
        return FileTree(title=step.text, entries=(), size_bytes=0)
    indexes = [read_index(str(directory / INDEX_NAME)) for directory in layers]
    tree = MergedTree.of(indexes[:-1])
    own = indexes[-1]
    return FileTree(title=step.text, entries=tree.compare(own), size_bytes=own.size_bytes)
