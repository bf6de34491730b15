"""What of the host concerns networks: its routes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.netlink import ROUTE, NetlinkSocket
from engine.linux.routes import list_routes

if TYPE_CHECKING:
    from engine.network.subnets import IPSubnet


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
