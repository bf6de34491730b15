"""Records of volumes, and of which container has which.

The database itself keeps them apart: a volume that a container has cannot be deleted, and a
container cannot get one that is gone, whoever asks at the same time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engine.errors import VolumeInUseError, VolumeNotFoundError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from engine.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """One volume.

    Attributes:
        created_at: Seconds since the epoch.
        is_anonymous: Made for one container, without a name of its own.
    """

    name: str
    created_at: float
    is_anonymous: bool
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUser:
    """A container that has a volume."""

    volume_name: str
    container_id: str
    container_name: str


class VolumeRecords:
    """Queries on volumes; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, volume: VolumeRecord) -> None:
        """Add a volume that no container has yet."""
        await self._database.write(lambda connection: insert_volumes(connection, (volume,)))

    async def get(self, name: str) -> VolumeRecord | None:
        """Look up by name."""
        return await self._database.read(lambda connection: _get(connection, name))

    async def list_volumes(self) -> tuple[VolumeRecord, ...]:
        """Every volume, by name."""
        return await self._database.read(
            lambda connection: tuple(
                _record(row) for row in connection.execute(f"{_SELECT} ORDER BY name")
            )
        )

    async def users(self, name: str | None = None) -> tuple[VolumeUser, ...]:
        """Who has a volume, or (None) any."""
        return await self._database.read(lambda connection: _users(connection, name))

    async def delete(self, name: str) -> None:
        """Forget a volume.

        Raises:
            VolumeNotFoundError: There is none.
            VolumeInUseError: Containers have it.
        """
        await self._database.write(lambda connection: _delete(connection, name))


_SELECT = "SELECT name, created_at, is_anonymous, labels FROM volumes"


def insert_volumes(connection: sqlite3.Connection, volumes: Iterable[VolumeRecord]) -> None:
    """Add volumes, in the caller's transaction."""
    connection.executemany(
        "INSERT INTO volumes (name, created_at, is_anonymous, labels) VALUES (?, ?, ?, ?)",
        [
            (volume.name, volume.created_at, int(volume.is_anonymous), json.dumps(volume.labels))
            for volume in volumes
        ],
    )


def give_volumes(connection: sqlite3.Connection, container_id: str, names: Iterable[str]) -> None:
    """Note which volumes a container has, in the transaction that adds the container.

    Raises:
        VolumeNotFoundError: One was removed meanwhile.
    """
    for name in dict.fromkeys(names):
        if _get(connection, name) is None:
            raise VolumeNotFoundError(name)
        connection.execute(
            "INSERT INTO container_volumes (container_id, volume_name) VALUES (?, ?)",
            (container_id, name),
        )


def delete_unused(connection: sqlite3.Connection, names: Iterable[str]) -> tuple[str, ...]:
    """Forget those of these volumes that no container has, in the caller's transaction."""
    return tuple(
        name
        for name in names
        if connection.execute(
            "DELETE FROM volumes WHERE name = ? AND NOT EXISTS "
            "(SELECT 1 FROM container_volumes WHERE volume_name = ?)",
            (name, name),
        ).rowcount
    )


def _get(connection: sqlite3.Connection, name: str) -> VolumeRecord | None:
    row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    return _record(row) if row is not None else None


def _users(connection: sqlite3.Connection, name: str | None) -> tuple[VolumeUser, ...]:
    rows = connection.execute(
        "SELECT volume_name, container_id, containers.name FROM container_volumes "
        "JOIN containers USING (container_id) WHERE ? IS NULL OR volume_name = ? "
        "ORDER BY volume_name, containers.name",
        (name, name),
    )
    return tuple(
        VolumeUser(volume_name=row[0], container_id=row[1], container_name=row[2]) for row in rows
    )


def _delete(connection: sqlite3.Connection, name: str) -> None:
    if _get(connection, name) is None:
        raise VolumeNotFoundError(name)
    if users := _users(connection, name):
        raise VolumeInUseError(name, container_ids=tuple(user.container_id for user in users))
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))


def _record(row: tuple[str, float, int, str]) -> VolumeRecord:
    return VolumeRecord(
        name=row[0],
        created_at=row[1],
        is_anonymous=bool(row[2]),
        labels=tuple((key, value) for key, value in json.loads(row[3])),
    )
