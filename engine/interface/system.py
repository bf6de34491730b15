"""What can be asked about the store, its events and the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from engine.events import Event, EventSubscription
    from engine.types import (
        DiskUsage,
        DiskUsageDetails,
        HostReport,
        StoreCheck,
    )


class SystemApi(Protocol):
    """What can be asked about the store, its events and the host."""

    @property
    def host(self) -> HostReport:
        """What the host gives, found out once at start."""

    def follow_events(
        self, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[tuple[Event, ...]]:
        """Yield events in batches, those of the past first, then as they happen.

        None is missed and none comes twice, however slow the reader is. Times are since the
        epoch. Without `since_ns` it begins now, or with `until_ns` at the oldest that is kept
        (the log keeps the last 16 to 32 MB). It ends when `until_ns` has come, else never.
        """

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """Subscribe to the events of this store, also those that other processes make."""

    async def check_store(
        self, *, repairs: bool = False, progress: ProgressListener = ignore_progress
    ) -> StoreCheck:
        """Read and verify every image, blob and layer of the store; nobody waits for that.

        With `repairs` also put right what can be: what is left over goes, what has another copy
        is made of it, and a layer that has none counts as missing, so that loading or pulling its
        image brings it again. Cancelling keeps what was repaired until then.
        """

    async def disk_usage_details(self) -> DiskUsageDetails:
        """What each thing in the store occupies; a walk over writable layers and volumes."""

    async def disk_usage(self) -> DiskUsage:
        """What the store occupies."""
