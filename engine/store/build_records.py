"""Records of builds: what each step was made of and which layer came of it, and how builds ended.

A layer of a step is recorded before it is known to be on the disk, so that a build that is killed
has not worked for nothing; until it is, `unsynced_layers` has it with the boot in which it was
made. After another boot such a layer counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import ChainId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from engine.store.database import Database
    from engine.store.image_records import LayerRecord

_MOST_BUILDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStepRecord:
    """What is kept of one step.

    Attributes:
        step_key: Of everything that it was made of, parents included.
        inputs_digest: The same without its parent.
        parent_chain_id: What it stood on; empty for nothing.
        chain_id: What there is with it; None when that is nothing.
        is_empty: It added no layer: `chain_id` is the parent's.
        place: Where in which Dockerfile it stands, for comparison.
        text: The instruction.
        inputs: What it was made of, as the cache writes it.
        seconds: How long it took.
        is_usable: Its layer is here, and known to be whole.
    """

    step_key: str
    inputs_digest: str
    parent_chain_id: str
    chain_id: ChainId | None
    is_empty: bool
    place: str
    text: str
    inputs: bytes
    created_at: float
    used_at: float
    use_count: int
    seconds: float
    is_usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStepUsage:
    """What one entry of the cache occupies.

    Attributes:
        is_shared: An image or a container has its layer, or a layer above it, too.
    """

    record: BuildStepRecord
    size_bytes: int
    is_shared: bool


class BuildRecords:
    """Queries on builds; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database, *, boot_id: str) -> None:
        """Use a database in one boot of the host."""
        self._database = database
        self._boot_id = boot_id

    # --- steps --------------------------------------------------------------------------------

    async def find(self, step_keys: Iterable[str]) -> dict[str, BuildStepRecord]:
        """The steps that have these keys, and a layer that can be used."""
        wanted = tuple(step_keys)

        def read(connection: sqlite3.Connection) -> dict[str, BuildStepRecord]:
            found = {}
            for key in wanted:
                record = self._first(connection, "step_key = ?", (key,))
                if record is not None and record.is_usable:
                    found[key] = record
            return found

        return await self._database.read(read)

    async def find_by_content(
        self, inputs_digest: str, parent_chain_id: str
    ) -> BuildStepRecord | None:
        """A step of the same inputs on the same files, whatever they came from."""
        return await self._database.read(
            lambda connection: self._first(
                connection,
                "inputs_digest = ? AND parent_chain_id = ?",
                (inputs_digest, parent_chain_id),
                only_usable=True,
            )
        )

    async def has_inputs(self, inputs_digest: str) -> bool:
        """Whether any step, on whatever files, had these inputs."""
        return await self._database.read(
            lambda connection: (
                connection.execute(
                    "SELECT 1 FROM build_steps WHERE inputs_digest = ? LIMIT 1", (inputs_digest,)
                ).fetchone()
                is not None
            )
        )

    async def find_nearest(self, place: str, text: str) -> BuildStepRecord | None:
        """What an earlier build had at the same place, or else the same instruction anywhere."""

        def read(connection: sqlite3.Connection) -> BuildStepRecord | None:
            order = "ORDER BY used_at DESC"
            for condition, values in (
                (f"place = ? AND text = ? {order}", (place, text)),
                (f"place = ? {order}", (place,)),
                (f"text = ? {order}", (text,)),
            ):
                found = self._first(connection, condition, values)
                if found is not None:
                    return found
            return None

        return await self._database.read(read)

    def _first(
        self,
        connection: sqlite3.Connection,
        condition: str,
        values: tuple[str, ...],
        *,
        only_usable: bool = False,
    ) -> BuildStepRecord | None:
        for row in connection.execute(f"{_SELECT} WHERE {condition} LIMIT 20", values):
            record = self._record(row)
            if record.is_usable or not only_usable:
                return record
        return None

    def _record(self, row: _Row) -> BuildStepRecord:
        return BuildStepRecord(
            step_key=row[0],
            inputs_digest=row[1],
            parent_chain_id=row[2],
            chain_id=None if row[3] is None else ChainId(row[3]),
            is_empty=bool(row[4]),
            place=row[5],
            text=row[6],
            inputs=row[7],
            created_at=row[8],
            used_at=row[9],
            use_count=row[10],
            seconds=row[11],
            is_usable=row[12] in (None, self._boot_id) and not row[13],
        )

    async def insert(
        self, record: BuildStepRecord, layer: LayerRecord | None, *, holder: str
    ) -> None:
        """Record a step with the layer that it has made, if it has; its directory is in place.

        Args:
            record: What the cache keeps.
            layer: Is claimed, so that it stays for the next step if the record is removed.
            holder: Of the claim.
        """

        def write(connection: sqlite3.Connection) -> None:
            if layer is not None:
                connection.execute(
                    "INSERT INTO claims VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (holder, layer.chain_id),
                )
                done = connection.execute(
                    "INSERT INTO layers VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        layer.chain_id,
                        layer.diff_id,
                        layer.parent_chain_id,
                        layer.size_bytes,
                        layer.entry_count,
                    ),
                )
                if done.rowcount:
                    connection.execute(
                        "INSERT INTO unsynced_layers VALUES (?, ?)", (layer.chain_id, self._boot_id)
                    )
            connection.execute(
                "INSERT OR REPLACE INTO build_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.step_key,
                    record.inputs_digest,
                    record.parent_chain_id,
                    record.chain_id,
                    int(record.is_empty),
                    record.place,
                    record.text,
                    record.inputs,
                    record.created_at,
                    record.used_at,
                    record.use_count,
                    record.seconds,
                ),
            )

        await self._database.write_soon(write)

    async def unsynced(self, chain_ids: Iterable[ChainId]) -> tuple[ChainId, ...]:
        """Which of some layers may not be on the disk yet."""
        wanted = tuple(chain_ids)

        def read(connection: sqlite3.Connection) -> tuple[ChainId, ...]:
            return tuple(
                chain_id
                for chain_id in wanted
                if connection.execute(
                    "SELECT 1 FROM unsynced_layers WHERE chain_id = ?", (chain_id,)
                ).fetchone()
            )

        return await self._database.read(read)

    async def note_use(
        self, step_keys: Iterable[str], *, at: float, synced: Iterable[ChainId] = ()
    ) -> None:
        """Write down that steps served a build, and that layers are on the disk."""
        used = [(at, key) for key in step_keys]
        on_disk = [(chain_id,) for chain_id in synced]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE build_steps SET used_at = ?, use_count = use_count + 1 WHERE step_key = ?",
                used,
            )
            connection.executemany("DELETE FROM unsynced_layers WHERE chain_id = ?", on_disk)

        if used or on_disk:
            await self._database.write_soon(write)

    async def forget_lost(self) -> bool:
        """Forget steps whose layers an earlier boot may have lost; False if there are none.

        An image is recorded when all that it needs is on the disk, so its layers are whole.
        """

        def look(connection: sqlite3.Connection) -> bool:
            found = connection.execute(
                "SELECT 1 FROM unsynced_layers WHERE boot_id != ? LIMIT 1", (self._boot_id,)
            )
            return found.fetchone() is not None

        def forget(connection: sqlite3.Connection) -> None:
            # What stands on such a layer is no better. It counts as missing from now on.
            connection.execute(
                "WITH RECURSIVE lost (chain_id) AS ("
                "SELECT chain_id FROM unsynced_layers WHERE boot_id != ? "
                "AND chain_id NOT IN (SELECT chain_id FROM image_layers) UNION "
                "SELECT layers.chain_id FROM layers JOIN lost "
                "ON layers.parent_chain_id = lost.chain_id) "
                "INSERT OR IGNORE INTO damaged_layers SELECT chain_id FROM lost",
                (self._boot_id,),
            )
            connection.execute(
                "DELETE FROM build_steps WHERE chain_id IN (SELECT chain_id FROM damaged_layers)"
            )
            connection.execute("DELETE FROM unsynced_layers WHERE boot_id != ?", (self._boot_id,))

        if not await self._database.read(look):
            return False
        await self._database.write(forget)
        return True

    async def made_layers(self) -> frozenset[ChainId]:
        """Every layer that a step here has made, or found made."""
        return await self._database.read(
            lambda connection: frozenset(
                ChainId(row[0])
                for row in connection.execute(
                    "SELECT DISTINCT chain_id FROM build_steps "
                    "WHERE chain_id IS NOT NULL AND NOT is_empty"
                )
            )
        )

    async def usages(self) -> tuple[BuildStepUsage, ...]:
        """Every entry with what it occupies, the last used first."""

        def read(connection: sqlite3.Connection) -> tuple[BuildStepUsage, ...]:
            sizes = dict(connection.execute("SELECT chain_id, size_bytes FROM layers").fetchall())
            shared = {
                row[0]
                for row in connection.execute(
                    "SELECT chain_id FROM image_layers UNION SELECT chain_id FROM containers"
                )
            }
            rows = connection.execute(f"{_SELECT} ORDER BY used_at DESC, step_key").fetchall()
            records = [self._record(row) for row in rows]
            return tuple(
                BuildStepUsage(
                    record=record,
                    size_bytes=0 if record.is_empty else sizes.get(record.chain_id, 0),
                    is_shared=record.is_empty or record.chain_id in shared,
                )
                for record in records
            )

        return await self._database.read(read)

    async def delete(self, step_keys: Iterable[str]) -> None:
        """Forget entries; their layers go with the next collection, if nothing else has them."""
        rows = [(key,) for key in step_keys]
        await self._database.write(
            lambda connection: connection.executemany(
                "DELETE FROM build_steps WHERE step_key = ?", rows
            )
        )

    # --- builds -------------------------------------------------------------------------------

    async def insert_build(
        self, build_id: str, *, started_at: float, names: tuple[str, ...], document: bytes
    ) -> None:
        """Write down how a build has ended; the oldest are forgotten."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO builds VALUES (?, ?, ?)", (build_id, started_at, document)
            )
            connection.executemany(
                "INSERT OR IGNORE INTO build_names VALUES (?, ?)",
                [(name, build_id) for name in names],
            )
            connection.execute(
                "DELETE FROM builds WHERE build_id IN (SELECT build_id FROM builds "
                "ORDER BY started_at DESC LIMIT -1 OFFSET ?)",
                (_MOST_BUILDS,),
            )

        await self._database.write_soon(write)

    async def list_builds(self, name: str = "") -> tuple[bytes, ...]:
        """The documents of builds, newest first; with a name only those that gave it."""
        condition = (
            "WHERE build_id IN (SELECT build_id FROM build_names WHERE name = ?) " if name else ""
        )
        values = (name,) if name else ()
        return await self._database.read(
            lambda connection: tuple(
                row[0]
                for row in connection.execute(
                    f"SELECT document FROM builds {condition}ORDER BY started_at DESC, build_id",
                    values,
                )
            )
        )


_Row = tuple[
    str, str, str, str | None, int, str, str, bytes, float, float, int, float, str | None, int
]
_SELECT = (
    "SELECT step_key, inputs_digest, parent_chain_id, build_steps.chain_id, is_empty, place, text, "
    "inputs, created_at, used_at, use_count, seconds, "
    "(SELECT boot_id FROM unsynced_layers AS late WHERE late.chain_id = build_steps.chain_id), "
    "EXISTS (SELECT 1 FROM damaged_layers AS bad WHERE bad.chain_id = build_steps.chain_id) "
    "FROM build_steps"
)
