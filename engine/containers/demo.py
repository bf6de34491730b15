"""The demo's three containers, made and started, or started again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import ContainerNotFoundError, ContainerStateError, NameInUseError
from engine.operations import Progress
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.containers.manager import ContainerManager
    from engine.operations import ProgressListener
    from engine.types import ContainerRequest, ContainerSummary


async def start_demo_containers(
    containers: ContainerManager,
    requests: tuple[ContainerRequest, ...],
    *,
    progress: ProgressListener,
) -> tuple[ContainerSummary, ...]:
    """Make and start containers that have names; those that exist are kept, and started again.

    Returns:
        One for each request, in order.
    """
    found = []
    for done, request in enumerate(requests):
        progress(Progress(step=f"Starting {request.name}", done=done, total=len(requests)))
        name = request.name or ""
        try:
            details = await containers.inspect(name)
        except ContainerNotFoundError:
            # Another application may do the same at the same time.
            with contextlib.suppress(NameInUseError):
                await containers.create(request)
            details = await containers.inspect(name)
        if details.summary.status in {ContainerStatus.CREATED, ContainerStatus.EXITED}:
            with contextlib.suppress(ContainerStateError):
                await containers.start(name)
        elif details.summary.status is ContainerStatus.PAUSED:
            with contextlib.suppress(ContainerStateError):
                await containers.unpause(name)
        found.append((await containers.inspect(name)).summary)
    return tuple(found)
