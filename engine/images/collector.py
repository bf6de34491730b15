"""Garbage collection: what no image, container or claim leads to is deleted.

Decided in one transaction and taken out of its place by renames, both under the image lock; the
trees are removed after it, so that nobody waits for that. A crash leaves directories without a
record, or trash in staging: both are found at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.oci.digests import is_digest
from engine.operations import carry_through
from engine.store.durability import raise_store_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.store.blobs import BlobStore
    from engine.store.claims import ClaimRecords
    from engine.store.image_lock import ImageLock
    from engine.store.image_records import ImageRecords
    from engine.store.staging import StagingArea
    from engine.types import ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection took out of the store.

    Attributes:
        names: Of each image that was deleted.
        chain_ids: Of the layers, topmost first.
        freed_bytes: Of layers and blobs.
        orphan_count: Layers and blobs that had no record to begin with.
    """

    names: dict[ImageId, tuple[str, ...]]
    chain_ids: tuple[str, ...]
    freed_bytes: int
    orphan_count: int


class Collection:
    """One collection under way; its maker holds the image lock exclusively."""

    def __init__(self, collector: StoreCollector, trash: Path) -> None:
        """For StoreCollector only."""
        self._collector = collector
        self._trash = trash

    async def delete(self, image_ids: tuple[ImageId, ...] = ()) -> Collected:
        """Delete images, and then everything that nothing leads to. Not cut short when cancelled.

        Raises:
            StoreError: The store cannot be written; what was forgotten is swept later.
        """
        return await carry_through(self._collector.delete(image_ids, self._trash))


class StoreCollector:
    """Deletes images and what they alone needed."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        claims: ClaimRecords,
        blobs: BlobStore,
        staging: StagingArea,
        lock: ImageLock,
    ) -> None:
        """Collect in one store."""
        self._config = config
        self._records = records
        self._claims = claims
        self._blobs = blobs
        self._staging = staging
        self._lock = lock

    @contextlib.asynccontextmanager
    async def collecting(self) -> AsyncIterator[Collection]:
        """Hold the image lock exclusively for a block; trees are removed when it is given back."""
        async with self._staging.claim("remove") as trash, self._lock.exclusive():
            yield Collection(self, trash)

    async def sweep(self) -> None:
        """Remove layers and blobs that a killed load, pull or removal left.

        While somebody adds or removes images nothing is done: the next start does it.
        """
        async with self._staging.claim("sweep") as trash:
            with self._lock.exclusive_now() as has_lock:
                if has_lock:
                    await Collection(self, trash).delete()

    async def take_unrecorded(self, trash: Path) -> None:
        """Move layers that could not be recorded into a directory that is going to be removed.

        Nothing is written but that, as the disk may be full.

        Args:
            trash: Of a claim of the staging area.

        Raises:
            StoreError: The database cannot be read, or the disk fails.
        """
        async with self._lock.exclusive():
            known = await self._records.layer_chain_ids()
            await asyncio.to_thread(self._move_unknown_layers, known, trash)

    async def delete(self, image_ids: tuple[ImageId, ...], trash: Path) -> Collected:
        """For Collection."""
        holders = await self._claims.holders()
        dead = await asyncio.to_thread(self._dead_of, holders) if holders else ()
        deleted = await self._records.delete(image_ids, dead_holders=dead)
        known = await self._records.layer_chain_ids()
        moved = await asyncio.to_thread(self._move_unknown_layers, known, trash)
        needed = await self._records.blob_digests()
        blob_count, blobs_bytes = await asyncio.to_thread(self._remove_blobs, needed)
        # An image's own two documents go with it.
        own_count = len(deleted.layers) + 2 * len(image_ids)
        return Collected(
            names=deleted.names,
            chain_ids=tuple(layer.chain_id for layer in deleted.layers),
            freed_bytes=blobs_bytes + sum(layer.size_bytes for layer in deleted.layers),
            orphan_count=max(0, moved + blob_count - own_count),
        )

    def _dead_of(self, holders: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(holder for holder in holders if not self._staging.is_alive(holder))

    def _move_unknown_layers(self, known: frozenset[str], trash: Path) -> int:
        """Take layers without a record out of their place; returns how many."""
        unknown = self.unknown_layers(known)
        for directory in unknown:
            try:
                directory.rename(trash / directory.name)
            except OSError as error:
                raise_store_error(error, directory)
        return len(unknown)

    def unknown_layers(self, known: frozenset[str]) -> tuple[Path, ...]:
        """Directories of layers that have no record; blocking."""
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(self._config.layers_directory) as entries,
        ):
            return tuple(
                self._config.layers_directory / entry.name
                for entry in entries
                if is_digest(f"sha256:{entry.name}") and f"sha256:{entry.name}" not in known
            )
        return ()

    def _remove_blobs(self, needed: frozenset[str]) -> tuple[int, int]:
        unneeded = [digest for digest in self._blobs.digests() if digest not in needed]
        return len(unneeded), sum(self._blobs.remove(digest) for digest in unneeded)
