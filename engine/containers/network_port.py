"""What container operations need of networks; `engine.network.library` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.types import Network, NetworkRequest


class ContainerNetworks(Protocol):
    """Finds networks for containers, and keeps them while one starts."""

    async def list(self) -> tuple[Network, ...]:
        """Every network, by name."""

    async def known(self) -> tuple[Network, ...]:
        """As `list`, but none are made for this look."""

    async def find(self, reference: str, /) -> Network:
        """One network, by id, name or the beginning of an id.

        Raises:
            NetworkNotFoundError: There is none.
            AmbiguousReferenceError: The beginning matches several.
        """

    async def create(self, request: NetworkRequest, /) -> Network:
        """Make a network.

        Raises:
            NetworkNameInUseError: There is one of this name.
            InvalidInputError: It cannot be.
        """

    async def delete(self, network: Network, /) -> None:
        """Forget a network that the caller has for itself, and remove what it has on the host.

        Raises:
            NetworkNotFoundError: Somebody else was faster.
        """

    def exclusively(self, network: Network, /) -> AbstractAsyncContextManager[None]:
        """Let nobody start in a network or remove it while the block lasts."""

    async def addresses(self, network: Network, /) -> dict[str, tuple[str, ...]]:
        """Who has which addresses in a network, by container id."""

    async def release(self, container_id: str, network: Network, /) -> None:
        """Take a container's addresses in a network back."""
