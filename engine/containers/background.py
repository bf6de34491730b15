"""What an open engine does about containers on its own, as events and lost monitors come."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from engine.containers.removal import remove_after_exit, sweep_containers
from engine.containers.watch import MonitorWatch
from engine.errors import EngineError
from engine.events import EventsDropped, EventSubject

if TYPE_CHECKING:
    from engine.containers.services import ContainerServices
    from engine.events import EventBus


async def tend_containers(services: ContainerServices, events: EventBus) -> None:
    """Follow the events of the store until cancelled.

    Containers that are to be removed when they have ended are removed, whichever application
    started them, and a monitor that is killed is noticed at once.
    """
    watch = MonitorWatch(services)
    try:
        with events.subscribe() as subscription:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run())
                await watch.follow_all()
                async for event in subscription:
                    if isinstance(event, EventsDropped):
                        await watch.follow_all()
                        tasks.create_task(_quietly_sweep(services))
                    elif event.subject is not EventSubject.CONTAINER:
                        continue
                    elif event.action == "start":
                        await watch.follow(event.subject_id)
                    elif event.action == "die":
                        tasks.create_task(_quietly_remove(services, event.subject_id))
    finally:
        watch.close()


async def _quietly_remove(services: ContainerServices, container_id: str) -> None:
    # What cannot be removed now is dead with a reason, or found by the sweep of the next start.
    with contextlib.suppress(EngineError):
        await remove_after_exit(services, container_id)


async def _quietly_sweep(services: ContainerServices) -> None:
    with contextlib.suppress(EngineError):
        await sweep_containers(services)
