"""What can be asked about registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress
from engine.types import ignore_transfers

if TYPE_CHECKING:
    from engine.types import (
        FileContent,
        FileTree,
        PulledImage,
        PushedImage,
        RemoteImage,
        TransferListener,
    )


class RegistryApi(Protocol):
    """What can be asked about registries; every call may raise RegistryError."""

    async def pull_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PulledImage:
        """Bring an image from a registry; its layers that are here are not fetched.

        Cancelling leaves the store as it was; what has arrived of layers is kept, and the next
        pull that needs them goes on with it, as it does after a lost connection or a kill.

        Args:
            reference: A name, with a tag or a digest; `latest` without either.
            platform: `linux/arm64/v8`; empty for this host's.
            progress: Is told of each layer.

        Raises:
            ArchiveError: It is no image, or one that cannot be used here.
        """

    async def push_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PushedImage:
        """Give an image to the registry that its name is of; `latest` without a tag.

        What the registry has is not sent, and what another repository of it has is mounted.

        Args:
            reference: A name that an image here has.
            platform: What the image must be for; empty for whatever it is.
            progress: Is told of each layer, which is called by its diff id.

        Raises:
            ImageNotFoundError: No image has the name.
            ImageForPlatformNotFoundError: It is for another platform.
        """

    async def peek_image(self, reference: str, *, platform: str = "") -> RemoteImage:
        """Look at an image in a registry without pulling it: its layers, history and config.

        Args:
            reference: A name, with a tag or a digest; `latest` without either.
            platform: `linux/arm64/v8`; empty for this host's.
        """

    async def list_remote_layer_files(
        self,
        reference: str,
        position: int,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileTree:
        """The files of one history step of an image in a registry, as the layer has them.

        Fetches that layer alone and keeps nothing. The layers below are not looked at: what it has
        is ADDED, what it removes REMOVED.
        """

    async def read_remote_file(
        self,
        reference: str,
        position: int,
        path: str,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileContent:
        """Read the beginning of a file of one history step of an image in a registry.

        Fetches that layer alone, all of it: nothing is shown that its digest does not vouch for.

        Args:
            reference: A name, with a tag or a digest; `latest` without either.
            position: Of the step.
            path: As FileEntry has it. A hard link is the file that it is another name of.
            platform: `linux/arm64/v8`; empty for this host's.
            progress: Is told of the layer's bytes.

        Raises:
            FileNotInLayerError: The layer does not have it.
            InvalidInputError: It is no file: a directory, a link, a device, or removed.
        """
