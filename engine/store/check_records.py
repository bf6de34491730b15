"""What a check of the store reads at once, and what it writes down of damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.store.image_records import LAYERS, find_image, layer_of
from engine.types import ChainId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from engine.store.database import Database
    from engine.store.image_records import ImageRecord, LayerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImage:
    """An image with its names."""

    record: ImageRecord
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUser:
    """A container that stands on a layer."""

    container_id: str
    name: str
    chain_id: ChainId
    """Of the topmost layer that it stands on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecords:
    """All of one moment: images, layers, containers, and what the database says of itself."""

    images: tuple[CheckedImage, ...]
    layers: tuple[LayerRecord, ...]
    damaged_chain_ids: frozenset[ChainId]
    containers: tuple[LayerUser, ...]
    complaints: tuple[str, ...]


class CheckRecords:
    """Queries of a check; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_all(self) -> StoreRecords:
        """Everything, in one snapshot; the whole database is looked through for damage."""
        return await self._database.read(_read_all)

    async def forget_blob(self, digest: str) -> None:
        """Note that a compressed layer is no longer kept."""
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE image_layers SET blob_digest = NULL WHERE blob_digest = ?", (digest,)
            )
        )

    async def mark_damaged(self, chain_id: ChainId) -> None:
        """Let a layer count as missing, so that whoever adds its image brings it again."""
        await self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO damaged_layers SELECT chain_id FROM layers WHERE chain_id = ? "
                "ON CONFLICT DO NOTHING",
                (chain_id,),
            )
        )

    async def damaged_of(self, chain_ids: Iterable[ChainId]) -> frozenset[ChainId]:
        """Which of some layers are marked as damaged."""
        wanted = frozenset(chain_ids)
        return await self._database.read(
            lambda connection: wanted.intersection(_damaged(connection))
        )

    async def mend(self, layers: Iterable[LayerRecord]) -> None:
        """Note that layers have been made again."""
        rows = [(layer.size_bytes, layer.entry_count, layer.chain_id) for layer in layers]

        def mend(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE layers SET size_bytes = ?, entry_count = ? WHERE chain_id = ?", rows
            )
            connection.executemany(
                "DELETE FROM damaged_layers WHERE chain_id = ?", [(row[2],) for row in rows]
            )

        await self._database.write(mend)

    async def users_of(self, chain_id: ChainId) -> tuple[LayerUser, ...]:
        """The containers that stand on a layer, or on one above it."""
        return await self._database.read(lambda connection: _users(connection, chain_id))


def _read_all(connection: sqlite3.Connection) -> StoreRecords:
    complaints = [
        str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"
    ]
    complaints += [
        f"a row of {row[0]} points to a row of {row[2]} that is not there"
        for row in connection.execute("PRAGMA foreign_key_check")
    ]
    names: dict[str, list[str]] = {}
    for name, image_id in connection.execute("SELECT name, image_id FROM tags ORDER BY name"):
        names.setdefault(image_id, []).append(name)
    found = (
        find_image(connection, row[0])
        for row in connection.execute("SELECT image_id FROM images ORDER BY image_id").fetchall()
    )
    layers = (layer_of(row) for row in connection.execute(f"{LAYERS} ORDER BY chain_id"))
    return StoreRecords(
        images=tuple(
            CheckedImage(record=image, names=tuple(names.get(image.image_id, ())))
            for image in found
            if image is not None
        ),
        layers=tuple(layer for layer in layers if layer is not None),
        damaged_chain_ids=_damaged(connection),
        containers=_containers(connection),
        complaints=tuple(complaints),
    )


def _damaged(connection: sqlite3.Connection) -> frozenset[ChainId]:
    return frozenset(
        ChainId(row[0]) for row in connection.execute("SELECT chain_id FROM damaged_layers")
    )


def _containers(connection: sqlite3.Connection) -> tuple[LayerUser, ...]:
    return tuple(
        LayerUser(container_id=row[0], name=row[1], chain_id=ChainId(row[2]))
        for row in connection.execute(
            "SELECT container_id, name, chain_id FROM containers ORDER BY name"
        )
    )


def _users(connection: sqlite3.Connection, chain_id: ChainId) -> tuple[LayerUser, ...]:
    above = {
        row[0]
        for row in connection.execute(
            "WITH RECURSIVE above (chain_id) AS (VALUES (?) UNION "
            "SELECT layers.chain_id FROM layers JOIN above "
            "ON layers.parent_chain_id = above.chain_id) SELECT chain_id FROM above",
            (chain_id,),
        )
    }
    return tuple(user for user in _containers(connection) if user.chain_id in above)
