"""Which containers are in which networks, and what can be done with networks because of that."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from engine.containers.lifecycle import (
    exclusively,
)
from engine.containers.network_changes import connect, disconnect
from engine.containers.states import LIVE_STATUSES, status_of
from engine.errors import (
    AttachmentError,
    InvalidInputError,
    NetworkInUseError,
    NetworkNotFoundError,
)
from engine.events import Event, EventSubject
from engine.network.attachments import (
    DISCONNECTED,
    HOST,
    JOIN,
    check_attachment,
    is_shared_mode,
)
from engine.network.planning import DEFAULT_NETWORK
from engine.operations import carry_through
from engine.runtime.user_network import user_addresses
from engine.store.event_log import append_event
from engine.types import (
    AttachmentRequest,
    NetworkAttachment,
    NetworkDetails,
    NetworkDriver,
    NetworkMember,
    PrunedNetworks,
    PublishedPort,
    UserNetwork,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import InterfaceSpec, NetworkSpec
    from engine.types import (
        Network,
        NetworkOptions,
        NetworkRequest,
        PruneFilter,
    )


async def resolve_attachments(
    services: ContainerServices, options: NetworkOptions
) -> NetworkOptions:
    """Put ids in the place of names, which may be given to others later.

    Raises:
        NetworkNotFoundError: There is no such network.
        ContainerNotFoundError: There is no such container to share the network of.
        InvalidInputError: A network cannot give what is asked of it.
    """
    if options.mode.startswith(JOIN):
        owner = await services.table.find(options.mode.removeprefix(JOIN))
        return replace(options, mode=f"{JOIN}{owner.container_id}")
    resolved: dict[str, AttachmentRequest] = {}
    for request in options.attachments:
        network = await services.networks.find(request.network)
        if network.driver is not NetworkDriver.BRIDGE:
            raise InvalidInputError(
                "conflicting options: cannot attach both user-defined and non-user-defined "
                "network-modes"
            )
        check_attachment(request, network)
        if network.network_id in resolved:
            raise InvalidInputError(f"network {network.name} is given twice")
        resolved[network.network_id] = replace(request, network=network.network_id)
    return replace(options, attachments=tuple(resolved.values()))


async def network_names(
    services: ContainerServices, records: Iterable[ContainerRecord]
) -> dict[str, str]:
    """The names of networks that containers are to be in, by id; none are looked up for none."""
    if all(record.network.mode for record in records):
        return {}
    return {one.network_id: one.name for one in await services.networks.known()}


def names_of(options: NetworkOptions, names: Mapping[str, str]) -> tuple[str, ...]:
    """How people call the networks of a container."""
    if options.mode:
        return () if options.mode == DISCONNECTED else (options.mode,)
    if not options.attachments:
        return (DEFAULT_NETWORK,)
    return tuple(names.get(one.network, one.network[:12]) for one in options.attachments)


def attachments_of(
    options: NetworkOptions, network: NetworkSpec, names: Mapping[str, str]
) -> tuple[NetworkAttachment, ...]:
    """The networks of a container; while it runs with what it has in them."""
    asked = {one.network: one for one in options.attachments}
    live = {one.network_id: one for one in network.interfaces}
    found = []
    for network_id in {**asked, **live}:
        interface = live.get(network_id)
        request = asked.get(network_id)
        found.append(
            NetworkAttachment(
                network_id=network_id,
                network_name=names.get(network_id, network_id[:12]),
                ipv4_address=interface.ipv4_address if interface else "",
                ipv4_gateway=interface.ipv4_gateway if interface else "",
                ipv6_address=interface.ipv6_address if interface else "",
                ipv6_gateway=interface.ipv6_gateway if interface else "",
                mac_address=interface.mac_address if interface else "",
                interface=interface.name if interface else "",
                aliases=request.aliases if request else (),
            )
        )
    return tuple(found)


def user_network_of(network: NetworkSpec) -> UserNetwork | None:
    """The way out of a container that is in no network; None if it has none of its own."""
    if not network.user_network:
        return None
    return UserNetwork(
        program=PurePath(network.user_network).name, addresses=user_addresses(network)
    )


def published_ports(network: NetworkSpec) -> tuple[PublishedPort, ...]:
    """The ports that lead to a container now."""
    return tuple(
        PublishedPort(
            host_address=port.host_address,
            host_port=port.host_port,
            container_port=port.container_port,
            protocol=port.protocol,
        )
        for port in network.ports
    )


async def inspect_network(services: ContainerServices, reference: str) -> NetworkDetails:
    """One network with those who are in it now."""
    network = await services.networks.find(reference)
    return NetworkDetails(
        network=network,
        members=await _members(services, network),
        warnings=await services.attacher.conditions(network),
    )


async def create_network(services: ContainerServices, request: NetworkRequest) -> Network:
    """Make a network; its device comes with the first container."""
    network = await services.networks.create(request)
    await _tell(services, "create", network)
    return network


async def remove_network(services: ContainerServices, reference: str) -> None:
    """Remove a network that nobody is in."""
    network = await services.networks.find(reference)
    if network.is_predefined:
        raise InvalidInputError(
            f"{network.name} is a pre-defined network and cannot be removed",
            hint="It costs nothing while no container is in it",
        )
    async with services.networks.exclusively(network):
        members = await _members(services, network)
        if members:
            raise NetworkInUseError(
                network.name,
                network.network_id,
                members=tuple((one.container_name, one.container_id) for one in members),
            )
        await services.attacher.remove(network)
        await services.networks.delete(network)
    await _tell(services, "destroy", network)


async def prune_networks(services: ContainerServices, wanted: PruneFilter) -> PrunedNetworks:
    """Remove every network that no container is to be in, running or not."""
    used = {
        attachment.network
        for record in await services.table.list()
        for attachment in record.network.attachments
    }
    removed = []
    for network in await services.networks.list():
        is_meant = wanted.means(created_at=network.created_at, labels=network.labels)
        if network.is_predefined or network.network_id in used or not is_meant:
            continue
        # Somebody may use or remove it meanwhile: then it is not ours.
        with contextlib.suppress(NetworkInUseError, NetworkNotFoundError):
            await remove_network(services, network.network_id)
            removed.append(network.name)
    return PrunedNetworks(names=tuple(removed))


async def connect_network(
    services: ContainerServices, reference: str, request: AttachmentRequest
) -> None:
    """Put a container into a network."""
    network = await services.networks.find(request.network)
    record = await services.table.find(reference)
    async with exclusively(services, record) as fresh:
        options = fresh.network
        refuse_shared(options.mode, network)
        if any(one.network == network.network_id for one in await _attachments(services, fresh)):
            raise AttachmentError(
                f"endpoint with name {fresh.name} already exists in network {network.name}",
                hint=f"`lamella network disconnect {network.name} {fresh.name}` takes it out",
            )
        check_attachment(request, network)
        added = replace(request, network=network.network_id)
        attachments = (*await _attachments(services, fresh), added)
        changed = replace(options, mode="", attachments=attachments)
        await carry_through(connect(services, fresh, replace(fresh, network=changed), network))
    await _tell(services, "connect", network, container=fresh.container_id)


async def disconnect_network(
    services: ContainerServices, reference: str, network_reference: str, *, is_forced: bool
) -> None:
    """Take a container out of a network."""
    record = await services.table.find(reference)
    try:
        network = await services.networks.find(network_reference)
    except NetworkNotFoundError:
        await _leave_removed(services, record, network_reference)
        return
    async with exclusively(services, record) as fresh:
        options = fresh.network
        refuse_shared(options.mode, network)
        attachments = await _attachments(services, fresh)
        left = tuple(one for one in attachments if one.network != network.network_id)
        if len(left) == len(attachments):
            if is_forced:
                return
            raise AttachmentError(
                f"container {fresh.container_id} is not connected to network {network.name}",
                hint=f"`lamella inspect {fresh.name}` shows what it is connected to",
            )
        changed = replace(options, mode="" if left else DISCONNECTED, attachments=left)
        await carry_through(disconnect(services, replace(fresh, network=changed), network))
    await _tell(services, "disconnect", network, container=fresh.container_id)


async def _leave_removed(
    services: ContainerServices, record: ContainerRecord, network_reference: str
) -> None:
    """Take a container out of a network that was removed: nothing but its id is left of it."""
    async with exclusively(services, record) as fresh:
        changed = without_removed(fresh.network, network_reference)
        await services.table.replace(replace(fresh, network=changed))


def without_removed(options: NetworkOptions, network_reference: str) -> NetworkOptions:
    """What a container asks for without a network that is there no more.

    Args:
        network_reference: Its id or the beginning of it.

    Raises:
        NetworkNotFoundError: It does not ask for any such network.
    """
    left = tuple(
        one for one in options.attachments if not one.network.startswith(network_reference)
    )
    if not network_reference or len(left) == len(options.attachments):
        raise NetworkNotFoundError(network_reference)
    return replace(options, mode="" if left else DISCONNECTED, attachments=left)


def refuse_shared(mode: str, network: Network) -> None:
    """Refuse to change the networks of a container that has none of its own; Docker's texts.

    Raises:
        AttachmentError: It has not, or the network is none to be put into.
    """
    if not is_shared_mode(mode) and network.driver is NetworkDriver.BRIDGE:
        return
    if mode.startswith(JOIN):
        raise AttachmentError(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network",
            hint="It is in the networks of that container: connect that one",
        )
    if HOST in {mode, network.name}:
        raise AttachmentError(
            "container cannot be disconnected from host network or connected to host network",
            hint="Make it again with `lamella run --network NAME`, which it can leave and join",
        )
    raise AttachmentError(
        "container cannot be connected to multiple networks with one of the networks in private "
        "(none) mode",
        hint="Make it again with `lamella run --network NAME`, which it can leave and join",
    )


async def _attachments(
    services: ContainerServices, record: ContainerRecord
) -> tuple[AttachmentRequest, ...]:
    """What a container is to be in, the default network included."""
    options = record.network
    if options.attachments or options.mode:
        return options.attachments
    default = await services.networks.find(DEFAULT_NETWORK)
    return (AttachmentRequest(network=default.network_id),)


async def _members(services: ContainerServices, network: Network) -> tuple[NetworkMember, ...]:
    """The containers that run in a network, by name."""
    records = {
        record.container_id: record
        for record in await services.table.list()
        if not is_shared_mode(record.network.mode)
    }
    members = []
    states = await services.read_states(tuple(records))
    for record, (state, is_lost) in zip(records.values(), states, strict=True):
        if is_lost or status_of(state) not in LIVE_STATUSES:
            continue
        members += [
            _member(record, interface)
            for interface in state.network.interfaces
            if interface.network_id == network.network_id
        ]
    return tuple(sorted(members, key=lambda one: one.container_name))


def _member(record: ContainerRecord, interface: InterfaceSpec) -> NetworkMember:
    return NetworkMember(
        container_id=record.container_id,
        container_name=record.name,
        mac_address=interface.mac_address,
        ipv4_address=interface.ipv4_address,
        ipv6_address=interface.ipv6_address,
        aliases=next(
            (
                one.aliases
                for one in record.network.attachments
                if one.network == interface.network_id
            ),
            (),
        ),
    )


async def _tell(
    services: ContainerServices, action: str, network: Network, **attributes: str
) -> None:
    event = Event(
        time_ns=time.time_ns(),
        subject=EventSubject.NETWORK,
        action=action,
        subject_id=network.network_id,
        name=network.name,
        attributes=tuple({"type": str(network.driver), **attributes}.items()),
    )
    await services.in_thread(append_event, services.config.events_path, event)
