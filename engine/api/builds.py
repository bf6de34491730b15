"""Calls about builds."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from engine.api.registry import RegistryCalls
from engine.types import BuildCacheFilter, ignore_build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api.build_lanes import BuildLanes
    from engine.build.builds import BuildBoard
    from engine.build.stored_cache import StoredCache
    from engine.types import (
        BuildCacheEntry,
        BuildEvent,
        BuildListener,
        BuildProgress,
        BuildRequest,
        BuiltImage,
        FileContent,
        FileTree,
        ImageId,
        PrunedBuildCache,
    )


class BuildCalls(RegistryCalls):
    """`BuildApi` over the builder."""

    @functools.cached_property
    def _builds(self) -> BuildBoard:
        # Loaded with the first build: a third of the engine is about nothing else.
        from engine.build.builder import BuildServices
        from engine.build.builds import BuildBoard
        from engine.build.layer_processes import LayerProcesses
        from engine.runtime.state_file import read_boot_id
        from engine.store.build_records import BuildRecords

        async def pull(reference: str) -> None:
            await self.pull_image(reference)

        return BuildBoard(
            BuildServices(
                images=self._images.building,
                records=BuildRecords(self._database, boot_id=read_boot_id()),
                lanes=self._lanes,
                processes=LayerProcesses(self._supervisor),
                pull=pull,
                is_rootless=self._services.is_rootless,
                snapshotter=self._services.snapshotter,
            )
        )

    @functools.cached_property
    def _lanes(self) -> BuildLanes:
        from engine.api.build_lanes import BuildLanes

        return BuildLanes(self._services, self._supervisor, self._network_records, self._report)

    async def _close_builds(self) -> None:
        """End what waits for the next build."""
        await self._close_lanes()
        if "_builds" in vars(self):
            await self._builds.close()

    async def _close_lanes(self) -> None:
        """Have nothing more made for the next build."""
        if "_lanes" in vars(self):
            await self._lanes.close()

    @functools.cached_property
    def _stored_cache(self) -> StoredCache:
        from engine.build.stored_cache import StoredCache
        from engine.runtime.state_file import read_boot_id
        from engine.store.build_records import BuildRecords

        return StoredCache(
            config=self._services.config,
            records=BuildRecords(self._database, boot_id=read_boot_id()),
            collector=self._images.building.collector,
            remove_tree=self._services.remove_tree,
        )

    async def build_image(
        self, request: BuildRequest, *, listener: BuildListener = ignore_build
    ) -> BuiltImage:
        """As EngineApi."""
        return await self._builds.build(request, listener)

    async def plan_build(self, request: BuildRequest) -> BuildProgress:
        """As EngineApi."""
        return await self._builds.plan(request)

    async def list_builds(self, name: str = "") -> tuple[BuildProgress, ...]:
        """As EngineApi."""
        return await self._builds.list(name)

    async def follow_build(self, build_id: str) -> AsyncIterator[tuple[BuildEvent, ...]]:
        """As EngineApi."""
        async for events in self._builds.follow(build_id):
            yield events

    async def read_step_log(self, build_id: str, position: int) -> bytes:
        """As EngineApi."""
        return self._builds.read_log(build_id, position)

    async def list_step_files(self, build_id: str, position: int) -> FileTree:
        """As EngineApi."""
        return await self._builds.list_files(build_id, position)

    async def read_step_file(self, build_id: str, position: int, path: str) -> FileContent:
        """As EngineApi."""
        return await self._builds.read_file(build_id, position, path)

    async def make_step_image(self, build_id: str, position: int) -> ImageId:
        """As EngineApi."""
        return await self._builds.make_image(build_id, position)

    async def record_intermediate_images(self) -> None:
        """As EngineApi."""
        await self._builds.record_intermediate_images()

    async def watch_context(
        self, request: BuildRequest, *, since: float | None = None
    ) -> AsyncIterator[tuple[str, ...]]:
        """As EngineApi."""
        from engine.build.watching import watch_context

        async for paths in watch_context(request, since=since):
            yield paths

    async def list_build_cache(self) -> tuple[BuildCacheEntry, ...]:
        """As EngineApi."""
        return await self._stored_cache.list()

    async def prune_build_cache(self, wanted: BuildCacheFilter) -> PrunedBuildCache:
        """As EngineApi."""
        return await self._stored_cache.prune(wanted)
