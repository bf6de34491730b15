"""Calls that make something of a container, or copy into it and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.operations import ProgressListener, ignore_progress
from engine.types import CopyOptions

if TYPE_CHECKING:
    from engine.types import CommitRequest, CommittedImage, CopyResult

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
        # Loaded with the first commit, as what makes images is.
        from engine.containers.committing import commit_container

        return await commit_container(
            self._services,
            self._images,
            self._rootfs,
            await self._containers.find(reference),
            request,
            progress=progress,
        )

    async def copy_from_container(
        self,
        reference: str,
        path: str,
        target: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._copies.copy_out(record, path, target, options=options, progress=progress)

    async def copy_to_container(
        self,
        reference: str,
        source: str,
        path: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._copies.copy_in(record, source, path, options=options, progress=progress)

    async def archive_from_container(
        self,
        reference: str,
        path: str,
        descriptor: int,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._copies.archive_out(
            record, path, descriptor, options=options, progress=progress
        )

    async def extract_to_container(
        self,
        reference: str,
        descriptor: int,
        path: str,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._copies.archive_in(record, descriptor, path, progress=progress)

    async def export_container(
        self,
        reference: str,
        descriptor: int,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._copies.export(record, descriptor, progress=progress)
