"""Records of networks, and of the addresses in them that containers have.

An address is drawn within one transaction, so that no two containers ever have the same. A lease
stays with its container when that has ended, so that it comes back with the same address; it
counts for nothing from then on, and goes to whoever needs it when no other address is free.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeAlias

from engine.errors import (
    AddressInUseError,
    NetworkNameInUseError,
    NetworkNotFoundError,
    PoolExhaustedError,
)
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from engine.store.database import Database

    LiveCheck = Callable[[str], bool]

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Subnet: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """One network.

    Attributes:
        created_at: Seconds since the epoch.
        subnets: Every one of its subnets, for comparison with those of others.
        config: JSON of whoever makes networks; not looked into here.
    """

    network_id: str
    name: str
    created_at: float
    subnets: tuple[str, ...]
    config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """An address that a container needs.

    Attributes:
        subnet: Where it must be.
        pool: What it is drawn from, in order; a part of the subnet, or all of it.
        reserved: Addresses that nobody gets, such as the gateway's.
        wanted: The one that it is to be; empty for any.
    """

    network_id: str
    subnet: Subnet
    pool: Subnet
    reserved: frozenset[Address]
    wanted: str = ""


class NetworkRecords:
    """Queries on networks; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        decide: Callable[[tuple[NetworkRecord, ...]], tuple[NetworkRecord, ...]],
    ) -> None:
        """Add networks, all or none, that are decided on within the transaction.

        Args:
            decide: Is given every network that there is; returns the new ones, or refuses.

        Raises:
            NetworkNameInUseError: There is one of a name.
        """

        def insert(connection: sqlite3.Connection) -> None:
            for record in decide(_list(connection)):
                if connection.execute(
                    "SELECT 1 FROM networks WHERE name = ?", (record.name,)
                ).fetchone():
                    raise NetworkNameInUseError(record.name)
                connection.execute(
                    "INSERT INTO networks VALUES (?, ?, ?, ?, ?)",
                    (
                        record.network_id,
                        record.name,
                        record.created_at,
                        " ".join(record.subnets),
                        record.config,
                    ),
                )

        await self._database.write(insert)

    async def list_networks(self) -> tuple[NetworkRecord, ...]:
        """Every network, by name."""
        return await self._database.read(_list)

    async def delete(self, network_id: str) -> None:
        """Forget a network and the addresses in it.

        Raises:
            NetworkNotFoundError: There is none.
        """

        def delete(connection: sqlite3.Connection) -> None:
            done = connection.execute("DELETE FROM networks WHERE network_id = ?", (network_id,))
            if not done.rowcount:
                raise NetworkNotFoundError(network_id)

        await self._database.write(delete)

    async def lease(
        self, container_id: str, requests: tuple[LeaseRequest, ...], *, is_live: LiveCheck
    ) -> tuple[str, ...]:
        """Give a container its addresses, all or none; those that it has already stay.

        Args:
            container_id: Who gets them.
            requests: What it needs.
            is_live: Whether another container still uses what it has; blocking.

        Returns:
            An address for each request.

        Raises:
            AddressInUseError: A container that lives has the address that is wanted.
            PoolExhaustedError: Every address is in use.
        """
        known = await self._database.read(
            lambda connection: tuple(_kept(connection, container_id, one) for one in requests)
        )
        if all(known):
            return known
        return await self._database.write(
            lambda connection: lease_addresses(connection, container_id, requests, is_live)
        )

    async def release_all(self, holder: str) -> None:
        """Take every address from a container, or from a build, which has no record."""
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM network_leases WHERE container_id = ?", (holder,)
            )
        )

    async def release_abandoned(self, *, is_live: LiveCheck) -> None:
        """Take every address from those who have no record and do not live: killed builds.

        Args:
            is_live: As `lease` has it.
        """

        def holders(connection: sqlite3.Connection) -> tuple[str, ...]:
            rows = connection.execute(
                "SELECT DISTINCT container_id FROM network_leases "
                "WHERE container_id NOT IN (SELECT container_id FROM containers)"
            )
            return tuple(holder for (holder,) in rows)

        def release(connection: sqlite3.Connection) -> None:
            for holder in holders(connection):
                if not is_live(holder):
                    connection.execute(
                        "DELETE FROM network_leases WHERE container_id = ?", (holder,)
                    )

        if await self._database.read(holders):
            await self._database.write(release)

    async def release(self, container_id: str, network_id: str) -> None:
        """Take the addresses in a network from a container."""
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM network_leases WHERE container_id = ? AND network_id = ?",
                (container_id, network_id),
            )
        )


def lease_addresses(
    connection: sqlite3.Connection,
    container_id: str,
    requests: Iterable[LeaseRequest],
    is_live: LiveCheck,
) -> tuple[str, ...]:
    """As `NetworkRecords.lease`, in the caller's transaction."""
    return tuple(_lease(connection, container_id, request, is_live) for request in requests)


def _list(connection: sqlite3.Connection) -> tuple[NetworkRecord, ...]:
    return tuple(
        NetworkRecord(
            network_id=row[0],
            name=row[1],
            created_at=row[2],
            subnets=tuple(row[3].split()),
            config=row[4],
        )
        for row in connection.execute(
            "SELECT network_id, name, created_at, subnets, config FROM networks ORDER BY name"
        )
    )


def _kept(connection: sqlite3.Connection, container_id: str, request: LeaseRequest) -> str:
    """The address that a container has already for a request, or nothing."""
    for (address,) in connection.execute(
        "SELECT address FROM network_leases WHERE network_id = ? AND container_id = ?",
        (request.network_id, container_id),
    ):
        is_fitting = address == request.wanted if request.wanted else True
        if is_fitting and ipaddress.ip_address(address) in request.subnet:
            return str(address)
    return ""


def _lease(
    connection: sqlite3.Connection, container_id: str, request: LeaseRequest, is_live: LiveCheck
) -> str:
    if kept := _kept(connection, container_id, request):
        return kept
    holders = {
        ipaddress.ip_address(address): holder
        for address, holder in connection.execute(
            "SELECT address, container_id FROM network_leases WHERE network_id = ?",
            (request.network_id,),
        )
    }
    if request.wanted:
        address = ipaddress.ip_address(request.wanted)
        holder = holders.get(address)
        if address in request.reserved or (holder is not None and is_live(holder)):
            raise AddressInUseError(request.wanted)
    else:
        address = _first_free(request, holders, is_live)
    connection.execute(
        "INSERT OR REPLACE INTO network_leases (network_id, address, container_id) "
        "VALUES (?, ?, ?)",
        (request.network_id, str(address), container_id),
    )
    return str(address)


def _first_free(request: LeaseRequest, holders: dict[Address, str], is_live: LiveCheck) -> Address:
    pool = request.pool
    first, last = pool.network_address, pool.broadcast_address
    for number in range(int(first), int(last) + 1):
        address = first + (number - int(first))
        if address not in holders and address not in request.reserved:
            return address
    # All are taken: those of containers that have ended go first.
    for address, holder in holders.items():
        if address in pool and address not in request.reserved and not is_live(holder):
            return address
    raise PoolExhaustedError(str(request.subnet))
