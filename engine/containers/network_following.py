"""A container's files and names, as they follow its networks and its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.containers.network_files import (
    ContainerPlace,
    change_hosts,
    renew_network_files,
    renew_resolver,
)
from engine.network.attaching import WantedNetwork
from engine.network.host import outgoing_address
from engine.network.naming import own_addresses
from engine.runtime.name_sockets import RESOLVER_ADDRESS
from engine.runtime.namespaces import HOST
from engine.runtime.user_network import user_addresses
from engine.store.durability import raise_store_error

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import NetworkSpec

_LOOPBACK = ("127.0.0.1",)


def wanted_network(record: ContainerRecord) -> WantedNetwork:
    """What a container is to have of networks when it is started."""
    return WantedNetwork(
        container_id=record.container_id,
        options=record.network,
        names=(record.name, record.hostname),
        exposed_ports=record.exposed_ports,
        is_privileged=record.options.is_privileged,
    )


def container_place(
    record: ContainerRecord, network: NetworkSpec, *, namespace: str = ""
) -> ContainerPlace:
    """Where a container stands.

    Args:
        record: The container's.
        network: What it has.
        namespace: As in `NamespaceSpec`; matters for `host` only.
    """
    names = (record.hostname, record.name)
    if network.user_network:
        return spoken_for(names, network)
    gateways = [
        gateway
        for one in network.interfaces
        for gateway in (one.ipv4_gateway, one.ipv6_gateway)
        if gateway
    ]
    return ContainerPlace(
        names=names,
        addresses=own_addresses(network.interfaces),
        gateways=_LOOPBACK if namespace == HOST else tuple(gateways),
        resolver=RESOLVER_ADDRESS if network.has_names else "",
    )


def spoken_for(names: tuple[str, ...], network: NetworkSpec) -> ContainerPlace:
    """Of an ordinary user's container, whose way out is a program that speaks for it."""
    host = outgoing_address()
    return ContainerPlace(
        names=names,
        addresses=user_addresses(network),
        gateways=(host,) if host else (),
        resolver=RESOLVER_ADDRESS,
    )


def renew_files(
    config: EngineConfig, record: ContainerRecord, network: NetworkSpec, *, namespace: str
) -> tuple[str, ...]:
    """Write hosts and resolv.conf of a container that is about to start; blocking.

    Returns:
        What a person may not expect of them, one sentence each.

    Raises:
        StoreError: They cannot be written.
    """
    directory = config.container_directory(record.container_id)
    place = container_place(record, network, namespace=namespace)
    try:
        return renew_network_files(directory, record.network, place)
    except OSError as error:
        raise_store_error(error, directory)


def follow_files(
    config: EngineConfig,
    *,
    before: tuple[ContainerRecord, NetworkSpec],
    after: tuple[ContainerRecord, NetworkSpec],
) -> None:
    """Let the files of a container that runs follow a change of its networks or name; blocking.

    Raises:
        StoreError: They cannot be written.
    """
    record = after[0]
    if record.network.mode:
        return  # They are the host's, or another container's.
    directory = config.container_directory(record.container_id)
    place = container_place(*after)
    try:
        change_hosts(directory, before=container_place(*before), after=place)
        renew_resolver(directory, record.network, place)
    except OSError as error:
        raise_store_error(error, directory)


async def follow_network(
    services: ContainerServices,
    *,
    before: tuple[ContainerRecord, NetworkSpec],
    after: tuple[ContainerRecord, NetworkSpec],
) -> None:
    """Let a container that runs be found where it is from now on, by its present name.

    Raises:
        StoreError: A file cannot be written.
    """
    await services.in_thread(follow_files, services.config, before=before, after=after)
    if before[1].needs_server or after[1].needs_server:
        await services.attacher.publish(wanted_network(after[0]), after[1])
