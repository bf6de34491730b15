"""What can be changed of a container that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.types import ContainerUpdate


class LifecycleApi(Protocol):
    """What can be changed of a container that exists."""

    async def update_container(self, reference: str, update: ContainerUpdate) -> tuple[str, ...]:
        """Change limits and restart policy, of one that runs at once; returns warnings.

        Raises:
            InvalidInputError: What is asked for contradicts itself or what the container has.
            EngineError: The kernel refused a limit; nothing is changed.
        """
