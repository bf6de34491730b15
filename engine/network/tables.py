"""The messages that make the two tables of a store: their sets, their chains and their rules.

`main_table` is for what passes through the host, `guard_table` for what passes over a bridge.
"""

from __future__ import annotations

import struct

from engine.linux.netfilter import (
    ACCEPT,
    BRIDGE,
    DROP,
    ESTABLISHED_OR_RELATED,
    ETHERNET_ADDRESS,
    FORWARD,
    INET,
    INPUT_NAME,
    INTERFACE_NAME,
    IPV4,
    IPV4_ADDRESS,
    IPV6,
    IPV6_ADDRESS,
    LAYER4_PROTOCOL,
    LINK_HEADER,
    NETWORK_HEADER,
    OUTPUT,
    OUTPUT_NAME,
    PORT,
    POSTROUTING,
    PREROUTING,
    PROTOCOL,
    TRANSPORT_HEADER,
    add_chain,
    add_rule,
    add_set,
    add_table,
    connection_has_state,
    connection_was_redirected,
    decide,
    empty_chain,
    equals,
    interface_key,
    is_family,
    is_for_this_host,
    is_in,
    is_not_of_input,
    load_meta,
    load_payload,
    look_up,
    mask_bits,
    masquerade,
    redirect,
)
from engine.runtime.network_rules import (
    ADDRESS_PORTS4,
    ADDRESS_PORTS6,
    GUARD4,
    GUARD6,
    GUARDED,
    LOOPBACK_PORTS4,
    PORTS4,
    PORTS6,
)

BRIDGES, INTERNAL, SAME = "bridges", "internal", "same"
"""Sets of bridges: every one, those of internal networks, and each beside itself."""
SUBNETS4, SUBNETS6 = "subnets4", "subnets6"
"""Sets of the subnets that go out by the name of the host."""
NEWEST_SET = LOOPBACK_PORTS4
"""What a table that an earlier version has made has not."""
_RAW, _DESTINATION_NAT, _FILTER, _SOURCE_NAT = -300, -100, 0, 100
_ETHER_IPV4, _ETHER_IPV6, _ETHER_ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
_TCP, _UDP, _ICMPV6 = b"\x06", b"\x11", b"\x3a"
_DHCP_SERVER, _DHCPV6_SERVER = struct.pack(">H", 67), struct.pack(">H", 547)
_ROUTER_ADVERTISEMENT, _NEIGHBOUR_ADVERTISEMENT, _REDIRECT = b"\x86", b"\x88", b"\x89"
_NAME_REGISTERS = 4
_LOOPBACK4 = (b"\x7f\0\0\0", b"\xff\0\0\0")
_LOOPBACK6 = bytes(15) + b"\1"
# Where in a header something is: link source, and sender addresses of ARP, IPv4 and IPv6.
_ETHER_SOURCE, _ETHER_TYPE = (LINK_HEADER, 6, 6), (LINK_HEADER, 12, 2)
_ARP_SENDER_MAC, _ARP_SENDER_IP = (NETWORK_HEADER, 8, 6), (NETWORK_HEADER, 14, 4)
_IPV4_SOURCE, _IPV4_DESTINATION = (NETWORK_HEADER, 12, 4), (NETWORK_HEADER, 16, 4)
_IPV6_SOURCE, _IPV6_DESTINATION = (NETWORK_HEADER, 8, 16), (NETWORK_HEADER, 24, 16)
_SOURCE_PORT, _DESTINATION_PORT = (TRANSPORT_HEADER, 0, 2), (TRANSPORT_HEADER, 2, 2)
_ICMPV6_TYPE, _ADVERTISED_ADDRESS = (TRANSPORT_HEADER, 0, 1), (TRANSPORT_HEADER, 8, 16)


def _load(place: tuple[int, int, int], register: int = 0) -> bytes:
    return load_payload(*place, register)


def _is_loopback4(place: tuple[int, int, int], *, is_inverted: bool = False) -> tuple[bytes, ...]:
    """Go on if an address of an IPv4 packet is in 127.0.0.0/8 (inverted: is elsewhere)."""
    loopback, mask = _LOOPBACK4
    is_loopback = equals(loopback, is_inverted=is_inverted)
    return (*is_family(IPV4), _load(place), mask_bits(mask), is_loopback)


def main_table(table: str) -> list[bytes]:
    """For what passes through the host."""

    def rule(chain: str, *expressions: bytes) -> bytes:
        return add_rule(INET, table, chain, *expressions)

    def chain(name: str, kind: str, hook: int, priority: int) -> bytes:
        return add_chain(INET, table, name, kind=kind, hook=hook, priority=priority)

    names = [INTERFACE_NAME]
    made = [
        add_table(INET, table),
        add_set(INET, table, BRIDGES, 1, key=names),
        add_set(INET, table, INTERNAL, 2, key=names),
        add_set(INET, table, SAME, 3, key=names * 2),
        add_set(INET, table, SUBNETS4, 4, key=[IPV4_ADDRESS], has_intervals=True),
        add_set(INET, table, SUBNETS6, 5, key=[IPV6_ADDRESS], has_intervals=True),
        add_set(
            INET, table, PORTS4, 6, key=[PROTOCOL, PORT], value=[IPV4_ADDRESS, PORT]
        ),
        add_set(
            INET, table, PORTS6, 7, key=[PROTOCOL, PORT], value=[IPV6_ADDRESS, PORT]
        ),
        add_set(
            INET, table, ADDRESS_PORTS4, 8,
            key=[IPV4_ADDRESS, PROTOCOL, PORT], value=[IPV4_ADDRESS, PORT],
        ),
        add_set(
            INET, table, ADDRESS_PORTS6, 9,
            key=[IPV6_ADDRESS, PROTOCOL, PORT], value=[IPV6_ADDRESS, PORT],
        ),
        add_set(
            INET, table, LOOPBACK_PORTS4, 10, key=[PROTOCOL, PORT], value=[IPV4_ADDRESS, PORT]
        ),
        chain("raw", "filter", PREROUTING, _RAW),
        chain("incoming", "nat", PREROUTING, _DESTINATION_NAT),
        chain("own", "nat", OUTPUT, _DESTINATION_NAT),
        chain("forward", "filter", FORWARD, _FILTER),
        chain("outgoing", "nat", POSTROUTING, _SOURCE_NAT),
        # Of the table of an earlier version, in the same step.
        *(
            empty_chain(INET, table, name)
            for name in ("raw", "incoming", "own", "forward", "outgoing")
        ),
    ]  # fmt: skip
    to_bridge = (load_meta(OUTPUT_NAME), is_in(BRIDGES))
    # A bridge by which 127.0.0.1 leads to published ports has route_localnet, and would take
    # whatever says that it is for the loopback, or from it (CVE-2020-8558). No wire carries these
    # addresses. Answers have them only after the translation back, which comes later than this; the
    # address of a device itself, as a VRF has it, goes on.
    made += [
        rule(
            "raw", *_is_loopback4(place), load_meta(INPUT_NAME),
            equals(interface_key("lo"), is_inverted=True),
            *is_not_of_input(is_source=place == _IPV4_SOURCE), decide(DROP),
        )
        for place in (_IPV4_DESTINATION, _IPV4_SOURCE)
    ]  # fmt: skip
    # Published ports, of one address of the host's or of every one.
    made += [
        rule(name, *_redirection(family, is_any=is_any, is_own=name == "own"))
        for name in ("incoming", "own")
        for family in (IPV4, IPV6)
        for is_any in (False, True)
    ]
    # The loopback addresses have a map of their own: not every bridge takes what comes from there.
    made.append(
        rule(
            "own", *_is_loopback4(_IPV4_DESTINATION), load_meta(LAYER4_PROTOCOL),
            _load(_DESTINATION_PORT, 1), look_up(LOOPBACK_PORTS4),
            redirect(IPV4, address=0, port=1),
        )
    )  # fmt: skip
    drop, accept = decide(DROP), decide(ACCEPT)
    made += [
        rule("forward", *connection_has_state(ESTABLISHED_OR_RELATED), accept),
        # Bridged traffic comes by here when the host has br_netfilter.
        rule(
            "forward", load_meta(INPUT_NAME), load_meta(OUTPUT_NAME, _NAME_REGISTERS),
            is_in(SAME), accept,
        ),
        rule("forward", load_meta(INPUT_NAME), is_in(INTERNAL), drop),
        rule("forward", load_meta(OUTPUT_NAME), is_in(INTERNAL), drop),
        rule("forward", *to_bridge, *connection_was_redirected(), accept),
        # Between networks, and from outside to what is not published.
        rule("forward", *to_bridge, drop),
    ]  # fmt: skip
    # Nobody could answer the host's loopback: containers see the address of their bridge.
    made.append(rule("outgoing", *_is_loopback4(_IPV4_SOURCE), *to_bridge, masquerade()))
    for family, source, subnets in (
        (IPV4, _IPV4_SOURCE, SUBNETS4),
        (IPV6, _IPV6_SOURCE, SUBNETS6),
    ):
        from_container = (*is_family(family), _load(source), is_in(subnets))
        not_to_bridge = (load_meta(OUTPUT_NAME), is_in(BRIDGES, is_inverted=True))
        made.append(rule("outgoing", *from_container, *not_to_bridge, masquerade()))
        # Who asks for a port that a neighbour, or itself, has published gets the answer through
        # the host, which it asked.
        made.append(rule("outgoing", *from_container, *connection_was_redirected(), masquerade()))
    return made


def _redirection(family: int, *, is_any: bool, is_own: bool) -> tuple[bytes, ...]:
    is_ipv4 = family == IPV4
    destination = _IPV4_DESTINATION if is_ipv4 else _IPV6_DESTINATION
    words = 1 if is_ipv4 else 4
    parts = [*is_for_this_host(), *is_family(family)]
    if is_own and is_any:
        if is_ipv4:
            parts += _is_loopback4(destination, is_inverted=True)
        else:
            # The kernel sends nothing from ::1 elsewhere, and has no setting for it.
            parts += [_load(destination), equals(_LOOPBACK6, is_inverted=True)]
    first = 0
    if not is_any:
        parts.append(_load(destination))
        first = words
    if is_any:
        name = PORTS4 if is_ipv4 else PORTS6
    else:
        name = ADDRESS_PORTS4 if is_ipv4 else ADDRESS_PORTS6
    return (
        *parts,
        load_meta(LAYER4_PROTOCOL, first),
        _load(_DESTINATION_PORT, first + 1),
        look_up(name),
        redirect(family, address=0, port=words),
    )


def guard_table(table: str) -> list[bytes]:
    """For what containers send over a bridge: each only what is its own to send."""
    device = INTERFACE_NAME

    def rule(*expressions: bytes) -> bytes:
        return add_rule(BRIDGE, table, "guard", *expressions)

    def is_type(kind: bytes) -> tuple[bytes, bytes]:
        return _load(_ETHER_TYPE), equals(kind)

    def is_protocol(number: bytes) -> tuple[bytes, bytes]:
        return load_meta(LAYER4_PROTOCOL), equals(number)

    def is_own(
        name: str, mac: tuple[int, int, int], source: tuple[int, int, int]
    ) -> tuple[bytes, ...]:
        mac_place = _NAME_REGISTERS
        return (
            load_meta(INPUT_NAME),
            _load(mac, mac_place),
            _load(source, mac_place + 2),
            is_in(name),
        )

    drop, accept = decide(DROP), decide(ACCEPT)
    ipv6, icmpv6 = is_type(_ETHER_IPV6), is_protocol(_ICMPV6)
    return [
        add_table(BRIDGE, table),
        add_set(BRIDGE, table, GUARDED, 1, key=[device]),
        add_set(BRIDGE, table, GUARD4, 2, key=[device, ETHERNET_ADDRESS, IPV4_ADDRESS]),
        add_set(BRIDGE, table, GUARD6, 3, key=[device, ETHERNET_ADDRESS, IPV6_ADDRESS]),
        add_chain(
            BRIDGE, table, "guard", kind="filter", hook=PREROUTING, priority=_RAW
        ),
        # Most of what there is, first.
        rule(
            *is_type(_ETHER_IPV4), load_meta(LAYER4_PROTOCOL), equals(_TCP),
            *is_own(GUARD4, _ETHER_SOURCE, _IPV4_SOURCE), accept,
        ),
        rule(load_meta(INPUT_NAME), is_in(GUARDED, is_inverted=True), accept),
        rule(
            *is_type(_ETHER_ARP),
            *is_own(GUARD4, _ETHER_SOURCE, _ARP_SENDER_IP),
            *is_own(GUARD4, _ARP_SENDER_MAC, _ARP_SENDER_IP),
            accept,
        ),
        # Nobody in a network gives out addresses or routes in it.
        rule(
            *is_type(_ETHER_IPV4), *is_protocol(_UDP), _load(_SOURCE_PORT),
            equals(_DHCP_SERVER), drop,
        ),
        rule(*is_type(_ETHER_IPV4), *is_own(GUARD4, _ETHER_SOURCE, _IPV4_SOURCE), accept),
        rule(*ipv6, *is_protocol(_UDP), _load(_SOURCE_PORT), equals(_DHCPV6_SERVER), drop),
        rule(*ipv6, *icmpv6, _load(_ICMPV6_TYPE), equals(_ROUTER_ADVERTISEMENT), drop),
        rule(*ipv6, *icmpv6, _load(_ICMPV6_TYPE), equals(_REDIRECT), drop),
        rule(
            *ipv6, *icmpv6, _load(_ICMPV6_TYPE), equals(_NEIGHBOUR_ADVERTISEMENT),
            *is_own(GUARD6, _ETHER_SOURCE, _IPV6_SOURCE),
            *is_own(GUARD6, _ETHER_SOURCE, _ADVERTISED_ADDRESS), accept,
        ),
        rule(
            *ipv6, *icmpv6, _load(_ICMPV6_TYPE), equals(_NEIGHBOUR_ADVERTISEMENT), drop,
        ),
        rule(*ipv6, *is_own(GUARD6, _ETHER_SOURCE, _IPV6_SOURCE), accept),
        # Whatever else there is, VLAN tags among it, would hide what is inside.
        rule(drop),
    ]  # fmt: skip
