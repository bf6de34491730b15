"""Calls about registries."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from engine.api.parts import EngineParts
from engine.operations import ProgressListener, ignore_progress
from engine.types import ignore_transfers

if TYPE_CHECKING:
    from engine.images.remote import ImageRegistry
    from engine.images.transfers import ImageTransfers
    from engine.types import (
        FileContent,
        FileTree,
        PulledImage,
        PushedImage,
        RemoteImage,
        TransferListener,
    )


def _connect() -> ImageRegistry:
    # In a thread: it reads the person's files, and what speaks HTTP takes its time to load.
    from engine.registry.client import RegistryClient

    return RegistryClient()


class RegistryCalls(EngineParts):
    """`RegistryApi` over the image library."""

    @functools.cached_property
    def _transfers(self) -> ImageTransfers:
        return self._images.transfers(_connect)

    async def pull_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PulledImage:
        """As EngineApi."""
        return await self._transfers.pull(reference, platform=platform, progress=progress)

    async def push_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PushedImage:
        """As EngineApi."""
        return await self._transfers.push(reference, platform=platform, progress=progress)

    async def peek_image(self, reference: str, *, platform: str = "") -> RemoteImage:
        """As EngineApi."""
        return await self._transfers.peek(reference, platform=platform)

    async def list_remote_layer_files(
        self,
        reference: str,
        position: int,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileTree:
        """As EngineApi."""
        return await self._transfers.list_layer_files(
            reference, position, platform=platform, progress=progress
        )

    async def read_remote_file(
        self,
        reference: str,
        position: int,
        path: str,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileContent:
        """As EngineApi."""
        return await self._transfers.read_file(
            reference, position, path, platform=platform, progress=progress
        )
