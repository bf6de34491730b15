"""What can be asked about images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from pathlib import Path

    from engine.types import (
        ContainerSummary,
        FileContent,
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
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> tuple[LoadedImage, ...]:
        """Load every image of a docker-archive, an OCI archive or an OCI layout directory.

        All of the archive or nothing.

        Args:
            archive: May also be a pipe (`/dev/stdin`).
            platform: `linux/arm64/v8`: which of an index's images; empty for this host's.
            progress: Is told of the layers.

        Raises:
            ArchiveError: It is no archive of images, or damaged.
            PlatformMismatchError: It has none for the platform.
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

    async def remove_image(
        self, reference: str, *, is_forced: bool = False, keeps_parents: bool = False
    ) -> RemovedImage:
        """Take a name away, and delete the image with its last name.

        By id: deletes the image if it has at most one name, or if forced. An image that a
        container needs is not deleted, forced or not, as long as a container is running.

        Args:
            reference: A name, an id, or the beginning of one.
            is_forced: Also with several names, and with containers that do not run.
            keeps_parents: Without it, images go along that have no name and no container, were
                pulled under no digest, and that nothing else stood on.
        """

    async def prune_images(
        self, wanted: PruneFilter, *, includes_named: bool = False
    ) -> RemovedImage:
        """Remove the images that have no name and no container; or all without a container."""

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it."""

    async def read_layer_file(self, image_reference: str, position: int, path: str) -> FileContent:
        """Read the beginning of a file of one history step.

        Args:
            image_reference: A name, an id, or the beginning of one.
            position: Of the step.
            path: As FileEntry has it; no link in it is followed.

        Raises:
            ImageNotFoundError: There is no such image, or no such step.
            FileNotInLayerError: The layer does not have it.
            InvalidInputError: It is no file: a directory, a link, a device, or removed.
        """
