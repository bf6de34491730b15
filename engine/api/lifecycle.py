"""Calls that change a container that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.parts import EngineParts

if TYPE_CHECKING:
    from engine.types import ContainerUpdate


class LifecycleCalls(EngineParts):
    """`LifecycleApi` over the container operations."""

    async def update_container(self, reference: str, update: ContainerUpdate) -> tuple[str, ...]:
        """As EngineApi."""
        from engine.containers.update import update_container

        record = await self._containers.find(reference)
        return await update_container(self._services, record, update)
