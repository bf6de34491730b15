"""Calls about volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.types import PrunedVolumes, VolumeSummary

from engine.api.parts import EngineParts


class VolumeCalls(EngineParts):
    """`VolumeApi` over the volume library."""

    async def list_volumes(self) -> tuple[VolumeSummary, ...]:
        """As EngineApi."""
        return await self._volumes.list()

    async def inspect_volume(self, name: str) -> VolumeSummary:
        """As EngineApi."""
        return await self._volumes.inspect(name)

    async def measure_volume(self, name: str) -> int:
        """As EngineApi."""
        return await self._volumes.measure(name)

    async def create_volume(
        self, name: str | None = None, *, labels: tuple[tuple[str, str], ...] = ()
    ) -> VolumeSummary:
        """As EngineApi."""
        return await self._volumes.create(name, labels=labels)

    async def remove_volume(self, name: str, *, is_forced: bool = False) -> None:
        """As EngineApi."""
        await self._volumes.remove(name, is_forced=is_forced)

    async def prune_volumes(
        self, *, includes_named: bool = False, label_filters: tuple[str, ...] = ()
    ) -> PrunedVolumes:
        """As EngineApi."""
        return await self._volumes.prune(includes_named=includes_named, label_filters=label_filters)
