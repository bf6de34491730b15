"""Calls that make something of a container, or copy into it and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.containers.committing import commit_container
from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from engine.types import CommitRequest, CommittedImage

from engine.api.parts import EngineParts


class CopyCalls(EngineParts):
    """`CopyApi` over containers and images."""

    async def commit_container(
        self,
        reference: str,
        request: CommitRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CommittedImage:
        """As EngineApi."""
        return await commit_container(
            self._services,
            self._images,
            self._rootfs,
            await self._containers.find(reference),
            request,
            progress=progress,
        )
