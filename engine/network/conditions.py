"""What of the host keeps containers from the network, each with what to do about it; blocking."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.netfilter import DROP, FORWARD, INET, IPV4, IPV6, list_base_chains
from engine.linux.netlink import NETFILTER, ROUTE, NetlinkSocket
from engine.linux.routes import list_routes
from engine.network.subnets import is_wide, parse_subnet

if TYPE_CHECKING:
    from engine.types import Network

_FAMILY_NAMES = {IPV4: "ip", IPV6: "ip6", INET: "inet"}
_DOCKER_CHAINS = "DOCKER-USER"


def forwarding_conditions(own_table: str) -> tuple[str, ...]:
    """Rules of others that drop what containers send and get; one sentence each."""
    with contextlib.suppress(SyscallError, OSError), NetlinkSocket(NETFILTER) as connection:
        return tuple(
            dict.fromkeys(
                f"The table {_FAMILY_NAMES[chain.family]} {chain.table} drops what the host "
                "forwards, and so what containers send: let it through there (with Docker: "
                f"`iptables -I {_DOCKER_CHAINS} -i lm-+ -j ACCEPT` and the same with -o)"
                for chain in list_base_chains(connection)
                if chain.hook == FORWARD
                and chain.policy == DROP
                and chain.family in _FAMILY_NAMES
                and chain.table != own_table
            )
        )
    return ()


def route_conditions(network: Network) -> tuple[str, ...]:
    """Routes of the host that take what is for a network's containers elsewhere."""
    subnets = [parse_subnet(one.subnet) for one in network.subnets]
    told = []
    with contextlib.suppress(SyscallError, OSError), NetlinkSocket(ROUTE) as connection:
        names = dict(socket.if_nameindex())
        for route in list_routes(connection):
            device = names.get(route.link_index, "")
            destination = ipaddress.ip_network((route.destination, route.length), strict=False)
            if device == network.bridge or is_wide(destination):
                continue
            told += [
                f"The host has a route to {destination} by {device or 'another way'}, as a VPN "
                f"sets it, which overlaps {subnet}: make the network again with another --subnet"
                for subnet in subnets
                if subnet.version == destination.version and subnet.overlaps(destination)
            ]
    return tuple(dict.fromkeys(told))
