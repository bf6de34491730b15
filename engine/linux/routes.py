"""Links, addresses and routes, as netlink messages (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.linux.netlink import (
    ACKNOWLEDGE,
    CREATE,
    DUMP,
    EXCLUSIVE,
    attribute,
    attributes_of,
    message,
    nested,
    text,
)

if TYPE_CHECKING:
    from engine.linux.netlink import NetlinkSocket

_NEW_LINK, _DELETE_LINK, _GET_LINK, _SET_LINK = 16, 17, 18, 19
_NEW_ADDRESS = 20
_NEW_ROUTE, _GET_ROUTE = 24, 26
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NUMBER = struct.Struct("=I")
_UP = 0x1
_FAMILY4, _FAMILY6, _FAMILY_BRIDGE = 2, 10, 7
_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_PROTINFO = 1, 3, 4, 10, 12
_IFLA_LINK_INFO, _IFLA_NETNS_FD = 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_PEER = 1
_BRPORT_HAIRPIN, _BRPORT_ISOLATED = 4, 33
_BR_FORWARD_DELAY, _BR_STP, _BR_MULTICAST_SNOOPING = 1, 5, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_NO_DUPLICATE_CHECK = 0x02
_RTA_DESTINATION, _RTA_INTERFACE, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_IPV4_BYTES = 4
_PROTOCOL_STATIC, _SCOPE_EVERYWHERE, _UNICAST = 4, 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device; `master` is the index of the bridge that it is a port of, or 0."""

    index: int
    master: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where packets to some addresses go: the first bits of them, and through which link."""

    destination: bytes
    length: int
    link_index: int


def add_bridge(name: str, *, mac: bytes, mtu: int = 0) -> bytes:
    """Make a bridge that forwards at once, and is up.

    With no address of its own it has the lowest of its ports', which come and go while others
    remember it.
    """
    data = nested(
        _INFO_DATA,
        attribute(_BR_FORWARD_DELAY, _NUMBER.pack(0)),
        attribute(_BR_STP, _NUMBER.pack(0)),
        # Neighbour discovery is multicast: what nobody has joined yet must not get lost.
        attribute(_BR_MULTICAST_SNOOPING, b"\0"),
    )
    parts = [
        text(_IFLA_NAME, name),
        attribute(_IFLA_ADDRESS, mac),
        nested(_IFLA_LINK_INFO, text(_INFO_KIND, "bridge"), data),
    ]
    if mtu:
        parts.append(attribute(_IFLA_MTU, _NUMBER.pack(mtu)))
    return message(
        _NEW_LINK, CREATE | EXCLUSIVE | ACKNOWLEDGE, _LINK.pack(0, 0, 0, _UP, _UP), *parts
    )


def add_veth(
    name: str,
    *,
    bridge_index: int,
    peer_name: str,
    peer_namespace: int,
    peer_mac: bytes,
    mtu: int = 0,
) -> bytes:
    """Make a pair: one end a port of a bridge and up, the other in a namespace (a descriptor)."""
    size = [attribute(_IFLA_MTU, _NUMBER.pack(mtu))] if mtu else []
    peer = attribute(
        _VETH_PEER,
        _LINK.pack(0, 0, 0, 0, 0)
        + text(_IFLA_NAME, peer_name)
        + attribute(_IFLA_ADDRESS, peer_mac)
        + attribute(_IFLA_NETNS_FD, _NUMBER.pack(peer_namespace))
        + b"".join(size),
    )
    return message(
        _NEW_LINK,
        CREATE | EXCLUSIVE | ACKNOWLEDGE,
        _LINK.pack(0, 0, 0, _UP, _UP),
        text(_IFLA_NAME, name),
        attribute(_IFLA_MASTER, _NUMBER.pack(bridge_index)),
        *size,
        nested(_IFLA_LINK_INFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, peer)),
    )


def set_port(index: int, *, is_hairpin: bool, is_isolated: bool) -> bytes:
    """Say what a port of a bridge does.

    Args:
        index: Of the port.
        is_hairpin: It gets back what came from it, as who asks for its own published port must.
        is_isolated: It exchanges nothing with other ports that are so.
    """
    return message(
        _SET_LINK,
        ACKNOWLEDGE,
        _LINK.pack(_FAMILY_BRIDGE, 0, index, 0, 0),
        nested(
            _IFLA_PROTINFO,
            attribute(_BRPORT_HAIRPIN, bytes((is_hairpin,))),
            attribute(_BRPORT_ISOLATED, bytes((is_isolated,))),
        ),
    )


def set_up(index: int, *, mtu: int = 0) -> bytes:
    """Bring a link up; with a size of its packets, or with the one that it has."""
    size = [attribute(_IFLA_MTU, _NUMBER.pack(mtu))] if mtu else []
    return message(_NEW_LINK, ACKNOWLEDGE, _LINK.pack(0, 0, index, _UP, _UP), *size)


def set_master(index: int, bridge_index: int) -> bytes:
    """Make a link a port of a bridge."""
    return message(
        _SET_LINK,
        ACKNOWLEDGE,
        _LINK.pack(0, 0, index, 0, 0),
        attribute(_IFLA_MASTER, _NUMBER.pack(bridge_index)),
    )


def delete_link(index: int) -> bytes:
    """Remove a link, and the other end of a pair with it."""
    return message(_DELETE_LINK, ACKNOWLEDGE, _LINK.pack(0, 0, index, 0, 0))


def add_address(index: int, address: str) -> bytes:
    """Give a link an address, written with its prefix; nobody is asked whether it is taken."""
    packed, length = pack_address(address)
    parts = [attribute(_IFA_LOCAL, packed), attribute(_IFA_ADDRESS, packed)]
    if len(packed) == _IPV4_BYTES:
        number = int.from_bytes(packed, "big") | (1 << (32 - length)) - 1
        parts.append(attribute(_IFA_BROADCAST, number.to_bytes(_IPV4_BYTES, "big")))
    else:
        parts.append(attribute(_IFA_FLAGS, _NUMBER.pack(_NO_DUPLICATE_CHECK)))
    return message(
        _NEW_ADDRESS,
        CREATE | EXCLUSIVE | ACKNOWLEDGE,
        _ADDRESS.pack(_family(packed), length, 0, 0, index),
        *parts,
    )


def add_default_route(index: int, gateway: str) -> bytes:
    """Have everything that leads nowhere else go through a link."""
    packed, _length = pack_address(gateway)
    header = _ROUTE.pack(
        _family(packed), 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_EVERYWHERE, _UNICAST, 0
    )
    return message(
        _NEW_ROUTE,
        CREATE | EXCLUSIVE | ACKNOWLEDGE,
        header,
        attribute(_RTA_GATEWAY, packed),
        attribute(_RTA_INTERFACE, _NUMBER.pack(index)),
    )


def pack_address(address: str) -> tuple[bytes, int]:
    """The bytes of an address and the length of its prefix, which is all of it if none is said.

    Not by `ipaddress`, which the launcher need not load.
    """
    text, _, length = address.partition("/")
    packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    return packed, int(length) if length else 8 * len(packed)


def find_link(connection: NetlinkSocket, name: str) -> Link | None:
    """A link by its name; None if there is none.

    Raises:
        SyscallError: The kernel does not say.
    """
    found = connection.ask(
        message(_GET_LINK, ACKNOWLEDGE, _LINK.pack(0, 0, 0, 0, 0), text(_IFLA_NAME, name)),
        what=f"find link {name}",
    )
    return _link(found.body) if found is not None else None


def list_routes(connection: NetlinkSocket) -> tuple[Route, ...]:
    """Where the routes of the namespace lead, in whatever table but that of its own addresses.

    Raises:
        SyscallError: The kernel does not say.
    """
    found = []
    for family in (_FAMILY4, _FAMILY6):
        request = message(_GET_ROUTE, DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        for answer in connection.dump(request, what="list routes"):
            _family_of, length, _source, _tos, table, *_rest = _ROUTE.unpack_from(answer.body)
            attributes = attributes_of(answer.body[_ROUTE.size :])
            if table == _TABLE_LOCAL or _RTA_DESTINATION not in attributes:
                continue
            (index,) = _NUMBER.unpack(attributes.get(_RTA_INTERFACE, bytes(4)))
            found.append(
                Route(destination=attributes[_RTA_DESTINATION], length=length, link_index=index)
            )
    return tuple(found)


def _link(body: bytes) -> Link:
    _family_of, _kind, index, _flags, _change = _LINK.unpack_from(body)
    master = attributes_of(body[_LINK.size :]).get(_IFLA_MASTER, bytes(4))
    return Link(index=index, master=_NUMBER.unpack(master)[0])


def _family(address: bytes) -> int:
    return _FAMILY4 if len(address) == _IPV4_BYTES else _FAMILY6
