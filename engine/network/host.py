"""What of the host concerns networks: its routes, and its own address."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.netlink import ROUTE, NetlinkSocket
from engine.linux.routes import list_routes

if TYPE_CHECKING:
    from engine.network.subnets import IPSubnet

_SOMEBODY = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Nobody has them (RFC 5737, RFC 3849): they stand for whoever is behind the default route."""


def routed_subnets() -> tuple[IPSubnet, ...]:
    """Where the host's routes lead, of whatever table; nowhere if it does not say. Blocking."""
    try:
        with NetlinkSocket(ROUTE) as connection:
            return tuple(
                ipaddress.ip_network((route.destination, route.length), strict=False)
                for route in list_routes(connection)
            )
    except (SyscallError, OSError):
        return ()


def outgoing_address(family: socket.AddressFamily = socket.AF_INET) -> str:
    """The host's address towards others; empty if it has no way out. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as towards:
            towards.connect(_SOMEBODY[family])
            address: str = towards.getsockname()[0]
    except OSError:
        return ""
    return address
