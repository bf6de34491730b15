"""Calls that write images to archives and make them of archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.operations import ProgressListener, ignore_progress
from engine.types import SaveOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.types import ImportedImage, ImportRequest, SavedArchive

from engine.api.parts import EngineParts


class ArchiveCalls(EngineParts):
    """`ArchiveApi` over the image library."""

    async def save_images(
        self,
        references: Sequence[str],
        target: Path | int,
        *,
        options: SaveOptions = SaveOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> SavedArchive:
        """As EngineApi."""
        return await self._images.archives.save(references, target, options, progress=progress)

    async def import_image(
        self,
        source: Path | int,
        request: ImportRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> ImportedImage:
        """As EngineApi."""
        return await self._images.archives.import_image(source, request, progress=progress)
