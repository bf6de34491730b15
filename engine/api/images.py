"""Calls about images."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

from engine.api.parts import EngineParts


class ImageCalls(EngineParts):
    """`ImageApi` over the image library."""

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """As EngineApi."""
        return await self._images.list_images()

    async def inspect_image(self, reference: str) -> ImageDetails:
        """As EngineApi."""
        return await self._images.inspect(reference)

    async def load_images(
        self, archive: Path, *, platform: str = "", progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        """As EngineApi."""
        return await self._images.load(archive, platform=platform, progress=progress)

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        """As EngineApi."""
        return await self._images.make_starter(progress=progress)

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        """As EngineApi."""
        from engine.containers.demo import start_demo_containers

        requests = await self._images.make_demo(progress=progress)
        return await start_demo_containers(self._containers, requests, progress=progress)

    async def tag_image(self, source: str, target: str) -> None:
        """As EngineApi."""
        await self._images.tag(source, target)

    async def remove_image(
        self, reference: str, *, is_forced: bool = False, keeps_parents: bool = False
    ) -> RemovedImage:
        """As EngineApi."""
        return await self._images.remove(
            reference, is_forced=is_forced, keeps_parents=keeps_parents
        )

    async def prune_images(
        self, wanted: PruneFilter, *, includes_named: bool = False
    ) -> RemovedImage:
        """As EngineApi."""
        return await self._images.prune(wanted, includes_named=includes_named)

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        """As EngineApi."""
        return await self._images.list_layer_files(image_reference, position)

    async def read_layer_file(self, image_reference: str, position: int, path: str) -> FileContent:
        """As EngineApi."""
        return await self._images.read_layer_file(image_reference, position, path)
