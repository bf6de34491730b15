"""Images that go to and come from registries, for one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.images.layer_cache import LayerCache
from engine.images.peek import ImagePeeker
from engine.images.pull import ImagePuller
from engine.images.push import ImagePusher
from engine.oci.platforms import wanted_platform
from engine.oci.reference import parse_reference

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.images.pull import ImageAdder
    from engine.images.remote import ImageRegistry
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecords
    from engine.store.staging import StagingArea
    from engine.store.transfer_records import TransferRecords
    from engine.types import (
        FileContent,
        FileTree,
        PulledImage,
        PushedImage,
        RemoteImage,
        TransferListener,
    )


class RegistryMaker(Protocol):
    """Connects with registries."""

    def __call__(self) -> ImageRegistry:
        """Make a client for one pull or push; blocking."""


class ImageTransfers:
    """Pulls and pushes; EngineApi says what each does."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        blobs: BlobStore,
        staging: StagingArea,
        adding_images: ImageAdder,
        runner: JobRunner,
        transfers: TransferRecords,
        connect: RegistryMaker,
        uses_user_xattrs: bool,
    ) -> None:
        """Transfer images of one store.

        Args:
            config: Where it is.
            records: Of its images.
            blobs: Of the store.
            staging: Its staging area.
            adding_images: Gives the catalog that images are added through.
            runner: Unpacks with the container's ids.
            transfers: Of what registries have.
            connect: Makes clients for registries.
            uses_user_xattrs: Mark opaque directories by `user.` attributes (rootless overlay).
        """
        self._looked_into = LayerCache(config.staging_directory)
        self._puller = ImagePuller(
            config=config,
            records=records,
            blobs=blobs,
            staging=staging,
            adding_images=adding_images,
            runner=runner,
            connect=connect,
            looked_into=self._looked_into,
            uses_user_xattrs=uses_user_xattrs,
        )
        self._peeker = ImagePeeker(
            config=config,
            records=records,
            blobs=blobs,
            connect=connect,
            layers=self._looked_into,
        )
        self._pusher = ImagePusher(
            config=config,
            records=records,
            transfers=transfers,
            blobs=blobs,
            staging=staging,
            adding_images=adding_images,
            runner=runner,
            connect=connect,
        )

    def close(self) -> None:
        """Keep nothing of what was looked into."""
        self._looked_into.close()

    async def pull(
        self, reference: str, *, platform: str, progress: TransferListener
    ) -> PulledImage:
        """As EngineApi.pull_image."""
        wanted = wanted_platform(platform)
        return await self._puller.pull(parse_reference(reference), wanted, progress=progress)

    async def peek(self, reference: str, *, platform: str) -> RemoteImage:
        """As EngineApi.peek_image."""
        return await self._peeker.peek(parse_reference(reference), wanted_platform(platform))

    async def list_layer_files(
        self, reference: str, position: int, *, platform: str, progress: ProgressListener
    ) -> FileTree:
        """As EngineApi.list_remote_layer_files."""
        wanted = wanted_platform(platform)
        return await self._peeker.list_layer_files(
            parse_reference(reference), position, wanted, progress=progress
        )

    async def read_file(
        self,
        reference: str,
        position: int,
        path: str,
        *,
        platform: str,
        progress: ProgressListener,
    ) -> FileContent:
        """As EngineApi.read_remote_file."""
        wanted = wanted_platform(platform)
        return await self._peeker.read_file(
            parse_reference(reference), position, path, wanted, progress=progress
        )

    async def push(
        self, reference: str, *, platform: str, progress: TransferListener
    ) -> PushedImage:
        """As EngineApi.push_image."""
        name = parse_reference(reference)
        return await self._pusher.push(name, platform=platform, progress=progress)
