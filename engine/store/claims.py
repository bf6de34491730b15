"""Claims: which layers and blobs work in progress counts on, though no image leads to them yet.

A claim is a chain id or a blob's digest with its holder: the name of a claim of the staging area,
whose lock says whether the holder is alive. What a dead holder claimed counts for nothing, so no
claim waits for the disk.

Who claims holds the image lock, shared, from before the claim until it has looked what is there:
so a collector, which holds it exclusively, has either seen the claim or already removed the thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import ChainId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from engine.store.database import Database


class ClaimRecords:
    """Queries on claims; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, holder: str, digests: Iterable[str]) -> None:
        """Claim chain ids and digests of blobs, whether they are here or not."""
        rows = [(holder, digest) for digest in digests]
        if rows:
            await self._database.write_soon(lambda connection: _insert(connection, rows))

    async def claim_layers(self, holder: str, chain_ids: Iterable[ChainId]) -> frozenset[ChainId]:
        """Claim layers, and tell in the same step which are recorded and not known as damaged."""
        rows: list[tuple[str, str]] = [(holder, chain_id) for chain_id in chain_ids]

        def claim(connection: sqlite3.Connection) -> frozenset[ChainId]:
            _insert(connection, rows)
            return frozenset(
                ChainId(row[0])
                for row in connection.execute(
                    "SELECT chain_id FROM layers JOIN claims ON digest = chain_id WHERE holder = ? "
                    "AND chain_id NOT IN (SELECT chain_id FROM damaged_layers)",
                    (holder,),
                )
            )

        return await self._database.write_soon(claim) if rows else frozenset()

    async def release(self, holder: str) -> None:
        """Give up everything that a holder has claimed."""
        await self._database.write_soon(
            lambda connection: connection.execute("DELETE FROM claims WHERE holder = ?", (holder,))
        )

    async def holders(self) -> tuple[str, ...]:
        """Who has claims, dead or alive."""
        return await self._database.read(
            lambda connection: tuple(
                row[0] for row in connection.execute("SELECT DISTINCT holder FROM claims")
            )
        )

    async def digests_of(self, holders: Iterable[str]) -> frozenset[str]:
        """Everything that some holders have claimed."""
        wanted = frozenset(holders)
        return await self._database.read(
            lambda connection: frozenset(
                digest
                for holder, digest in connection.execute("SELECT holder, digest FROM claims")
                if holder in wanted
            )
        )


def drop_claims(connection: sqlite3.Connection, holders: Iterable[str]) -> None:
    """Forget the claims of dead holders, in the transaction that decides what nobody needs."""
    connection.executemany("DELETE FROM claims WHERE holder = ?", [(holder,) for holder in holders])


def _insert(connection: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    connection.executemany("INSERT INTO claims VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
