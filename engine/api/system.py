"""Calls about the store, its events and the host."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from engine.events import Event, EventSubscription
    from engine.types import DiskUsage, DiskUsageDetails, HostReport, StoreCheck

from engine.api.parts import EngineParts


class SystemCalls(EngineParts):
    """`SystemApi`."""

    @property
    def host(self) -> HostReport:
        """As EngineApi."""
        return self._report

    def follow_events(
        self, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[tuple[Event, ...]]:
        """As EngineApi."""
        from engine.store.event_history import follow_event_log

        path = self._services.config.events_path
        return follow_event_log(path, since_ns=since_ns, until_ns=until_ns)

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """As EngineApi."""
        return self._events.subscribe()

    async def check_store(
        self, *, repairs: bool = False, progress: ProgressListener = ignore_progress
    ) -> StoreCheck:
        """As EngineApi."""
        return await self._images.check(repairs=repairs, progress=progress)

    async def disk_usage_details(self) -> DiskUsageDetails:
        """As EngineApi."""
        from engine.types import ContainerUsage, DiskUsageDetails, VolumeUsage

        images = await self._images.usages()
        containers: list[ContainerUsage] = []
        for summary in await self._containers.list_summaries():
            # One that is removed meanwhile occupies nothing.
            with contextlib.suppress(EngineError):
                layer = await self._rootfs.measure(
                    await self._containers.find(summary.container_id)
                )
                containers.append(ContainerUsage(container=summary, size_bytes=layer.size_bytes))
        volumes: list[VolumeUsage] = []
        for volume in await self._volumes.list():
            with contextlib.suppress(EngineError):
                size_bytes = await self._volumes.measure(volume.name)
                volumes.append(VolumeUsage(volume=volume, size_bytes=size_bytes))
        _, blobs_bytes = await self._images.usage()
        return DiskUsageDetails(
            images=images.images,
            containers=tuple(containers),
            volumes=tuple(volumes),
            layers_bytes=images.layers_bytes,
            unused_layers_bytes=images.unused_layers_bytes,
            blobs_bytes=blobs_bytes,
            unused_blobs_bytes=images.unused_blobs_bytes,
        )

    async def disk_usage(self) -> DiskUsage:
        """As EngineApi."""
        from engine.types import DiskUsage

        layers_bytes, blobs_bytes = await self._images.usage()
        containers_bytes = 0
        for record in await self._services.table.list():
            # One that is removed meanwhile occupies nothing.
            with contextlib.suppress(EngineError):
                containers_bytes += (await self._rootfs.measure(record)).size_bytes
        return DiskUsage(
            layers_bytes=layers_bytes, containers_bytes=containers_bytes, blobs_bytes=blobs_bytes
        )
