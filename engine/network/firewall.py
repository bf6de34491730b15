"""The tables of rules of a store on the host: what they say, and whether they are whole.

Two tables with the store's name, one for what passes through the host (`inet`), one for what
passes over a bridge (`bridge`). Rules never change: they look up sets, to which a network adds its
bridge and its subnets, and a container its addresses and ports (`engine.runtime.network_rules`).
Tables of others are not touched.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, SyscallError
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
    Element,
    add_chain,
    add_elements,
    add_rule,
    add_set,
    add_table,
    connection_has_state,
    connection_was_redirected,
    decide,
    delete_elements,
    equals,
    has_table,
    interface_key,
    is_family,
    is_for_this_host,
    is_in,
    list_elements,
    load_meta,
    load_payload,
    look_up,
    mask_bits,
    masquerade,
    redirect,
    transaction,
    trial,
)
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network.planning import MASQUERADE_OPTION
from engine.network.stores import store_mark
from engine.runtime.network_rules import (
    ADDRESS_PORTS4,
    ADDRESS_PORTS6,
    GUARD4,
    GUARD6,
    GUARDED,
    PORTS4,
    PORTS6,
    SETS,
    container_elements,
    in_parts,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from engine.runtime.spec import NetworkSpec
    from engine.types import Network

TABLE = "lamella"
_BRIDGES, _INTERNAL, _SAME = "bridges", "internal", "same"
_SUBNETS4, _SUBNETS6 = "subnets4", "subnets6"
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


def table_name(root: Path) -> str:
    """The name of a store's tables: several stores of one host have one each."""
    mark = store_mark(root)
    return f"{TABLE}_{mark.hex()[:12]}" if mark else TABLE


class Firewall:
    """The tables of one store; everything blocks."""

    def __init__(self, root: Path) -> None:
        self.table = table_name(root)
        self.guard_problem = ""
        """Why containers of one bridge can pretend to be each other; empty if they cannot."""

    def is_there(self) -> bool:
        """Whether the tables are there; somebody may have flushed all rules of the host.

        Raises:
            FeatureUnavailableError: The kernel has no netfilter.
        """
        with self._open() as connection:
            return has_table(connection, INET, self.table)

    def is_whole(self) -> bool:
        """Whether both tables are there, or one is and the other is not to be had.

        Raises:
            FeatureUnavailableError: The kernel has no netfilter.
        """
        with self._open() as connection:
            return has_table(connection, INET, self.table) and (
                bool(self.guard_problem) or has_table(connection, BRIDGE, self.table)
            )

    def make(self, networks: Iterable[Network]) -> None:
        """Make the tables that are not there, for these networks.

        Raises:
            FeatureUnavailableError: The kernel cannot do it, or this process may not.
        """
        with self._open() as connection:
            if not has_table(connection, INET, self.table):
                self._make_main_table(connection, self.table)
            if not has_table(connection, BRIDGE, self.table):
                try:
                    connection.execute(transaction(_guard_table(self.table)), what="guard bridges")
                except SyscallError as error:
                    self.guard_problem = str(error)
            for network in networks:
                self._add_network(connection, network)

    def try_out(self) -> str:
        """Have the kernel check the tables of a store, without having them.

        Returns:
            Why the guard of bridges is not to be had; empty if it is.

        Raises:
            FeatureUnavailableError: The kernel cannot do the rest, or this process may not.
        """
        with self._open() as connection:
            name = f"{self.table}_trial"
            self._make_main_table(connection, name, is_trial=True)
            try:
                connection.execute(trial(_guard_table(name)), what="guard bridges")
            except SyscallError as error:
                return str(error)
        return ""

    def add_network(self, network: Network) -> None:
        """Let a bridge's containers out, and keep them from those of others.

        Raises:
            SyscallError: The kernel refuses.
        """
        with self._open() as connection:
            self._add_network(connection, network)

    def _add_network(self, connection: NetlinkSocket, network: Network) -> None:
        connection.execute(
            transaction(
                add_elements(INET, self.table, name, elements, is_exclusive=False)
                for name, elements in _network_elements(network).items()
            ),
            what=f"let network {network.name} out",
        )

    def restore(
        self, container_id: str, spec: NetworkSpec, present: Collection[tuple[int, str, Element]]
    ) -> None:
        """Give a container that runs the elements that it has lost.

        Raises:
            SyscallError: The kernel refuses.
        """
        elements = container_elements(container_id, spec.interfaces, spec.ports)
        lost = [
            add_elements(family, self.table, name, part, is_exclusive=False)
            for (family, name), listed in elements.items()
            for part in in_parts([one for one in listed if (family, name, one) not in present])
        ]
        if lost:
            with self._open() as connection:
                connection.execute(transaction(lost), what="restore network rules")

    def remove_network(self, network: Network) -> None:
        """The opposite; what is gone already is no error."""
        with self._open() as connection:
            for name, elements in _network_elements(network).items():
                # Each by itself: one that is gone would keep the others.
                connection.execute_each(
                    transaction((delete_elements(INET, self.table, name, elements),)),
                    what=f"forget network {network.name}",
                )

    def owners(self) -> dict[str, set[tuple[int, str, Element]]]:
        """The elements that containers have in the sets, by container id."""
        found: dict[str, set[tuple[int, str, Element]]] = {}
        with self._open() as connection:
            for family, name in SETS:
                for element in list_elements(connection, family, self.table, name):
                    found.setdefault(element.owner, set()).add((family, name, element))
        return found

    def remove_elements(self, elements: Collection[tuple[int, str, Element]]) -> None:
        """Take elements out of the sets; those that are gone are no error."""
        with self._open() as connection:
            for family, name, element in elements:
                connection.execute_each(
                    transaction((delete_elements(family, self.table, name, (element,)),)),
                    what="remove what an ended container left",
                )

    def _open(self) -> NetlinkSocket:
        try:
            return NetlinkSocket(NETFILTER)
        except OSError:
            raise FeatureUnavailableError(
                "a network",
                "the kernel has no netfilter",
                remedy="Use a kernel with CONFIG_NF_TABLES, or run with --network host or none",
            ) from None

    def _make_main_table(
        self, connection: NetlinkSocket, name: str, *, is_trial: bool = False
    ) -> None:
        step = trial if is_trial else transaction
        try:
            connection.execute(step(_main_table(name)), what="make network rules")
        except SyscallError as error:
            raise FeatureUnavailableError(
                "a network",
                str(error),
                remedy="It takes root, and a kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, "
                "CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET and CONFIG_NFT_CT; else run with "
                "--network host or none",
            ) from error


def _network_elements(network: Network) -> dict[str, list[Element]]:
    device = interface_key(network.bridge)
    found = {_BRIDGES: [Element(device)], _SAME: [Element(device + device)]}
    if network.is_internal:
        found[_INTERNAL] = [Element(device)]
    elif dict(network.options).get(MASQUERADE_OPTION) != "false":
        for one in network.subnets:
            subnet = ipaddress.ip_network(one.subnet)
            size = len(subnet.network_address.packed)
            behind = (int(subnet.broadcast_address) + 1).to_bytes(size + 1, "big")[1:]
            found[_SUBNETS4 if subnet.version == 4 else _SUBNETS6] = [
                Element(subnet.network_address.packed),
                Element(behind, is_end=True),
            ]
    return found


# --- the rules ----------------------------------------------------------------------------------


def _load(place: tuple[int, int, int], register: int = 0) -> bytes:
    return load_payload(*place, register)


def _main_table(table: str) -> list[bytes]:
    """For what passes through the host."""

    def rule(chain: str, *expressions: bytes) -> bytes:
        return add_rule(INET, table, chain, *expressions)

    def chain(name: str, kind: str, hook: int, priority: int) -> bytes:
        return add_chain(INET, table, name, kind=kind, hook=hook, priority=priority)

    names = [INTERFACE_NAME]
    made = [
        add_table(INET, table),
        add_set(INET, table, _BRIDGES, 1, key=names),
        add_set(INET, table, _INTERNAL, 2, key=names),
        add_set(INET, table, _SAME, 3, key=names * 2),
        add_set(INET, table, _SUBNETS4, 4, key=[IPV4_ADDRESS], has_intervals=True),
        add_set(INET, table, _SUBNETS6, 5, key=[IPV6_ADDRESS], has_intervals=True),
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
        chain("raw", "filter", PREROUTING, _RAW),
        chain("incoming", "nat", PREROUTING, _DESTINATION_NAT),
        chain("own", "nat", OUTPUT, _DESTINATION_NAT),
        chain("forward", "filter", FORWARD, _FILTER),
        chain("outgoing", "nat", POSTROUTING, _SOURCE_NAT),
    ]  # fmt: skip
    from_bridge = (load_meta(INPUT_NAME), is_in(_BRIDGES))
    to_bridge = (load_meta(OUTPUT_NAME), is_in(_BRIDGES))
    # What listens on the host's loopback is not for containers, whatever route_localnet says
    # (CVE-2020-8558).
    loopback, mask = _LOOPBACK4
    made.append(
        rule(
            "raw", *is_family(IPV4), _load(_IPV4_DESTINATION), mask_bits(mask),
            equals(loopback), *from_bridge, decide(DROP),
        )
    )  # fmt: skip
    # Published ports, of one address of the host's or of every one.
    made += [
        rule(name, *_redirection(family, is_any=is_any, is_own=name == "own"))
        for name in ("incoming", "own")
        for family in (IPV4, IPV6)
        for is_any in (False, True)
    ]
    drop, accept = decide(DROP), decide(ACCEPT)
    made += [
        rule("forward", *connection_has_state(ESTABLISHED_OR_RELATED), accept),
        # Bridged traffic comes by here when the host has br_netfilter.
        rule(
            "forward", load_meta(INPUT_NAME), load_meta(OUTPUT_NAME, _NAME_REGISTERS),
            is_in(_SAME), accept,
        ),
        rule("forward", load_meta(INPUT_NAME), is_in(_INTERNAL), drop),
        rule("forward", load_meta(OUTPUT_NAME), is_in(_INTERNAL), drop),
        rule("forward", *to_bridge, *connection_was_redirected(), accept),
        # Between networks, and from outside to what is not published.
        rule("forward", *to_bridge, drop),
    ]  # fmt: skip
    for family, source, subnets in (
        (IPV4, _IPV4_SOURCE, _SUBNETS4),
        (IPV6, _IPV6_SOURCE, _SUBNETS6),
    ):
        from_container = (*is_family(family), _load(source), is_in(subnets))
        not_to_bridge = (load_meta(OUTPUT_NAME), is_in(_BRIDGES, is_inverted=True))
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
    if is_own and is_ipv4:
        # The loopback addresses are the proxy's: the kernel sends nothing from them elsewhere.
        loopback, mask = _LOOPBACK4
        parts += [_load(destination), mask_bits(mask), equals(loopback, is_inverted=True)]
    elif is_own:
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


def _guard_table(table: str) -> list[bytes]:
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
