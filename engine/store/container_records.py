"""Records of containers: what does not change while one runs, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import AmbiguousReferenceError, ContainerNotFoundError, NameInUseError
from engine.late_dataclasses import dataclass
from engine.store.volume_records import delete_unused, give_volumes, insert_volumes
from engine.types import ChainId, ContainerId, ImageId

if TYPE_CHECKING:
    import sqlite3

    from engine.store.database import Database
    from engine.store.volume_records import VolumeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container.

    Attributes:
        container_id: 64 hexadecimal digits.
        name: Without Docker's leading slash.
        image_id: The image it was made of.
        image_name: What that was called by whoever made it.
        chain_id: Of the image's topmost layer; keeps the layers from being deleted.
        created_at: Seconds since the epoch.
        is_removed_on_exit: Made with `--rm`.
        config: JSON of whoever makes containers; not looked into here.
        volume_names: What it has from then on; written when it is added, not read again.
    """

    container_id: ContainerId
    name: str
    image_id: ImageId
    image_name: str
    chain_id: ChainId
    created_at: float
    is_removed_on_exit: bool
    config: str
    volume_names: tuple[str, ...] = ()


class ContainerRecords:
    """Queries on containers; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self, container: ContainerRecord, *, new_volumes: tuple[VolumeRecord, ...] = ()
    ) -> None:
        """Add a container, and in the same step the volumes that are made for it.

        Raises:
            NameInUseError: Another one has its name; carries the id of the holder.
            VolumeNotFoundError: A volume that it is to have was removed meanwhile.
        """
        await self._database.write(lambda connection: _insert(connection, container, new_volumes))

    async def rename(self, container_id: str, name: str) -> str:
        """Give a container another name; returns the old one.

        Raises:
            NameInUseError: Another one has the name.
            ContainerNotFoundError: It was removed meanwhile.
        """
        return await self._database.write(
            lambda connection: _rename(connection, container_id, name)
        )

    async def replace_config(self, container_id: str, config: str) -> None:
        """Write a container's config again.

        Raises:
            ContainerNotFoundError: It was removed meanwhile.
        """
        await self._database.write(
            lambda connection: _replace_config(connection, container_id, config)
        )

    async def delete(self, container_id: str) -> bool:
        """Forget a container; False when somebody else was faster."""
        return await self._database.write(lambda connection: _delete(connection, container_id))

    async def delete_with_volumes(
        self, container_id: str, volume_names: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Forget a container and, in the same step, those volumes that no other one has.

        Returns:
            The volumes that are forgotten.
        """

        def delete(connection: sqlite3.Connection) -> tuple[str, ...]:
            _delete(connection, container_id)
            return delete_unused(connection, volume_names)

        return await self._database.write(delete)

    async def list_containers(self) -> tuple[ContainerRecord, ...]:
        """Every container, newest first."""
        return await self._database.read(
            lambda connection: tuple(
                _record(row)
                for row in connection.execute(f"{_SELECT} ORDER BY created_at DESC, container_id")
            )
        )

    async def of_image(self, image_id: str) -> tuple[ContainerRecord, ...]:
        """The containers made of an image, newest first."""
        return await self._database.read(
            lambda connection: tuple(
                _record(row)
                for row in connection.execute(
                    f"{_SELECT} WHERE image_id = ? ORDER BY created_at DESC", (image_id,)
                )
            )
        )

    async def find(self, reference: str) -> ContainerRecord:
        """Resolve a whole id, a name or the beginning of an id, in Docker's order.

        Raises:
            ContainerNotFoundError: Nothing matches.
            AmbiguousReferenceError: The beginning matches several ids.
        """
        return await self._database.read(lambda connection: _find(connection, reference))

    async def count(self) -> int:
        """How many containers there are."""
        return await self._database.read(
            lambda connection: int(
                connection.execute("SELECT count(*) FROM containers").fetchone()[0]
            )
        )


_SELECT = (
    "SELECT container_id, name, image_id, image_name, chain_id, created_at, is_removed_on_exit, "
    "config FROM containers"
)


def _insert(
    connection: sqlite3.Connection,
    container: ContainerRecord,
    new_volumes: tuple[VolumeRecord, ...],
) -> None:
    _require_free(connection, container.name)
    connection.execute(
        "INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            container.container_id,
            container.name,
            container.image_id,
            container.image_name,
            container.chain_id,
            container.created_at,
            int(container.is_removed_on_exit),
            container.config,
        ),
    )
    if container.volume_names:
        insert_volumes(connection, new_volumes)
        give_volumes(connection, container.container_id, container.volume_names)


def _delete(connection: sqlite3.Connection, container_id: str) -> bool:
    connection.execute("DELETE FROM network_leases WHERE container_id = ?", (container_id,))
    done = connection.execute("DELETE FROM containers WHERE container_id = ?", (container_id,))
    return done.rowcount > 0


def _rename(connection: sqlite3.Connection, container_id: str, name: str) -> str:
    row = connection.execute(
        "SELECT name FROM containers WHERE container_id = ?", (container_id,)
    ).fetchone()
    if row is None:
        raise ContainerNotFoundError(container_id)
    old_name: str = row[0]
    _require_free(connection, name)
    connection.execute(
        "UPDATE containers SET name = ? WHERE container_id = ?", (name, container_id)
    )
    return old_name


def _replace_config(connection: sqlite3.Connection, container_id: str, config: str) -> None:
    done = connection.execute(
        "UPDATE containers SET config = ? WHERE container_id = ?", (config, container_id)
    )
    if not done.rowcount:
        raise ContainerNotFoundError(container_id)


def _require_free(connection: sqlite3.Connection, name: str) -> None:
    # Inside BEGIN IMMEDIATE nobody else writes: what is free here stays free until COMMIT.
    row = connection.execute(
        "SELECT container_id FROM containers WHERE name = ?", (name,)
    ).fetchone()
    if row is not None:
        raise NameInUseError(name, row[0])


def _find(connection: sqlite3.Connection, reference: str) -> ContainerRecord:
    for condition in ("container_id = ?", "name = ?"):
        row = connection.execute(
            f"{_SELECT} WHERE {condition}", (reference.removeprefix("/"),)
        ).fetchone()
        if row is not None:
            return _record(row)
    if not reference:
        raise ContainerNotFoundError(reference)
    rows = connection.execute(
        f"{_SELECT} WHERE substr(container_id, 1, ?) = ? LIMIT 100", (len(reference), reference)
    ).fetchall()
    if not rows:
        raise ContainerNotFoundError(reference)
    if len(rows) > 1:
        raise AmbiguousReferenceError(reference, len(rows))
    return _record(rows[0])


def _record(row: tuple[str, str, str, str, str, float, int, str]) -> ContainerRecord:
    return ContainerRecord(
        container_id=ContainerId(row[0]),
        name=row[1],
        image_id=ImageId(row[2]),
        image_name=row[3],
        chain_id=ChainId(row[4]),
        created_at=row[5],
        is_removed_on_exit=bool(row[6]),
        config=row[7],
    )
