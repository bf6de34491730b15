"""What can be made of a container, and copied into it and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress
from engine.types import CopyOptions

if TYPE_CHECKING:
    from engine.types import CommitRequest, CommittedImage, CopyResult


class CopyApi(Protocol):
    """What can be made of a container, and copied into it and out of it."""

    async def commit_container(
        self,
        reference: str,
        request: CommitRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CommittedImage:
        """Make an image of a container: its image's layers and its changes as one more.

        Cancelling leaves no image, and a container that goes on.

        Raises:
            ContainerStateError: The container is dead or being removed.
            InvalidInputError: The name or one of the changes makes no sense.
        """

    async def copy_from_container(
        self,
        reference: str,
        path: str,
        target: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """Copy a file or a directory of a container, running or not, to a path of the host.

        The rules are those of `docker cp`: into a directory that is there, under the name
        `target` into one that holds it, and only the content of a directory written `path/.`.
        Cancelling leaves what was copied by then; no file is there by halves.

        Raises:
            FileNotInContainerError: There is no such path in the container.
            CopyRefusedError: Source and target do not fit each other.
        """

    async def copy_to_container(
        self,
        reference: str,
        source: str,
        path: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """Copy a file or a directory of the host into a container, running or not.

        As `copy_from_container`, the other way round.
        """

    async def archive_from_container(
        self,
        reference: str,
        path: str,
        descriptor: int,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """Write a file or a directory of a container as a tar to a descriptor.

        The descriptor stays the caller's; a worker writes to it.
        """

    async def extract_to_container(
        self,
        reference: str,
        descriptor: int,
        path: str,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """Extract a tar, plain or compressed, from a descriptor into a directory of a container.

        Raises:
            FileNotInContainerError: There is no such directory.
            ArchiveError: What is read is no tar, or damaged.
        """

    async def export_container(
        self,
        reference: str,
        descriptor: int,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """Write all files of a container as a tar to a descriptor, without its volumes."""
