"""The tables of rules of a store on the host: what they say, and whether they are whole.

Two tables with the store's name, one for what passes through the host (`inet`), one for what
passes over a bridge (`bridge`). Rules never change: they look up sets, to which a network adds its
bridge and its subnets, and a container its addresses and ports (`engine.runtime.network_rules`).
Tables of others are not touched.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, SyscallError
from engine.linux.netfilter import (
    BRIDGE,
    INET,
    Element,
    add_elements,
    delete_elements,
    has_set,
    has_table,
    interface_key,
    list_elements,
    transaction,
    trial,
)
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network.planning import MASQUERADE_OPTION
from engine.network.stores import store_mark
from engine.network.tables import (
    BRIDGES,
    INTERNAL,
    NEWEST_SET,
    SAME,
    SUBNETS4,
    SUBNETS6,
    guard_table,
    main_table,
)
from engine.runtime.network_rules import SETS, container_elements, in_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from engine.runtime.spec import NetworkSpec
    from engine.types import Network

TABLE = "lamella"


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
        """Whether both tables are there and as this version has them.

        The one for bridges is not to be had everywhere.

        Raises:
            FeatureUnavailableError: The kernel has no netfilter.
        """
        with self._open() as connection:
            return has_set(connection, INET, self.table, NEWEST_SET) and (
                bool(self.guard_problem) or has_table(connection, BRIDGE, self.table)
            )

    def make(self, networks: Iterable[Network]) -> None:
        """Make the tables that are not there, for these networks; one of an earlier version is
        given the rules of this one, in one step, and keeps its elements.

        Raises:
            FeatureUnavailableError: The kernel cannot do it, or this process may not.
        """
        with self._open() as connection:
            if not has_set(connection, INET, self.table, NEWEST_SET):
                self._make_main_table(connection, self.table)
            if not has_table(connection, BRIDGE, self.table):
                try:
                    connection.execute(transaction(guard_table(self.table)), what="guard bridges")
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
                connection.execute(trial(guard_table(name)), what="guard bridges")
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
            connection.execute(step(main_table(name)), what="make network rules")
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
    found = {BRIDGES: [Element(device)], SAME: [Element(device + device)]}
    if network.is_internal:
        found[INTERNAL] = [Element(device)]
    elif dict(network.options).get(MASQUERADE_OPTION) != "false":
        for one in network.subnets:
            subnet = ipaddress.ip_network(one.subnet)
            size = len(subnet.network_address.packed)
            behind = (int(subnet.broadcast_address) + 1).to_bytes(size + 1, "big")[1:]
            found[SUBNETS4 if subnet.version == 4 else SUBNETS6] = [
                Element(subnet.network_address.packed),
                Element(behind, is_end=True),
            ]
    return found
