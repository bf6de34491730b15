"""What the engine needs of the images of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.containers.committing import ImageMaker

if TYPE_CHECKING:
    from pathlib import Path

    from engine.images.archive_operations import ImageArchives
    from engine.images.building import BuildImages
    from engine.images.transfers import ImageTransfers, RegistryMaker
    from engine.images.usage import ImagesUsage
    from engine.operations import ProgressListener
    from engine.types import (
        ContainerRequest,
        FileContent,
        FileTree,
        ImageDetails,
        ImageSummary,
        LoadedImage,
        PruneFilter,
        RemovedImage,
        StoreCheck,
    )


class ImageOperations(ImageMaker, Protocol):
    """What the engine needs of images; `EngineApi` says what each call does."""

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """Every image, newest first."""

    async def inspect(self, reference: str) -> ImageDetails:
        """One image with its config and its layers."""

    async def load(
        self, archive: Path, *, platform: str, progress: ProgressListener
    ) -> tuple[LoadedImage, ...]:
        """Load every image of an archive, or none."""

    @property
    def archives(self) -> ImageArchives:
        """Saving and importing."""

    @property
    def building(self) -> BuildImages:
        """What builds need."""

    async def make_starter(self, *, progress: ProgressListener) -> LoadedImage:
        """Make the starter image unless it is there."""

    async def make_demo(self, *, progress: ProgressListener) -> tuple[ContainerRequest, ...]:
        """Make the demo's image unless it is there; return the containers to start of it."""

    async def tag(self, source: str, target: str) -> None:
        """Give an image another name."""

    async def remove(self, reference: str, *, is_forced: bool, keeps_parents: bool) -> RemovedImage:
        """Take a name away, and delete the image with its last name."""

    async def prune(self, wanted: PruneFilter, *, includes_named: bool) -> RemovedImage:
        """Remove the images without a container that have no name, or all of them."""

    async def usages(self) -> ImagesUsage:
        """What each image occupies."""

    async def list_layer_files(self, reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it."""

    async def read_layer_file(self, reference: str, position: int, path: str) -> FileContent:
        """The beginning of a file of one history step."""

    async def usage(self) -> tuple[int, int]:
        """Bytes of all layers and of all blobs."""

    async def check(self, *, repairs: bool, progress: ProgressListener) -> StoreCheck:
        """Verify all that is there, and repair what can be."""

    def transfers(self, connect: RegistryMaker) -> ImageTransfers:
        """Make what pulls and pushes."""

    async def sweep(self) -> None:
        """Remove what killed processes left."""

    def close(self) -> None:
        """Let go of threads."""
