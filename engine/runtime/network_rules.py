"""The sets of rules on the host that a container's addresses and ports are elements of.

The rules look up sets, so that a start adds elements and nothing else, in one step. Each element
carries the id of its container. `engine.network.firewall` makes the tables.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.linux.connections import forget_connections
from engine.linux.netfilter import (
    BRIDGE,
    INET,
    Element,
    add_elements,
    delete_elements,
    interface_key,
    pack_key,
    transaction,
)
from engine.linux.routes import pack_address

if TYPE_CHECKING:
    from engine.runtime.spec import InterfaceSpec, NetworkSpec, PortSpec

PORTS4, PORTS6 = "ports4", "ports6"
"""Maps of ports that are published at every address of the host's: protocol and port."""
ADDRESS_PORTS4, ADDRESS_PORTS6 = "address_ports4", "address_ports6"
"""Maps of ports that are published at one address: address, protocol and port."""
LOOPBACK_PORTS4 = "loopback_ports4"
"""A map of ports that are published at 127.0.0.0/8, as far as the kernel can lead from there."""
GUARDED, GUARD4, GUARD6 = "guarded", "guard4", "guard6"
"""Who is who on a bridge: device, hardware address, address."""
SETS = (
    (BRIDGE, GUARDED),
    (BRIDGE, GUARD4),
    (BRIDGE, GUARD6),
    (INET, PORTS4),
    (INET, PORTS6),
    (INET, ADDRESS_PORTS4),
    (INET, ADDRESS_PORTS6),
    (INET, LOOPBACK_PORTS4),
)
_MOST_ELEMENTS = 200
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}


def container_elements(
    container_id: str, interfaces: tuple[InterfaceSpec, ...], ports: tuple[PortSpec, ...]
) -> dict[tuple[int, str], list[Element]]:
    """What a container adds to which set."""
    found: dict[tuple[int, str], list[Element]] = {one: [] for one in SETS}
    for interface in interfaces:
        if not interface.is_guarded:
            continue
        device = interface_key(interface.host_name)
        mac = bytes.fromhex(interface.mac_address.replace(":", ""))
        found[BRIDGE, GUARDED].append(Element(device, owner=container_id))
        for address in guarded_addresses(interface):
            place = (BRIDGE, GUARD4 if len(address) == 4 else GUARD6)
            key = pack_key(device, mac, address)
            found[place].append(Element(key, owner=container_id))
    with_localnet = {
        interface.ipv4_address.partition("/")[0]
        for interface in interfaces
        if interface.has_localnet
    }
    for port in ports:
        for target in (port.ipv4_target, port.ipv6_target):
            if target:
                has_localnet = target in with_localnet
                key, value, names = _port_element(port, target, has_localnet=has_localnet)
                for name in names:
                    found[INET, name].append(Element(key, value, owner=container_id))
    return {place: elements for place, elements in found.items() if elements}


def guarded_addresses(interface: InterfaceSpec) -> list[bytes]:
    """Every address that a container may send from."""
    addresses = [
        pack_address(text)[0] for text in (interface.ipv4_address, interface.ipv6_address) if text
    ]
    if interface.ipv6_address:
        addresses.append(link_local(interface.mac_address))
    return addresses


def link_local(mac_address: str) -> bytes:
    """The address that a device gives itself for the link alone (RFC 4291, appendix A)."""
    mac = bytes.fromhex(mac_address.replace(":", ""))
    identifier = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return b"\xfe\x80" + bytes(6) + identifier


def _port_element(
    port: PortSpec, target: str, *, has_localnet: bool
) -> tuple[bytes, bytes, tuple[str, ...]]:
    """What leads a port to an address of a container's, and the maps that have it.

    What is not in them comes to the sockets that reserve the port, and so to the network server:
    what the host sends to ::1, for which the kernel has nothing like route_localnet; what it sends
    to 127.0.0.0/8 where that cannot be set; and IPv6 to a container without.
    """
    address, _length = pack_address(target)
    is_ipv4 = len(address) == 4
    key = pack_key(bytes((_PROTOCOLS[port.protocol],)), struct.pack(">H", port.host_port))
    value = pack_key(address, struct.pack(">H", port.container_port))
    asked = pack_address(port.host_address)[0] if port.host_address else bytes(len(address))
    if len(asked) != len(address):
        return key, value, ()
    if any(asked):
        if is_loopback(asked) and not (is_ipv4 and has_localnet):
            return key, value, ()
        return asked + key, value, (ADDRESS_PORTS4 if is_ipv4 else ADDRESS_PORTS6,)
    if not is_ipv4:
        return key, value, (PORTS6,)
    return key, value, (PORTS4, LOOPBACK_PORTS4) if has_localnet else (PORTS4,)


def is_loopback(address: bytes) -> bool:
    """Whether an address leads to the host itself only."""
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"


def in_parts(elements: list[Element]) -> list[list[Element]]:
    """As many as one attribute has room for, which is 64 KiB."""
    return [
        elements[first : first + _MOST_ELEMENTS]
        for first in range(0, len(elements), _MOST_ELEMENTS)
    ]


def lead_ports(
    ports: tuple[PortSpec, ...], interfaces: tuple[InterfaceSpec, ...]
) -> tuple[PortSpec, ...]:
    """Have published ports lead to the address by which a container goes out, if any."""
    target = next((one for one in interfaces if one.ipv4_gateway or one.ipv6_gateway), None)
    return tuple(
        replace(
            port,
            ipv4_target=target.ipv4_address.partition("/")[0] if target else "",
            ipv6_target=target.ipv6_address.partition("/")[0] if target else "",
        )
        for port in ports
    )


def add_container(container_id: str, network: NetworkSpec) -> list[bytes]:
    """What lets a container's traffic in and out, in one step; nothing if there is none."""
    elements = container_elements(container_id, network.interfaces, network.ports)
    if not elements:
        return []
    return transaction(
        add_elements(family, network.table, name, part)
        for (family, name), listed in elements.items()
        for part in in_parts(listed)
    )


def remove_container(container_id: str, network: NetworkSpec) -> list[bytes]:
    """The opposite; refused as a whole if something is gone already."""
    elements = container_elements(container_id, network.interfaces, network.ports)
    if not elements:
        return []
    return transaction(
        delete_elements(family, network.table, name, part)
        for (family, name), listed in elements.items()
        for part in in_parts(listed)
    )


def remove_container_piecemeal(container_id: str, network: NetworkSpec) -> list[list[bytes]]:
    """As `remove_container`, each element by itself: what is gone already does no harm."""
    elements = container_elements(container_id, network.interfaces, network.ports)
    return [
        transaction((delete_elements(family, network.table, name, (element,)),))
        for (family, name), listed in elements.items()
        for element in listed
    ]


def change_container(container_id: str, before: NetworkSpec, after: NetworkSpec) -> list[bytes]:
    """What leads from one to the other, in one step; nothing if there is no difference."""
    old = container_elements(container_id, before.interfaces, before.ports)
    new = container_elements(container_id, after.interfaces, after.ports)
    messages = []
    for place in {**old, **new}:
        family, name = place
        had, wanted = old.get(place, []), new.get(place, [])
        had_set, wanted_set = frozenset(had), frozenset(wanted)
        gone = [one for one in had if one not in wanted_set]
        added = [one for one in wanted if one not in had_set]
        messages += [delete_elements(family, before.table, name, one) for one in in_parts(gone)]
        messages += [add_elements(family, after.table, name, one) for one in in_parts(added)]
    return transaction(messages) if messages else []


def forget_datagrams(network: NetworkSpec) -> list[bytes]:
    """What makes the kernel forget whom it has led to a container's ports that have no end."""
    targets = {
        target
        for port in network.ports
        if port.protocol == "udp"
        for target in (port.ipv4_target, port.ipv6_target)
        if target
    }
    return [
        forget_connections(pack_address(target)[0], _PROTOCOLS["udp"]) for target in sorted(targets)
    ]
