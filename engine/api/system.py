"""Calls about the store, its events and the host."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.store.event_history import follow_event_log
from engine.types import DiskUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from engine.events import Event, EventSubscription
    from engine.types import (
        HostReport,
    )

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
        path = self._services.config.events_path
        return follow_event_log(path, since_ns=since_ns, until_ns=until_ns)

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """As EngineApi."""
        return self._events.subscribe()

    async def disk_usage(self) -> DiskUsage:
        """As EngineApi."""
        layers_bytes, blobs_bytes = await self._images.usage()
        containers_bytes = 0
        for record in await self._services.table.list():
            # One that is removed meanwhile occupies nothing.
            with contextlib.suppress(EngineError):
                containers_bytes += (await self._rootfs.measure(record)).size_bytes
        return DiskUsage(
            layers_bytes=layers_bytes, containers_bytes=containers_bytes, blobs_bytes=blobs_bytes
        )
