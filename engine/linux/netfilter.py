"""Tables, chains, sets and rules of nftables, as netlink messages (linux/netfilter/nf_tables.h).

A rule is a list of expressions that hand values on in registers of four bytes: each function below
that ends in a register says how many it fills.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from engine.linux.netlink import (
    ACKNOWLEDGE,
    APPEND,
    CREATE,
    DUMP,
    EXCLUSIVE,
    attribute,
    attributes_of,
    iterate_attributes,
    message,
    nested,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.linux.netlink import NetlinkSocket

INET, NETDEV, BRIDGE = 1, 5, 7
IPV4, IPV6 = 2, 10
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
EGRESS = 1
"""Of NETDEV: what leaves one device."""
ACCEPT, DROP = 1, 0
LINK_HEADER, NETWORK_HEADER, TRANSPORT_HEADER = 0, 1, 2
INPUT_NAME, OUTPUT_NAME, PROTOCOL_FAMILY, LAYER4_PROTOCOL = 6, 7, 15, 16

_SUBSYSTEM = 10
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = 0, 1, 2
_NEW_CHAIN, _GET_CHAIN = 3, 4
_NEW_RULE, _DELETE_RULE = 6, 8
_NEW_SET, _GET_SET = 9, 10
_NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT = 12, 13, 14
_BATCH_BEGIN, _BATCH_END = 16, 17
_HEADER = struct.Struct("=BBH")
_LIST_ELEMENT = 1
_VALUE, _VERDICT = 1, 2
_SET_INTERVAL, _SET_MAP = 0x4, 0x8
_INTERVAL_END = struct.pack(">I", 1)
_INVERTED = 1
_DESTINATION_NAT = 1
_CONNECTION_STATE, _CONNECTION_STATUS = 0, 2
_FIB_ADDRESS_TYPE = 3
_FIB_SOURCE, _FIB_DESTINATION, _FIB_INPUT = 1, 2, 8
_LOCAL = struct.pack("=I", 2)
_FIRST_REGISTER = 8
_COMMENT = 0
ESTABLISHED_OR_RELATED = 0x2 | 0x4
WAS_REDIRECTED = 0x20
"""Of a connection's status: its destination was translated."""


class Element(NamedTuple):
    """An element of a set: what is looked up, what a map gives for it, and whose it is."""

    key: bytes
    value: bytes = b""
    owner: str = ""
    is_end: bool = False
    """The first address behind an interval."""


class Column(NamedTuple):
    """One part of a set's key or value."""

    kind: int
    """How nft(8) names it: see its `include/datatype.h`."""
    size: int


IPV4_ADDRESS = Column(7, 4)
IPV6_ADDRESS = Column(8, 16)
ETHERNET_ADDRESS = Column(9, 6)
PROTOCOL = Column(12, 1)
PORT = Column(13, 2)
INTERFACE_NAME = Column(41, 16)


def registers(size: int) -> int:
    """How many registers so many bytes fill."""
    return -(-size // 4)


def pack_key(*parts: bytes) -> bytes:
    """A key or value of several columns: each begins at a register of its own."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def interface_key(name: str) -> bytes:
    """A device's name as rules compare it."""
    return name.encode().ljust(16, b"\0")


# --- transactions -------------------------------------------------------------------------------


def transaction(messages: Iterable[bytes]) -> list[bytes]:
    """What makes one step of all of them: all are done, or none."""
    edge = _HEADER.pack(0, 0, _network_order(_SUBSYSTEM))
    return [message(_BATCH_BEGIN, 0, edge), *messages, message(_BATCH_END, 0, edge)]


def trial(messages: Iterable[bytes]) -> list[bytes]:
    """What makes the kernel check all of them as one step and then undo it: an end is missing."""
    return transaction(messages)[:-1]


def add_table(family: int, name: str) -> bytes:
    """Make a table; one that is there stays."""
    return _message(_NEW_TABLE, CREATE, family, text(1, name))


def delete_table(family: int, name: str) -> bytes:
    """Remove a table with all that is in it."""
    return _message(_DELETE_TABLE, 0, family, text(1, name))


def has_table(connection: NetlinkSocket, family: int, name: str) -> bool:
    """Whether there is such a table.

    Raises:
        SyscallError: The kernel does not say.
    """
    request = _message(_GET_TABLE, 0, family, text(1, name))
    return connection.ask(request, what=f"find table {name}") is not None


class BaseChain(NamedTuple):
    """A chain that the kernel sends packets through."""

    family: int
    table: str
    name: str
    hook: int
    policy: int


def list_base_chains(connection: NetlinkSocket) -> tuple[BaseChain, ...]:
    """Every chain with a hook, of every family.

    Raises:
        SyscallError: The kernel does not say.
    """
    request = message(_SUBSYSTEM << 8 | _GET_CHAIN, DUMP, _HEADER.pack(0, 0, 0))
    found = []
    for answer in connection.dump(request, what="list chains"):
        attributes = attributes_of(answer.body[_HEADER.size :])
        hook = attributes_of(attributes.get(4, b""))
        if 1 in hook and 5 in attributes:
            found.append(
                BaseChain(
                    answer.body[0],
                    _text_of(answer.body, 1),
                    _text_of(answer.body, 3),
                    int.from_bytes(hook[1], "big"),
                    int.from_bytes(attributes[5], "big"),
                )
            )
    return tuple(found)


def add_chain(
    family: int, table: str, name: str, *, kind: str, hook: int, priority: int, device: str = ""
) -> bytes:
    """Make a chain that the kernel sends packets through; what no rule stops goes on.

    One of NETDEV is a device's, and goes with it.
    """
    parts = [attribute(1, struct.pack(">I", hook)), attribute(2, _signed(priority))]
    if device:
        parts.append(text(3, device))
    place = nested(4, *parts)
    policy = attribute(5, struct.pack(">I", ACCEPT))
    return _message(
        _NEW_CHAIN, CREATE, family, text(1, table), text(3, name), place, policy, text(7, kind)
    )


def add_set(
    family: int,
    table: str,
    name: str,
    number: int,
    *,
    key: Sequence[Column],
    value: Sequence[Column] = (),
    has_intervals: bool = False,
) -> bytes:
    """Make a set, or (with a value) a map.

    Args:
        family: Of the table.
        table: Of the set.
        name: Of the set.
        number: Of its own within the transaction.
        key: What is looked up.
        value: What a map gives for it.
        has_intervals: Elements come in pairs: where one begins, and what is behind its end.
    """
    flags = (_SET_INTERVAL if has_intervals else 0) | (_SET_MAP if value else 0)
    parts = [
        text(1, table),
        text(2, name),
        attribute(3, struct.pack(">I", flags)),
        attribute(4, struct.pack(">I", _type_number(key))),
        attribute(5, struct.pack(">I", _columns_size(key))),
        attribute(10, struct.pack(">I", number)),
    ]
    if value:
        parts.append(attribute(6, struct.pack(">I", _type_number(value))))
        parts.append(attribute(7, struct.pack(">I", _columns_size(value))))
    if len(key) == 1 and key[0] is INTERFACE_NAME:
        # For who lists it with nft(8): the bytes of a name are in the order of the host.
        parts.append(attribute(13, struct.pack("=BBI", 0, 4, 1)))
    return _message(_NEW_SET, CREATE, family, *parts)


def _type_number(columns: Sequence[Column]) -> int:
    number = 0
    for column in columns:
        number = number << 6 | column.kind
    return number


def _columns_size(columns: Sequence[Column]) -> int:
    if len(columns) == 1:
        return columns[0].size
    return sum(4 * registers(column.size) for column in columns)


def has_set(connection: NetlinkSocket, family: int, table: str, name: str) -> bool:
    """Whether a table is there and has such a set.

    Raises:
        SyscallError: The kernel does not say.
    """
    request = _message(_GET_SET, 0, family, text(1, table), text(2, name))
    return connection.ask(request, what=f"find set {name}") is not None


def add_elements(
    family: int, table: str, name: str, elements: Iterable[Element], *, is_exclusive: bool = True
) -> bytes:
    """Put elements into a set.

    Args:
        family: Of the table.
        table: Of the set.
        name: Of the set.
        elements: What to add.
        is_exclusive: Refuse one that is there already.
    """
    flags = CREATE | (EXCLUSIVE if is_exclusive else 0)
    return _message(_NEW_ELEMENT, flags, family, *_elements(table, name, elements))


def delete_elements(family: int, table: str, name: str, elements: Iterable[Element]) -> bytes:
    """Take elements out of a set; one that is not there makes the transaction fail."""
    return _message(_DELETE_ELEMENT, 0, family, *_elements(table, name, elements))


def list_elements(
    connection: NetlinkSocket, family: int, table: str, name: str
) -> tuple[Element, ...]:
    """Every element of a set; none if there is no such set.

    Raises:
        SyscallError: The kernel does not say.
    """
    request = message(
        _SUBSYSTEM << 8 | _GET_ELEMENT,
        DUMP,
        _HEADER.pack(family, 0, 0),
        text(1, table),
        text(2, name),
    )
    found: list[Element] = []
    for answer in connection.dump(request, what=f"list set {name}"):
        attributes = attributes_of(answer.body[_HEADER.size :])
        for _kind, body in iterate_attributes(attributes.get(3, b"")):
            found.append(_element(attributes_of(body)))
    return tuple(found)


def _elements(table: str, name: str, elements: Iterable[Element]) -> tuple[bytes, ...]:
    listed = []
    for element in elements:
        parts = [nested(1, attribute(_VALUE, element.key))]
        if element.value:
            parts.append(nested(2, attribute(_VALUE, element.value)))
        if element.is_end:
            parts.append(attribute(3, _INTERVAL_END))
        if element.owner:
            comment = element.owner.encode() + b"\0"
            parts.append(attribute(6, struct.pack("=BB", _COMMENT, len(comment)) + comment))
        listed.append(nested(_LIST_ELEMENT, *parts))
    return text(1, table), text(2, name), nested(3, *listed)


def _element(attributes: dict[int, bytes]) -> Element:
    owner = b""
    data = attributes.get(6, b"")
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == _COMMENT:
            owner = data[2 : 2 + length].rstrip(b"\0")
        data = data[2 + length :]
    return Element(
        key=attributes_of(attributes.get(1, b"")).get(_VALUE, b""),
        value=attributes_of(attributes.get(2, b"")).get(_VALUE, b""),
        owner=owner.decode(errors="replace"),
        is_end=attributes.get(3) == _INTERVAL_END,
    )


# --- rules --------------------------------------------------------------------------------------


def add_rule(family: int, table: str, chain: str, *expressions: bytes) -> bytes:
    """Put a rule at the end of a chain: expressions, until one does not hold."""
    return _message(
        _NEW_RULE, CREATE | APPEND, family, text(1, table), text(2, chain), nested(4, *expressions)
    )


def empty_chain(family: int, table: str, chain: str) -> bytes:
    """Remove every rule of a chain."""
    return _message(_DELETE_RULE, 0, family, text(1, table), text(2, chain))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_LIST_ELEMENT, text(1, name), nested(2, *attributes))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _register(kind: int, register: int) -> bytes:
    return _number(kind, _FIRST_REGISTER + register)


def load_meta(key: int, register: int = 0) -> bytes:
    """Load what is known of a packet; a name fills four registers, the others one."""
    return _expression("meta", _register(1, register), _number(2, key))


def load_payload(header: int, offset: int, size: int, register: int = 0) -> bytes:
    """Load bytes of a packet."""
    return _expression(
        "payload",
        _register(1, register),
        _number(2, header),
        _number(3, offset),
        _number(4, size),
    )


def equals(value: bytes, register: int = 0, *, is_inverted: bool = False) -> bytes:
    """Go on if registers hold a value (inverted: any other one)."""
    return _expression(
        "cmp",
        _register(1, register),
        _number(2, int(is_inverted)),
        nested(3, attribute(_VALUE, value)),
    )


def is_in(name: str, register: int = 0, *, is_inverted: bool = False) -> bytes:
    """Go on if what registers hold is in a set (inverted: is not)."""
    flags = [_number(5, _INVERTED)] if is_inverted else []
    return _expression("lookup", text(1, name), _register(2, register), *flags)


def look_up(name: str, register: int = 0) -> bytes:
    """Put what a map has for a key in its place; go on only if it has something."""
    return _expression("lookup", text(1, name), _register(2, register), _register(3, register))


def has_bits(mask: bytes, register: int = 0) -> tuple[bytes, bytes]:
    """Go on if one of these bits is set."""
    return (mask_bits(mask, register), equals(bytes(len(mask)), register, is_inverted=True))


def mask_bits(mask: bytes, register: int = 0) -> bytes:
    """Leave only these bits of what registers hold."""
    return _expression(
        "bitwise",
        _register(1, register),
        _register(2, register),
        _number(3, len(mask)),
        nested(4, attribute(_VALUE, mask)),
        nested(5, attribute(_VALUE, bytes(len(mask)))),
    )


def connection_has_state(bits: int) -> tuple[bytes, ...]:
    """Go on if the packet's connection is in one of these states."""
    load = _expression("ct", _register(1, 0), _number(2, _CONNECTION_STATE))
    return (load, *has_bits(struct.pack("=I", bits)))


def connection_was_redirected() -> tuple[bytes, ...]:
    """Go on if the destination of the packet's connection was translated."""
    load = _expression("ct", _register(1, 0), _number(2, _CONNECTION_STATUS))
    return (load, *has_bits(struct.pack("=I", WAS_REDIRECTED)))


def is_for_this_host() -> tuple[bytes, bytes]:
    """Go on if the packet's destination is an address of this host."""
    return _load_address_type(_FIB_DESTINATION), equals(_LOCAL)


def is_not_of_input(*, is_source: bool) -> tuple[bytes, bytes]:
    """Go on if the destination (or source) is no address of the device that the packet came by."""
    which = _FIB_SOURCE if is_source else _FIB_DESTINATION
    return _load_address_type(which | _FIB_INPUT), equals(_LOCAL, is_inverted=True)


def _load_address_type(which: int) -> bytes:
    return _expression("fib", _register(1, 0), _number(2, _FIB_ADDRESS_TYPE), _number(3, which))


def is_family(family: int) -> tuple[bytes, bytes]:
    """Go on if the packet is IPv4 (or IPv6)."""
    return load_meta(PROTOCOL_FAMILY), equals(bytes((family,)))


def redirect(family: int, *, address: int, port: int) -> bytes:
    """Translate the destination to what registers hold."""
    return _expression(
        "nat",
        _number(1, _DESTINATION_NAT),
        _number(2, family),
        _register(3, address),
        _register(5, port),
    )


def load_value(value: bytes, register: int = 0) -> bytes:
    """Put a value into registers."""
    data = nested(2, attribute(_VALUE, value))
    return _expression("immediate", _register(1, register), data)


def masquerade() -> bytes:
    """Translate the source to the host's own address on the way out."""
    return _expression("masq")


def decide(verdict: int) -> bytes:
    """End with ACCEPT or DROP."""
    code = nested(_VERDICT, _number(1, verdict))
    return _expression("immediate", _number(1, 0), nested(2, code))


def _message(kind: int, flags: int, family: int, *parts: bytes) -> bytes:
    return message(_SUBSYSTEM << 8 | kind, flags | ACKNOWLEDGE, _HEADER.pack(family, 0, 0), *parts)


def _network_order(value: int) -> int:
    return socket.htons(value)


def _signed(value: int) -> bytes:
    return struct.pack(">i", value)


def _text_of(body: bytes, kind: int) -> str:
    value = attributes_of(body[_HEADER.size :]).get(kind, b"")
    return value.partition(b"\0")[0].decode(errors="replace")
