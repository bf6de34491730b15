"""What can be asked about the store, its events and the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from engine.events import EventSubscription
    from engine.types import (
        DiskUsage,
        HostReport,
    )


class SystemApi(Protocol):
    """What can be asked about the store, its events and the host."""

    @property
    def host(self) -> HostReport:
        """What the host gives, found out once at start."""

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """Subscribe to the events of this store, also those that other processes make."""

    async def disk_usage(self) -> DiskUsage:
        """What the store occupies."""
