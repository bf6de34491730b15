"""What container operations need of networks; `engine.network` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.network.attaching import HeldNetwork, WantedNetwork
    from engine.runtime.spec import NetworkSpec
    from engine.types import HostFeature, Network, NetworkRequest


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
        """Forget a network that the caller has for itself.

        Raises:
            NetworkNotFoundError: Somebody else was faster.
        """

    def exclusively(self, network: Network, /) -> AbstractAsyncContextManager[None]:
        """Let nobody start in a network or remove it while the block lasts."""

    async def release(self, container_id: str, network: Network, /) -> None:
        """Take a container's addresses in a network back."""


class HostNetworks(Protocol):
    """Has ready on the host what containers need there, and removes what they leave."""

    def hold(self, wanted: WantedNetwork, /) -> AbstractAsyncContextManager[HeldNetwork]:
        """Have a container's networks, addresses and ports ready while it is started in the block.

        Raises:
            NetworkNotFoundError: A network was removed.
            ConflictError: An address or a port is in use.
            FeatureUnavailableError: The host cannot give it any network that was asked for.
        """

    def hold_more(
        self, wanted: WantedNetwork, has: NetworkSpec, network: Network, /
    ) -> AbstractAsyncContextManager[NetworkSpec]:
        """Have one more network ready for a container that runs: what it is to have with it.

        Raises:
            ConflictError: An address is in use.
            FeatureUnavailableError: The host cannot give it.
        """

    async def without(self, has: NetworkSpec, network: Network, /) -> NetworkSpec:
        """What a container that runs is to have when it is taken out of a network."""

    async def publish(self, wanted: WantedNetwork, spec: NetworkSpec, /) -> None:
        """Let a container that runs see its networks and be found in them as they are now.

        Raises:
            StoreError: The file system is full.
        """

    async def sweep(self) -> None:
        """Remove what ended containers left on the host."""

    def forget(self, container_id: str, /) -> None:
        """Remove rules and names of a container, for the holder of its monitor's lock; blocking."""

    async def features(self) -> tuple[HostFeature, ...]:
        """What the host gives networks."""

    async def conditions(self, network: Network, /) -> tuple[str, ...]:
        """What of the host keeps a network from working, one sentence each."""

    async def remove(self, network: Network, /) -> None:
        """Remove what a network has on the host, for who has it exclusively."""
