"""What builds need of the images of a store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from engine.errors import ImageNotFoundError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.catalog import StoreCatalog
    from engine.images.collector import StoreCollector
    from engine.images.mending import LayerMender
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_lock import ImageLock
    from engine.store.image_records import ImageRecord, ImageRecords
    from engine.store.staging import StagingArea
    from engine.types import ImageId


_PATIENCE_SECONDS = 0.05
"""Who cancels a build does not wait until a hundred thousand files have gone."""


class ImageAdder(Protocol):
    """Gives what images are added through, for the block of a claim."""

    def __call__(
        self, staging: Path, /, *, action: str
    ) -> AbstractAsyncContextManager[StoreCatalog]:
        """Hold it for a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildHold:
    """What one build has of the store, for as long as it lasts.

    Attributes:
        staging: A directory of its own.
        catalog: Keeps what the build counts on, and takes its image.
    """

    staging: Path
    catalog: StoreCatalog


class BuildImages:
    """The images of a store, as builds see them."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        lock: ImageLock,
        blobs: BlobStore,
        mender: LayerMender,
        collector: StoreCollector,
        staging: StagingArea,
        runner: JobRunner,
        resolve: Callable[[str], Awaitable[ImageId]],
        adding_images: ImageAdder,
    ) -> None:
        """Use one store's."""
        self.config = config
        self.records = records
        self.lock = lock
        self.blobs = blobs
        self.mender = mender
        self.collector = collector
        self.runner = runner
        self._staging = staging
        self._resolve = resolve
        self._adding_images = adding_images

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[BuildHold]:
        """Hold what a build needs; its directory is removed at the end, whatever happens."""
        async with (
            self._staging.claim("build", patience_seconds=_PATIENCE_SECONDS) as staging,
            self._adding_images(staging, action="create") as catalog,
        ):
            yield BuildHold(staging=staging, catalog=catalog)

    async def find(self, hold: BuildHold, reference: str) -> ImageRecord | None:
        """Find an image, and keep it for a build; None if it is not here."""
        try:
            image_id = await self._resolve(reference)
        except ImageNotFoundError:
            return None
        record = await self.records.find(image_id)
        if record is None:
            return None
        await hold.catalog.keep(
            (record.manifest_digest, *(part.layer.chain_id for part in record.layers[-1:]))
        )
        # It may have gone before it was claimed; from now on it does not.
        return await self.records.find(image_id)
