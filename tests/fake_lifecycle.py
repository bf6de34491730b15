"""What the fake engine changes of containers that exist."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.limits import effective_limits
from engine.containers.state_table import Operation
from engine.containers.update import updated
from engine.errors import InvalidInputError
from engine.events import EventSubject
from engine.types import ContainerUpdate
from tests.fake_containers import FakeContainers

if TYPE_CHECKING:
    from engine.types import ContainerHealth


class FakeLifecycle(FakeContainers):
    def set_health(self, reference: str, health: ContainerHealth) -> None:
        """Let a container's health be found out."""
        container = self._find(reference)
        container.health = health
        container.summary = replace(container.summary, health=health.status)
        summary = container.summary
        action = f"health_status: {health.status}"
        self._emit(EventSubject.CONTAINER, action, summary.container_id, summary.name)

    async def update_container(self, reference: str, update: ContainerUpdate) -> tuple[str, ...]:
        if update == ContainerUpdate():
            raise InvalidInputError("you must provide one or more flags when using this command")
        container = self._find(reference)
        await self._note("update", container.summary.name)
        self._check(Operation.UPDATE, container)
        summary = container.summary
        limits, policy = updated(
            update,
            container_id=container.summary.container_id,
            limits=effective_limits(container.request.limits),
            restart_policy=container.request.restart_policy,
            is_removed_on_exit=container.request.is_removed_on_exit,
        )
        container.request = replace(container.request, limits=limits, restart_policy=policy)
        self._emit(EventSubject.CONTAINER, "update", summary.container_id, summary.name)
        return ()
