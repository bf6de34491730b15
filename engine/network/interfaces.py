"""A container's link to a network: what it asks the leases for, and what its starter is told."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.network.devices import derive_mac, read_setting
from engine.network.planning import INTER_CONTAINER_OPTION, MTU_OPTION
from engine.network.subnets import parse_subnet
from engine.runtime.spec import InterfaceSpec
from engine.store.network_records import LeaseRequest

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.types import AttachmentRequest, Network, NetworkSubnet

_DEVICE_PREFIX = "lmv"
_BRIDGED_RULES = "bridge/bridge-nf-call-iptables"


def lease_request(
    network: Network, one: NetworkSubnet, attachment: AttachmentRequest
) -> LeaseRequest:
    """What address a container is to have in one subnet of a network."""
    subnet = parse_subnet(one.subnet)
    reserved = {ipaddress.ip_address(one.gateway), subnet.network_address}
    reserved |= {ipaddress.ip_address(text) for _name, text in one.auxiliary_addresses}
    if subnet.version == 4:
        reserved.add(subnet.broadcast_address)
    wanted = attachment.ipv4_address if subnet.version == 4 else attachment.ipv6_address
    return LeaseRequest(
        network_id=network.network_id,
        subnet=subnet,
        pool=parse_subnet(one.ip_range) if one.ip_range else subnet,
        reserved=frozenset(reserved),
        # As the kernel writes it: the same address may be written in several ways.
        wanted=str(ipaddress.ip_address(wanted)) if wanted else "",
    )


def describe_interface(
    network: Network,
    attachment: AttachmentRequest,
    addresses: list[tuple[NetworkSubnet, str]],
    *,
    name: str,
    is_way_out: bool,
    is_guarded: bool,
) -> InterfaceSpec:
    """A link with the addresses that were leased.

    Args:
        network: Where it leads.
        attachment: As it was asked for.
        addresses: With the subnet that each is of.
        name: In the container.
        is_way_out: Everything goes here that leads nowhere else.
        is_guarded: The container may send as itself only.
    """
    shown = {4: "", 6: ""}
    gateways = {4: "", 6: ""}
    for one, address in addresses:
        subnet = parse_subnet(one.subnet)
        shown[subnet.version] = f"{address}/{subnet.prefixlen}"
        gateways[subnet.version] = one.gateway if is_way_out else ""
    options = dict(network.options)
    mac = attachment.mac_address.lower().replace("-", ":") or derive_mac(shown[4])
    return InterfaceSpec(
        network_id=network.network_id,
        name=name,
        host_name=_DEVICE_PREFIX + os.urandom(6).hex(),
        bridge=network.bridge,
        mac_address=mac,
        ipv4_address=shown[4],
        ipv4_gateway=gateways[4],
        ipv6_address=shown[6],
        ipv6_gateway=gateways[6],
        mtu=int(options.get(MTU_OPTION, "0")),
        is_guarded=is_guarded,
        is_isolated=options.get(INTER_CONTAINER_OPTION) == "false",
        network_name=network.name,
    )


def with_gateways(interface: InterfaceSpec, network: Network) -> InterfaceSpec:
    """The same link as the way out."""
    gateways = {":" in one.gateway: one.gateway for one in network.subnets}
    return replace(
        interface,
        ipv4_gateway=gateways.get(False, ""),
        ipv6_gateway=gateways.get(True, "") if interface.ipv6_address else "",
    )


def for_published_ports(
    interfaces: tuple[InterfaceSpec, ...], *, taking_loopback: Collection[str]
) -> tuple[InterfaceSpec, ...]:
    """The same links for a container that publishes ports.

    Args:
        interfaces: As they are described.
        taking_loopback: Bridges that take what the host sends from 127.0.0.0/8.
    """
    # With br_netfilter a bridge translates addresses itself, and sends back where it came from.
    is_hairpin = read_setting(_BRIDGED_RULES) == "1"
    return tuple(
        replace(one, is_hairpin=is_hairpin, has_localnet=one.bridge in taking_loopback)
        for one in interfaces
    )
