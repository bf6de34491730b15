"""What can be asked about images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from pathlib import Path

    from engine.types import (
        ContainerSummary,
        FileTree,
        ImageDetails,
        ImageSummary,
        LoadedImage,
        PruneFilter,
        RemovedImage,
    )


class ImageApi(Protocol):
    """What can be asked about images."""

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """Every image, newest first."""

    async def inspect_image(self, reference: str) -> ImageDetails:
        """One image with its config and its layers."""

    async def load_images(
        self,
        archive: Path,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> tuple[LoadedImage, ...]:
        """Load every image of a docker-archive, an OCI archive or an OCI layout directory.

        All of the archive or nothing. `archive` may also be a pipe (`/dev/stdin`).
        """

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        """Make the starter image `starter:latest` from the host's own programs."""

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        """Make the starter image, three layers on top (`demo:latest`), and start three containers.

        Doing it again gives the same: what is already there is kept or started again.
        """

    async def tag_image(self, source: str, target: str) -> None:
        """Give an image another name; the name moves if it was another image's."""

    async def remove_image(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        """Take a name away, and delete the image with its last name.

        By id: deletes the image if it has at most one name, or if forced. An image that a
        container needs is not deleted, forced or not, as long as a container is running.
        """

    async def prune_images(
        self, wanted: PruneFilter, *, includes_named: bool = False
    ) -> RemovedImage:
        """Remove the images that have no name and no container; or all without a container."""

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it."""
