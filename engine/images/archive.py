"""Loading image archives: all of one, or nothing.

Layers are unpacked straight from where they are in the archive into a staging directory, synced
once, and only then given to the catalog, which gives them their names in one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from engine.errors import EngineError, SyscallError
from engine.images.archive_documents import ArchiveImage, ArchiveLayer, NewImage, read_images
from engine.images.archive_source import (
    ArchiveSource,
    open_archive,
)
from engine.late_dataclasses import dataclass
from engine.linux.files import sync_file_system
from engine.operations import (
    Cancellation,
    CancelledRead,
    Progress,
    ProgressListener,
    ignore_progress,
)
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.removal import engine_error
from engine.snapshots.unpacking import (
    ArchivedLayer,
    StackProgress,
    UnpackArchiveArguments,
    UnpackArguments,
    UnpackResult,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from engine.config import LayerLimits
    from engine.oci.documents import Platform
    from engine.snapshots.base import JobRunner
    from engine.types import ChainId, DiffId, LoadedImage

_MOST_FILES = 120
_MOST_LAYERS = 128
"""One worker unpacks: a message to it has room for so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedLayer:
    """A complete, synced layer in staging.

    Attributes:
        parent_chain_id: Of the layer below, None for the lowest.
        directory: Holds `diff` and `index`; to be renamed to its place in the store.
        warnings: What the host could not make as the layer has it.
    """

    chain_id: ChainId
    parent_chain_id: ChainId | None
    diff_id: DiffId
    size_bytes: int
    entry_count: int
    directory: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What loading an archive did."""

    images: tuple[LoadedImage, ...]
    warnings: tuple[str, ...]


class ImageCatalog(Protocol):
    """Where loaded images end up: the store's records and its directory of layers."""

    async def find_layers(self, chain_ids: Sequence[ChainId]) -> frozenset[ChainId]:
        """Which of these layers are complete in the store.

        They must stay there until `publish`, also while others collect garbage.
        """

    async def publish(
        self, images: Sequence[NewImage], layers: Sequence[StagedLayer]
    ) -> tuple[LoadedImage, ...]:
        """Rename the layers into place, store the documents, and record all in a transaction.

        A layer that somebody else has put in its place meanwhile is kept; ours is left in
        staging. Names are normalised here; one that is not valid is an error.
        """


async def load_archive(
    archive: Path,
    *,
    staging: Path,
    layers_directory: Path,
    catalog: ImageCatalog,
    runner: JobRunner,
    platform: Platform,
    uses_user_xattrs: bool,
    limits: LayerLimits,
    progress: ProgressListener = ignore_progress,
) -> LoadResult:
    """Load every image of an archive. Cancelling leaves the store as it was.

    Args:
        archive: A docker-archive or OCI archive (also compressed, also a pipe), or a directory.
        staging: An empty directory on the store's file system. The caller removes it, with what
            is left in it, after success, failure and cancellation (by the job `remove-tree`).
        layers_directory: Holds `<chain id's hex>/diff`.
        catalog: Where the images end up.
        runner: Unpacks with the container's ids.
        platform: What the images must be for.
        uses_user_xattrs: Mark opaque directories by `user.` attributes (rootless overlay).
        limits: How much a layer may unpack to.
        progress: Is told of each layer.

    Raises:
        ArchiveError: The archive cannot be used; see its subclasses.
        NoSpaceError: The disk is full.
    """
    async with _opened(archive, staging, limits, progress) as (source, thread):
        images = await _in_thread(thread, lambda: read_images(source, platform=platform))
        load = _Load(
            staging=staging,
            layers_directory=layers_directory,
            runner=runner,
            label=source.label,
            uses_user_xattrs=uses_user_xattrs,
            limits=limits,
            progress=progress,
        )
        layers = _distinct_layers(images)
        present = await catalog.find_layers(tuple(layers))
        staged = await load.unpack(layers, present)
        if staged:
            progress(Progress(step="Writing to the disk"))
            await _in_thread(thread, lambda: _sync(staging))
        published = await catalog.publish(images, staged)
    warnings = {layer.chain_id: layer.warnings for layer in staged}
    loaded = tuple(
        replace(one, warnings=_warnings_of(image, warnings))
        for one, image in zip(published, images, strict=True)
    )
    together = dict.fromkeys(warning for layer in staged for warning in layer.warnings)
    return LoadResult(images=loaded, warnings=tuple(together))


def _warnings_of(
    image: ArchiveImage, warnings: Mapping[ChainId, tuple[str, ...]]
) -> tuple[str, ...]:
    found = (warning for layer in image.layers for warning in warnings.get(layer.chain_id, ()))
    return tuple(dict.fromkeys(found))


def _distinct_layers(
    images: Sequence[ArchiveImage],
) -> dict[ChainId, tuple[ArchiveLayer, ...]]:
    """Every layer once, with the stack that it tops, bottom first; lower ones come first."""
    layers: dict[ChainId, tuple[ArchiveLayer, ...]] = {}
    for image in images:
        for count, layer in enumerate(image.layers, 1):
            layers.setdefault(layer.chain_id, image.layers[:count])
    return layers


class _Load:
    """The unpacking of one archive's layers."""

    def __init__(
        self,
        *,
        staging: Path,
        layers_directory: Path,
        runner: JobRunner,
        label: str,
        uses_user_xattrs: bool,
        limits: LayerLimits,
        progress: ProgressListener,
    ) -> None:
        self._staging = staging
        self._layers_directory = layers_directory
        self._runner = runner
        self._label = label
        self._uses_user_xattrs = uses_user_xattrs
        self._limits = limits
        self._progress = progress
        self._directories: dict[ChainId, Path] = {}

    async def unpack(
        self, layers: dict[ChainId, tuple[ArchiveLayer, ...]], present: frozenset[ChainId]
    ) -> tuple[StagedLayer, ...]:
        """Unpack what is not present, bottom first: a layer may link to files below it."""
        missing = [layers[chain] for chain in layers if chain not in present]
        for chain in layers:
            name = chain.removeprefix("sha256:")
            self._directories[chain] = (
                self._layers_directory / name
                if chain in present
                else self._staging / f"layer-{name}"
            )
        staged: list[StagedLayer] = []
        for stacks in _batches(missing):
            staged += await self._unpack_some(stacks, done=len(staged), total=len(missing))
        return tuple(staged)

    async def _unpack_some(
        self, stacks: Sequence[tuple[ArchiveLayer, ...]], *, done: int, total: int
    ) -> list[StagedLayer]:
        """Unpack the topmost layer of each stack, in one worker."""
        blobs = list(dict.fromkeys(stack[-1].member.descriptor for stack in stacks))
        arguments = UnpackArchiveArguments(
            layers=tuple(
                ArchivedLayer(
                    descriptor=blobs.index(stack[-1].member.descriptor),
                    directory_name=self._directories[stack[-1].chain_id].name,
                    layer=self._arguments(stack),
                )
                for stack in stacks
            )
        )
        results: list[UnpackResult] = []

        def on_progress(message: bytes) -> None:
            told = msgspec.json.decode(message, type=StackProgress)
            if told.result is not None:
                results.append(told.result)
            self._progress(
                Progress(
                    step=f"Unpacking layer {done + told.position + 1} of {total}",
                    done=told.done,
                    total=stacks[told.position][-1].member.size,
                    unit="bytes",
                )
            )

        try:
            for stack in stacks:
                self._directories[stack[-1].chain_id].mkdir(mode=0o700)
            parent = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise engine_error(error, str(self._staging)) from error
        try:
            await self._runner.run_job(
                "unpack-archive",
                msgspec.json.encode(arguments),
                descriptors=(parent, *blobs),
                on_progress=on_progress,
            )
        finally:
            os.close(parent)
        return [self._staged(stack, result) for stack, result in zip(stacks, results, strict=True)]

    def _arguments(self, stack: tuple[ArchiveLayer, ...]) -> UnpackArguments:
        layer = stack[-1]
        return UnpackArguments(
            label=f"{self._label} (layer {layer.diff_id[:19]})",
            offset=layer.member.offset,
            size=layer.member.size,
            blob_digest=layer.blob_digest,
            diff_id=layer.diff_id,
            lower_paths=tuple(
                str(self._directories[below.chain_id] / DIFF_NAME) for below in reversed(stack[:-1])
            ),
            uses_user_xattrs=self._uses_user_xattrs,
            limits=self._limits,
        )

    def _staged(self, stack: tuple[ArchiveLayer, ...], result: UnpackResult) -> StagedLayer:
        layer = stack[-1]
        return StagedLayer(
            chain_id=layer.chain_id,
            parent_chain_id=stack[-2].chain_id if len(stack) > 1 else None,
            diff_id=layer.diff_id,
            size_bytes=result.size_bytes,
            entry_count=result.entry_count,
            directory=self._directories[layer.chain_id],
            warnings=result.warnings,
        )


def _batches(
    stacks: Sequence[tuple[ArchiveLayer, ...]],
) -> Iterator[list[tuple[ArchiveLayer, ...]]]:
    """As many at once as one worker can be given."""
    batch: list[tuple[ArchiveLayer, ...]] = []
    descriptors: set[int] = set()
    for stack in stacks:
        descriptors.add(stack[-1].member.descriptor)
        if len(descriptors) > _MOST_FILES or len(batch) == _MOST_LAYERS:
            yield batch
            batch, descriptors = [], {stack[-1].member.descriptor}
        batch.append(stack)
    if batch:
        yield batch


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file_system(descriptor)
    except OSError as error:
        raise engine_error(error, str(directory)) from error
    finally:
        os.close(descriptor)


_Result = TypeVar("_Result")


async def _in_thread(
    thread: ThreadPoolExecutor,
    call: Callable[[], _Result],
    *,
    on_cancel: Callable[[], None] | None = None,
) -> _Result:
    """Run a blocking call; when cancelled, wait until it has ended: it uses our descriptors."""
    future = asyncio.get_running_loop().run_in_executor(thread, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait((future,))
        if not future.cancelled() and future.exception() is None:
            result = future.result()
            close = getattr(result, "close", None)
            if close is not None:
                close()
        raise


@contextlib.asynccontextmanager
async def _opened(
    archive: Path, staging: Path, limits: LayerLimits, progress: ProgressListener
) -> AsyncIterator[tuple[ArchiveSource, ThreadPoolExecutor]]:
    """The archive, and the one thread that all blocking reads of it run in."""
    loop = asyncio.get_running_loop()
    cancellation = Cancellation()
    thread = ThreadPoolExecutor(1, thread_name_prefix="archive")

    def on_bytes(done: int, total: int | None) -> None:
        step = Progress(step="Reading the archive", done=done, total=total, unit="bytes")
        loop.call_soon_threadsafe(progress, step)

    def open_now() -> ArchiveSource:
        try:
            return open_archive(
                archive,
                staging=staging,
                limits=limits,
                cancellation=cancellation,
                on_bytes=on_bytes,
            )
        except OSError as error:
            raise SyscallError("open", error.errno or 5, str(archive)) from error
        except CancelledRead:
            raise EngineError("loading was cancelled") from None

    try:
        source = await _in_thread(thread, open_now, on_cancel=cancellation.cancel)
        try:
            yield source, thread
        finally:
            source.close()
    finally:
        thread.shutdown(wait=False)
        cancellation.close()
