"""What can be asked about archives of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress
from engine.types import SaveOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.types import ImportedImage, ImportRequest, SavedArchive


class ArchiveApi(Protocol):
    """What can be asked about archives of images."""

    async def save_images(
        self,
        references: Sequence[str],
        target: Path | int,
        *,
        options: SaveOptions = SaveOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> SavedArchive:
        """Write images to an archive; the same images give the same bytes.

        Each has the name that was asked for, and none if an id was; a repository without a tag is
        all its tags. A file or a directory gets its name when it is whole; a device and a pipe
        are written into as they are.

        Args:
            references: Names, ids or beginnings of ids.
            target: A path, or a descriptor that stays the caller's.
            options: Formats and compressions.
            progress: Is told of the bytes.

        Raises:
            ImageNotFoundError: There is no such image.
            ImageForPlatformNotFoundError: One is for another platform than the options say.
            CopyRefusedError: The target cannot be written.
        """

    async def import_image(
        self,
        source: Path | int,
        request: ImportRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> ImportedImage:
        """Make an image of a root filesystem: a tar, plain or compressed with gzip or zstd.

        Args:
            source: A path, or a descriptor that is read to its end and stays the caller's.
            request: What the image looks like.
            progress: Is told of the bytes.

        Raises:
            ArchiveError: It is no tar, or damaged.
            InvalidInputError: The name, the platform or one of the changes makes no sense.
        """
