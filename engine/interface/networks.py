"""What can be asked about networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.types import (
        AttachmentRequest,
        HostFeature,
        Network,
        NetworkDetails,
        NetworkRequest,
        PrunedNetworks,
        PruneFilter,
    )


class NetworkApi(Protocol):
    """What can be asked about networks. A reference is a name, an id or the beginning of one."""

    async def list_networks(self) -> tuple[Network, ...]:
        """Every network, by name; `bridge`, `host` and `none` are always among them."""

    async def inspect_network(self, reference: str) -> NetworkDetails:
        """One network with its members.

        Raises:
            NetworkNotFoundError: There is none.
            AmbiguousReferenceError: The beginning of an id matches several.
        """

    async def create_network(self, request: NetworkRequest) -> Network:
        """Make a network; its device appears when a container is first started in it.

        Raises:
            NetworkNameInUseError: There is one of this name.
            InvalidInputError: What is asked for makes no sense, or overlaps another network.
        """

    async def remove_network(self, reference: str) -> None:
        """Remove a network and its device.

        Raises:
            NetworkNotFoundError: There is none.
            NetworkInUseError: A container that runs is in it.
            InvalidInputError: It is one of those that are always there.
        """

    async def prune_networks(self, wanted: PruneFilter) -> PrunedNetworks:
        """Remove every network that no container is to be in, running or not."""

    async def list_network_features(self) -> tuple[HostFeature, ...]:
        """What the host gives networks, and what it does not with a remedy; looked at now."""

    async def connect_network(self, container: str, request: AttachmentRequest) -> None:
        """Put a container into a network; one that runs gets the device at once.

        Raises:
            NetworkNotFoundError: There is no such network.
            ContainerNotFoundError: There is no such container.
            ConflictError: It is in this network already, or shares another's network.
        """

    async def disconnect_network(
        self, container: str, network: str, *, is_forced: bool = False
    ) -> None:
        """Take a container out of a network; forced: one that is not in it is no error.

        A network that was removed meanwhile is named by its id.

        Raises:
            NetworkNotFoundError: There is no such network.
            ContainerNotFoundError: There is no such container.
            ConflictError: It is not in this network, or shares another's network.
        """
