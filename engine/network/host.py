"""What of the host concerns networks: its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.netlink import ROUTE, NetlinkSocket
from engine.linux.routes import list_routed_subnets

if TYPE_CHECKING:
    from engine.network.subnets import IPSubnet


def routed_subnets() -> tuple[IPSubnet, ...]:
    """Where the host's routes lead, of whatever table; nowhere if it does not say. Blocking."""
    try:
        with NetlinkSocket(ROUTE) as connection:
            return tuple(subnet for subnet, _index in list_routed_subnets(connection))
    except (SyscallError, OSError):
        return ()
