"""Removing the containers that do not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.containers.states import LIVE_STATUSES
from engine.errors import ContainerStateError, NotFoundError
from engine.types import ContainerStatus, PrunedContainers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.containers.manager import ContainerManager
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.types import ContainerId, PruneFilter, WritableLayer


async def prune_containers(
    services: ContainerServices,
    manager: ContainerManager,
    wanted: PruneFilter,
    *,
    measure: Callable[[ContainerRecord], Awaitable[WritableLayer]],
) -> PrunedContainers:
    """Remove every container that the filter means and that does not run, oldest last.

    What is started or removed by somebody else meanwhile is left to them.
    """
    removed: list[ContainerId] = []
    freed_bytes = 0
    for summary in await manager.list_summaries():
        if summary.status in LIVE_STATUSES or summary.status is ContainerStatus.REMOVING:
            continue
        if not wanted.means(created_at=summary.created_at, labels=summary.labels):
            continue
        record = await services.table.get(summary.container_id)
        if record is None:
            continue
        try:
            size_bytes = (await measure(record)).size_bytes
            await manager.remove(summary.container_id, is_forced=False, removes_volumes=False)
        except (ContainerStateError, NotFoundError):
            continue
        removed.append(summary.container_id)
        freed_bytes += size_bytes
    return PrunedContainers(container_ids=tuple(removed), freed_bytes=freed_bytes)
