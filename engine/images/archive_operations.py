"""Saving images and importing root filesystems, as the library of a store offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.images.importing import import_image
from engine.images.saving import ImageSaver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.catalog import StoreCatalog
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecords
    from engine.store.staging import StagingArea
    from engine.types import ImageId, ImportedImage, ImportRequest, SavedArchive, SaveOptions


class AddingImages(Protocol):
    """Holds what images are added through, and what is kept in the store, for a block."""

    def __call__(
        self, staging: Path, /, *, action: str
    ) -> AbstractAsyncContextManager[StoreCatalog]:
        """Begin; `action` is what the events call it."""


class ImageArchives:
    """Archives of the images of one store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        blobs: BlobStore,
        staging: StagingArea,
        runner: JobRunner,
        resolve: Callable[[str], Awaitable[ImageId]],
        adding_images: AddingImages,
        is_rootless: bool,
    ) -> None:
        """For ImageLibrary."""
        self._config = config
        self._records = records
        self._blobs = blobs
        self._staging = staging
        self._runner = runner
        self._resolve = resolve
        self._adding_images = adding_images
        self._is_rootless = is_rootless

    async def save(
        self,
        references: Sequence[str],
        target: Path | int,
        options: SaveOptions,
        *,
        progress: ProgressListener,
    ) -> SavedArchive:
        """As EngineApi.save_images."""
        async with (
            self._staging.claim("save") as staging,
            self._adding_images(staging, action="save") as catalog,
        ):
            saver = ImageSaver(
                config=self._config,
                records=self._records,
                blobs=self._blobs,
                runner=self._runner,
                resolve=self._resolve,
                keep=catalog.keep,
            )
            return await saver.save(references, target, options, staging=staging, progress=progress)

    async def import_image(
        self, source: Path | int, request: ImportRequest, *, progress: ProgressListener
    ) -> ImportedImage:
        """As EngineApi.import_image."""
        async with (
            self._staging.claim("import") as staging,
            self._adding_images(staging, action="import") as catalog,
        ):
            return await import_image(
                source,
                request,
                staging=staging,
                catalog=catalog,
                runner=self._runner,
                limits=self._config.layer_limits,
                uses_user_xattrs=self._is_rootless,
                progress=progress,
            )
