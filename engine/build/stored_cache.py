"""The cache of a store as people see it: what is kept, and how to get rid of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

from engine.build.cache_mounts import list_caches
from engine.operations import carry_through
from engine.snapshots.scan import measure_tree
from engine.store.locks import is_locked
from engine.types import BuildCacheEntry, PrunedBuildCache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Protocol

    from engine.config import EngineConfig
    from engine.images.collector import StoreCollector
    from engine.store.build_records import BuildRecords
    from engine.types import BuildCacheFilter

    class TreeRemoval(Protocol):
        """Removes a tree whose files may belong to ids of a container."""

        async def __call__(self, path: Path, /) -> None:
            """Remove it with all it holds."""


class StoredCache:
    """What builds have left in a store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: BuildRecords,
        collector: StoreCollector,
        remove_tree: TreeRemoval,
    ) -> None:
        self._config = config
        self._records = records
        self._collector = collector
        self._remove_tree = remove_tree

    async def list(self) -> tuple[BuildCacheEntry, ...]:
        """As EngineApi.list_build_cache."""
        steps = [
            BuildCacheEntry(
                entry_id=usage.record.step_key,
                text=usage.record.text,
                created_at=usage.record.created_at,
                used_at=usage.record.used_at,
                use_count=usage.record.use_count,
                size_bytes=usage.size_bytes,
                is_shared=usage.is_shared,
            )
            for usage in await self._records.usages()
        ]
        mounts = await asyncio.to_thread(_list_mounts, self._config.root)
        return tuple(sorted((*steps, *mounts), key=lambda one: -one.used_at))

    async def prune(self, wanted: BuildCacheFilter) -> PrunedBuildCache:
        """As EngineApi.prune_build_cache."""
        entries = await self.list()
        left = sum(entry.size_bytes for entry in entries)
        removed: list[BuildCacheEntry] = []
        for entry in reversed(entries):
            if wanted.kept_bytes is not None and left <= wanted.kept_bytes:
                break
            if wanted.used_before is not None and entry.used_at >= wanted.used_before:
                continue
            if (entry.is_shared or entry.is_mount) and not wanted.includes_shared:
                continue
            removed.append(entry)
            left -= entry.size_bytes
        freed_bytes = 0
        for entry in removed:
            if entry.is_mount and await self._remove_mount(entry.entry_id):
                freed_bytes += entry.size_bytes
        steps = [entry.entry_id for entry in removed if not entry.is_mount]
        if steps:
            freed_bytes += await carry_through(self._forget(steps))
        return PrunedBuildCache(
            entry_ids=tuple(entry.entry_id for entry in removed), freed_bytes=freed_bytes
        )

    async def _forget(self, step_keys: Sequence[str]) -> int:
        async with self._collector.collecting() as collection:
            await self._records.delete(step_keys)
            collected = await collection.delete()
        return collected.freed_bytes

    async def _remove_mount(self, entry_id: str) -> bool:
        for name, directory in await asyncio.to_thread(list_caches, self._config.root):
            if _mount_id(name) == entry_id:
                if await asyncio.to_thread(is_locked, directory / "lock"):
                    return False
                await self._remove_tree(directory)
                return True
        return False


def _mount_id(name: str) -> str:
    return hashlib.sha256(f"cache mount {name}".encode("utf-8", "surrogateescape")).hexdigest()


def _list_mounts(root: Path) -> list[BuildCacheEntry]:
    found = []
    for name, directory in list_caches(root):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            size_bytes, _count = measure_tree(descriptor)
        finally:
            os.close(descriptor)
        status = directory.stat()
        found.append(
            BuildCacheEntry(
                entry_id=_mount_id(name),
                text=f"cache mount {name}",
                created_at=status.st_ctime,
                used_at=status.st_mtime,
                use_count=0,
                size_bytes=size_bytes,
                is_shared=False,
                is_mount=True,
            )
        )
    return found
