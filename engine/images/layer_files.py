"""The files of the layers of images: listed from their indexes, read from where they are."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import FileNotInLayerError, ImageNotFoundError, StoreError
from engine.images.catalog import layer_directory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.snapshots.base import JobRunner
    from engine.types import FileContent, FileTree, ImageDetails, LayerSummary


class LayerFiles:
    """Looks into layers of one store. Waits for nobody: a layer may go while it is read."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        runner: JobRunner,
        inspect: Callable[[str], Awaitable[ImageDetails]],
    ) -> None:
        """Look into a store.

        Args:
            config: Where it is.
            runner: Reads what belongs to a container's ids.
            inspect: Finds an image by whatever names it.
        """
        self._config = config
        self._runner = runner
        self._inspect = inspect
        # One: the newest request waits for the last.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layer-files")

    def close(self) -> None:
        """Let the thread go that reads indexes."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def list(self, reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it.

        Raises:
            ImageNotFoundError: There is no such image, or no such step.
            StoreError: The layer is missing.
        """
        # Loaded by who looks at files.
        from engine.snapshots.index import MergedTree, read_index
        from engine.types import FileTree

        image = await self._inspect(reference)
        step = _step_of(image, reference, position)
        if step.chain_id is None:
            return FileTree(title=step.created_by, entries=(), size_bytes=0)
        below = [
            str(layer_directory(self._config, layer.chain_id) / "index")
            for layer in image.layers[:position]
            if layer.chain_id is not None
        ]
        own = str(layer_directory(self._config, step.chain_id) / "index")

        def compare() -> FileTree:
            index = read_index(own)
            entries = MergedTree.of(read_index(path) for path in below).compare(index)
            return FileTree(title=step.created_by, entries=entries, size_bytes=step.size_bytes)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, compare)
        except FileNotFoundError:
            raise await self._missing(reference) from None

    async def read(self, reference: str, position: int, path: str) -> FileContent:
        """The beginning of a file of one history step.

        Raises:
            ImageNotFoundError: There is no such image, or no such step.
            FileNotInLayerError: The layer does not have it.
            InvalidInputError: It is no file.
            StoreError: The layer is missing.
        """
        from engine.snapshots.base import DIFF_NAME
        from engine.snapshots.viewing import view_in_tree

        step = _step_of(await self._inspect(reference), reference, position)
        missing = FileNotInLayerError(
            path,
            f"{reference} (step {position})",
            hint=f"`lamella history --files {position} {reference}` lists what the step has",
        )
        if step.chain_id is None:
            raise missing
        try:
            tree = _open(layer_directory(self._config, step.chain_id) / DIFF_NAME)
        except FileNotFoundError:
            raise await self._missing(reference) from None
        try:
            return await view_in_tree(self._runner, tree, path, missing=missing)
        finally:
            os.close(tree)

    async def _missing(self, reference: str) -> StoreError:
        """What to say of a layer that is not there: its image was removed, or the store damaged."""
        await self._inspect(reference)
        return StoreError(
            f"a layer of {reference} is missing from the store",
            hint="`lamella fsck` says what else is, and what to do about it",
        )


def _step_of(image: ImageDetails, reference: str, position: int) -> LayerSummary:
    if not 0 <= position < len(image.layers):
        raise ImageNotFoundError(f"{reference} (step {position})")
    return image.layers[position]


def _open(directory: Path) -> int:
    # One call on a local directory, and not to be cancelled between.
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
