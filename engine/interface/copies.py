"""What can be made of a container, and copied into it and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from engine.types import CommitRequest, CommittedImage


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
