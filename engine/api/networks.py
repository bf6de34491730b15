"""Calls about networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api.parts import EngineParts
from engine.containers import networking

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


class NetworkCalls(EngineParts):
    """`NetworkApi`."""

    async def list_networks(self) -> tuple[Network, ...]:
        """As EngineApi."""
        return await self._services.networks.list()

    async def inspect_network(self, reference: str) -> NetworkDetails:
        """As EngineApi."""
        return await networking.inspect_network(self._services, reference)

    async def create_network(self, request: NetworkRequest) -> Network:
        """As EngineApi."""
        return await networking.create_network(self._services, request)

    async def remove_network(self, reference: str) -> None:
        """As EngineApi."""
        await networking.remove_network(self._services, reference)

    async def prune_networks(self, wanted: PruneFilter) -> PrunedNetworks:
        """As EngineApi."""
        return await networking.prune_networks(self._services, wanted)

    async def list_network_features(self) -> tuple[HostFeature, ...]:
        """As EngineApi."""
        return await self._services.attacher.features()

    async def connect_network(self, container: str, request: AttachmentRequest) -> None:
        """As EngineApi."""
        await networking.connect_network(self._services, container, request)

    async def disconnect_network(
        self, container: str, network: str, *, is_forced: bool = False
    ) -> None:
        """As EngineApi."""
        await networking.disconnect_network(self._services, container, network, is_forced=is_forced)
