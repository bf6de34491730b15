"""The networks of the fake engine: the real rules of names, addresses and modes, without links."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.networking import names_of, refuse_shared, without_removed
from engine.errors import (
    AttachmentError,
    InvalidInputError,
    NetworkInUseError,
    NetworkNotFoundError,
)
from engine.events import EventSubject
from engine.network.attachments import DISCONNECTED, check_attachment, network_warnings
from engine.network.planning import (
    DEFAULT_NETWORK,
    check_network_request,
    find_network,
    plan_network,
    plan_predefined,
)
from engine.types import (
    AttachmentRequest,
    ContainerDetails,
    ContainerRequest,
    ContainerSummary,
    CreatedContainer,
    HostFeature,
    Network,
    NetworkAttachment,
    NetworkDetails,
    NetworkMember,
    NetworkRequest,
    PrunedNetworks,
    PruneFilter,
    PublishedPort,
)
from tests.fake_containers import RUNNING
from tests.fake_volumes import FakeVolumes

if TYPE_CHECKING:
    from tests.fake_containers import FakeContainer


class FakeNetworks(FakeVolumes):
    """Networks by id; containers get addresses in the order in which they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.network_features = (
            HostFeature(name="network", is_available=True, detail="bridges and rules of nftables"),
        )
        self.networks = {one.network_id: one for one in plan_predefined((), ())}

    def _all_networks(self) -> tuple[Network, ...]:
        return tuple(sorted(self.networks.values(), key=lambda one: one.name))

    def _network(self, reference: str) -> Network:
        return find_network(self._all_networks(), reference)

    def _attachments(self, container: FakeContainer) -> tuple[AttachmentRequest, ...]:
        options = container.request.network
        if options.attachments or options.mode:
            return options.attachments
        return (AttachmentRequest(network=self._network(DEFAULT_NETWORK).network_id),)

    def _members(self, network: Network) -> tuple[NetworkMember, ...]:
        found = []
        for number, container in enumerate(self.containers.values(), 2):
            if container.summary.status not in RUNNING:
                continue
            for one in self._attachments(container):
                if one.network == network.network_id:
                    found.append(_member(network, container, one, number))
        return tuple(sorted(found, key=lambda one: one.container_name))

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        resolved = []
        for one in request.network.attachments:
            network = self._network(one.network)
            check_attachment(one, network)
            resolved.append(replace(one, network=network.network_id))
        options = replace(request.network, attachments=tuple(resolved))
        created = await super().create_container(replace(request, network=options))
        return replace(created, warnings=network_warnings(options))

    def _names(self, summary: ContainerSummary) -> ContainerSummary:
        names = {one.network_id: one.name for one in self.networks.values()}
        container = self.containers[summary.container_id]
        options = container.request.network
        is_running = summary.status in RUNNING
        image = self.images[summary.image_id].config if summary.image_id in self.images else None
        exposed = (*(image.exposed_ports if image else ()), *options.exposed_ports)
        return replace(
            summary,
            network_names=names_of(options, names),
            ports=_drawn(options.published_ports) if is_running else (),
            exposed_ports=tuple(text if "/" in text else f"{text}/tcp" for text in exposed),
        )

    def _given(self, container: FakeContainer) -> tuple[NetworkAttachment, ...]:
        """What a container has in its networks; nothing but their names unless it runs."""
        found = []
        is_running = container.summary.status in RUNNING
        asked = container.request.network.attachments
        for number, one in enumerate(self._attachments(container) if is_running else asked):
            network = self.networks.get(one.network)
            if network is None:
                continue
            members = self._members(network)
            has = next(
                (m for m in members if m.container_id == container.summary.container_id), None
            )
            found.append(
                NetworkAttachment(
                    network_id=network.network_id,
                    network_name=network.name,
                    ipv4_address=has.ipv4_address if has else "",
                    ipv4_gateway=_gateway(network, 4) if has else "",
                    ipv6_address=has.ipv6_address if has else "",
                    ipv6_gateway=_gateway(network, 6) if has else "",
                    mac_address=has.mac_address if has else "",
                    interface=f"eth{number}" if has else "",
                    aliases=one.aliases,
                )
            )
        return tuple(found)

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        return tuple(self._names(one) for one in await super().list_containers())

    async def inspect_container(self, reference: str) -> ContainerDetails:
        details = await super().inspect_container(reference)
        container = self.containers[details.summary.container_id]
        return replace(
            details,
            summary=self._names(details.summary),
            attachments=self._given(container),
        )

    async def list_networks(self) -> tuple[Network, ...]:
        return self._all_networks()

    async def inspect_network(self, reference: str) -> NetworkDetails:
        network = self._network(reference)
        return NetworkDetails(network=network, members=self._members(network))

    async def create_network(self, request: NetworkRequest) -> Network:
        await self._note("create_network", request.name)
        check_network_request(request)
        network_id = self._new_hexadecimal()
        made = plan_network(request, self._all_networks(), (), network_id=network_id)
        self.networks[network_id] = made
        self._emit(EventSubject.NETWORK, "create", network_id, made.name, type="bridge")
        return made

    async def remove_network(self, reference: str) -> None:
        await self._note("remove_network", reference)
        network = self._network(reference)
        if network.is_predefined:
            raise InvalidInputError(
                f"{network.name} is a pre-defined network and cannot be removed",
                hint="It costs nothing while no container is in it",
            )
        if members := self._members(network):
            raise NetworkInUseError(
                network.name,
                network.network_id,
                members=tuple((one.container_name, one.container_id) for one in members),
            )
        del self.networks[network.network_id]
        self._emit(EventSubject.NETWORK, "destroy", network.network_id, network.name, type="bridge")

    async def prune_networks(self, wanted: PruneFilter) -> PrunedNetworks:
        await self._note("prune", "networks")
        used = {
            one.network
            for container in self.containers.values()
            for one in self._attachments(container)
        }
        doomed = [
            network
            for network in self._all_networks()
            if not network.is_predefined
            and network.network_id not in used
            and wanted.means(created_at=network.created_at, labels=network.labels)
        ]
        for network in doomed:
            await self.remove_network(network.network_id)
        return PrunedNetworks(names=tuple(network.name for network in doomed))

    async def list_network_features(self) -> tuple[HostFeature, ...]:
        return self.network_features

    async def connect_network(self, container: str, request: AttachmentRequest) -> None:
        await self._note("connect_network", f"{request.network} {container}")
        network = self._network(request.network)
        found = self._find(container)
        refuse_shared(found.request.network.mode, network)
        attachments = self._attachments(found)
        if any(one.network == network.network_id for one in attachments):
            raise AttachmentError(
                f"endpoint with name {found.summary.name} already exists in network {network.name}"
            )
        check_attachment(request, network)
        added = replace(request, network=network.network_id)
        self._reconnect(found, (*attachments, added), mode="")
        self._emit(
            EventSubject.NETWORK, "connect", network.network_id, network.name,
            type="bridge", container=found.summary.container_id,
        )  # fmt: skip

    async def disconnect_network(
        self, container: str, network: str, *, is_forced: bool = False
    ) -> None:
        await self._note("disconnect_network", f"{network} {container}")
        found = self._find(container)
        try:
            left_network = self._network(network)
        except NetworkNotFoundError:
            options = without_removed(found.request.network, network)
            found.request = replace(found.request, network=options)
            return
        refuse_shared(found.request.network.mode, left_network)
        attachments = self._attachments(found)
        left = tuple(one for one in attachments if one.network != left_network.network_id)
        if left == attachments:
            if is_forced:
                return
            raise AttachmentError(
                f"container {found.summary.container_id} is not connected to network "
                f"{left_network.name}"
            )
        self._reconnect(found, left, mode="" if left else DISCONNECTED)
        self._emit(
            EventSubject.NETWORK, "disconnect", left_network.network_id, left_network.name,
            type="bridge", container=found.summary.container_id,
        )  # fmt: skip

    def _reconnect(
        self, container: FakeContainer, attachments: tuple[AttachmentRequest, ...], *, mode: str
    ) -> None:
        options = replace(container.request.network, attachments=attachments, mode=mode)
        container.request = replace(container.request, network=options)


def _drawn(ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    """As they are while the container runs: each with one port of the host's."""
    return tuple(
        replace(port, host_port=port.host_port or 49153 + number, host_port_end=0)
        for number, port in enumerate(ports)
    )


def _gateway(network: Network, version: int) -> str:
    if network.is_internal:
        return ""
    gateways = (ipaddress.ip_address(one.gateway) for one in network.subnets)
    return next((str(gateway) for gateway in gateways if gateway.version == version), "")


def _member(
    network: Network, container: FakeContainer, attachment: AttachmentRequest, number: int
) -> NetworkMember:
    addresses = {4: "", 6: ""}
    for one in network.subnets:
        subnet = ipaddress.ip_network(one.subnet)
        addresses[subnet.version] = f"{subnet[number]}/{subnet.prefixlen}"
    return NetworkMember(
        container_id=container.summary.container_id,
        container_name=container.summary.name,
        mac_address=attachment.mac_address or f"02:4c:00:00:00:{number:02x}",
        ipv4_address=attachment.ipv4_address or addresses[4],
        ipv6_address=attachment.ipv6_address or addresses[6],
        aliases=attachment.aliases,
    )
