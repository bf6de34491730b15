"""Pulling: an image of a registry, with layers that are unpacked while they come.

Blobs are fetched some at once and kept as they come, also over a kill. One worker unpacks them,
bottom first, as far as they have come, and verifies both digests of each. Nothing has a name in
the store before all of it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import ArchiveError, EngineError, LayerLimitError, NoSpaceError, UnsafePathError
from engine.images.archive import StagedLayer
from engine.images.archive_documents import NewImage
from engine.images.blocking import BlockingCalls
from engine.images.catalog import layer_directory
from engine.images.fetching import PARALLEL_FETCHES, BlobFetcher, DocumentFetcher, blob_name
from engine.images.remote import ImageInRegistry, read_image
from engine.images.transfer_board import TransferBoard
from engine.linux.files import sync_file_system
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.removal import engine_error
from engine.snapshots.unpacking import (
    StackLayer,
    StackProgress,
    UnpackArguments,
    UnpackResult,
    UnpackStackArguments,
)
from engine.store.downloads import DownloadArea
from engine.store.locks import LockFile
from engine.store.repository_digests import RepositoryDigest
from engine.types import PulledImage, TransferStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.catalog import StoreCatalog
    from engine.images.layer_cache import LayerCache
    from engine.images.remote import ImageSource, PullLayer
    from engine.oci.documents import Platform
    from engine.oci.reference import Reference
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecords
    from engine.store.staging import StagingArea
    from engine.types import ChainId, ImageId, TransferListener


class ImageAdder(Protocol):
    """Gives the catalog that images are added through."""

    def __call__(
        self, staging: Path, /, *, action: str
    ) -> AbstractAsyncContextManager[StoreCatalog]:
        """Hold it; `staging` is of a claim that outlasts the block."""


class SourceMaker(Protocol):
    """Connects with registries."""

    def __call__(self) -> ImageSource:
        """Make a client for one pull."""


class _Overtaken(Exception):  # noqa: N818 - not an error: there is less to do
    """Somebody else has made layers that this pull was to make."""


class _DamagedError(Exception):
    """A blob came otherwise than it was promised; it was dropped."""

    def __init__(self, error: ArchiveError) -> None:
        super().__init__(str(error))
        self.error = error


class ImagePuller:
    """Pulls images into one store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        blobs: BlobStore,
        staging: StagingArea,
        adding_images: ImageAdder,
        runner: JobRunner,
        connect: SourceMaker,
        looked_into: LayerCache,
        uses_user_xattrs: bool,
    ) -> None:
        self._config = config
        self._records = records
        self._blobs = blobs
        self._downloads = DownloadArea(config.downloads_directory)
        self._staging = staging
        self._adding_images = adding_images
        self._runner = runner
        self._connect = connect
        self._looked_into = looked_into
        self._uses_user_xattrs = uses_user_xattrs

    async def pull(
        self, name: Reference, platform: Platform, *, progress: TransferListener
    ) -> PulledImage:
        """Pull an image. Cancelling leaves the store as it was, and what has arrived of blobs.

        A blob that came damaged is fetched once more.

        Raises:
            RegistryError: The registry does not have it or does not give it.
            ArchiveError: It cannot be used here.
            NoSpaceError: The disk is full.
        """
        board = TransferBoard(progress)
        has_retried = False
        while True:
            try:
                return await self._pull_once(name, platform, board)
            except _Overtaken:
                continue
            except _DamagedError as damage:
                if has_retried:
                    raise damage.error from None
                has_retried = True

    async def _pull_once(
        self, name: Reference, platform: Platform, board: TransferBoard
    ) -> PulledImage:
        source = await asyncio.to_thread(self._connect)
        async with (
            self._staging.claim("pull") as staging,
            self._adding_images(staging, action="pull") as catalog,
            contextlib.AsyncExitStack() as held,
        ):
            with (
                contextlib.closing(source),
                BlockingCalls(
                    # One more, for what the fetches must not hold up.
                    "pull",
                    thread_count=PARALLEL_FETCHES + 1,
                    end=source.cancel,
                ) as calls,
            ):
                documents = DocumentFetcher(source, blobs=self._blobs, downloads=self._downloads)
                image = await calls.run(
                    lambda: read_image(
                        source,
                        name,
                        platform,
                        get_config=documents.get_config,
                        known=documents.find_manifest,
                    )
                )
                # Before it is looked what is here: so it stays.
                digests = [layer.blob.digest for layer in image.layers]
                await catalog.keep([image.image_id, *digests])
                before = await self._known(name)
                attempt = _Attempt(
                    image,
                    config=self._config,
                    staging=staging,
                    catalog=catalog,
                    held=held,
                    calls=calls,
                    source=source,
                    blobs=self._blobs,
                    downloads=self._downloads,
                    looked_into=self._looked_into,
                    runner=self._runner,
                    uses_user_xattrs=self._uses_user_xattrs,
                    board=board,
                )
                staged = await attempt.bring_layers()
                blobs = {
                    layer.blob.digest: staging / blob_name(layer.blob.digest)
                    for layer in attempt.made
                }
                await catalog.publish((_new_image(image),), staged, blobs)
                await calls.run(lambda: self._downloads.discard((image.image_id, *blobs)))
        return PulledImage(
            image_id=image.image_id,
            name=name.familiar_name,
            digest=image.named_digest,
            is_new=before != image.image_id,
            warnings=tuple(
                dict.fromkeys(
                    (*source.warnings, *(text for layer in staged for text in layer.warnings))
                )
            ),
        )

    async def _known(self, name: Reference) -> ImageId | None:
        """What the name leads to before the pull."""
        if name.digest is None:
            return await self._records.find_by_name(name.familiar_name)
        known_as = RepositoryDigest(repository=name.familiar_repository, digest=name.digest)
        return await self._records.find_by_repository_digest(known_as)


def _new_image(image: ImageInRegistry) -> NewImage:
    name = image.name
    return NewImage(
        image_id=image.image_id,
        manifest_digest=image.manifest_digest,
        names=() if name.digest is not None else (name.familiar_name,),
        config=image.config,
        manifest=image.manifest,
        layers=image.layers,
        origin=RepositoryDigest(repository=name.familiar_repository, digest=image.named_digest),
    )


class _Attempt:
    """One go at the layers of one image."""

    def __init__(
        self,
        image: ImageInRegistry,
        *,
        config: EngineConfig,
        staging: Path,
        catalog: StoreCatalog,
        held: contextlib.AsyncExitStack,
        calls: BlockingCalls,
        source: ImageSource,
        blobs: BlobStore,
        downloads: DownloadArea,
        looked_into: LayerCache,
        runner: JobRunner,
        uses_user_xattrs: bool,
        board: TransferBoard,
    ) -> None:
        self._image = image
        self._config = config
        self._staging = staging
        self._catalog = catalog
        self._held = held
        self._calls = calls
        self._source = source
        self._blobs = blobs
        self._downloads = downloads
        self._looked_into = looked_into
        self._runner = runner
        self._uses_user_xattrs = uses_user_xattrs
        self._board = board
        self._results: list[UnpackResult] = []
        self.made: tuple[PullLayer, ...] = ()
        """The layers that were not here."""

    async def bring_layers(self) -> tuple[StagedLayer, ...]:
        """Fetch and unpack what is not here; complete and synced in staging when it returns."""
        missing = await self._missing()
        self._tell_beginning(missing)
        if not missing:
            return ()
        await self._calls.run(lambda: self._check_room(missing))
        grown = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            await self._fetch_and_unpack(missing, grown)
        finally:
            os.close(grown)
        await self._calls.run(self._sync)
        self.made = missing
        return self._staged(missing)

    async def _missing(self) -> tuple[PullLayer, ...]:
        layers = self._image.layers
        present = await self._catalog.find_layers([layer.chain_id for layer in layers])
        return tuple(layer for layer in layers if layer.chain_id not in present)

    def _tell_beginning(self, missing: Sequence[PullLayer]) -> None:
        digests = {layer.blob.digest for layer in missing}
        for layer in self._image.layers:
            is_missing = layer.blob.digest in digests
            status = TransferStatus.WAITING if is_missing else TransferStatus.EXISTS
            self._board.tell(layer.blob.digest, status, total_bytes=layer.blob.size_bytes)

    def _check_room(self, missing: Sequence[PullLayer]) -> None:
        """Refuse what cannot fit before the disk is full for everybody else."""
        sizes = {layer.blob.digest: layer.blob.size_bytes for layer in missing}
        disk = os.statvfs(self._staging)
        needed = sum(sizes.values()) - self._downloads.arrived_bytes(sizes)
        if needed > disk.f_bavail * disk.f_frsize:
            raise NoSpaceError(str(self._config.root))

    async def _fetch_and_unpack(self, missing: tuple[PullLayer, ...], grown: int) -> None:
        fetcher = BlobFetcher(
            source=self._source,
            calls=self._calls,
            name=self._image.name,
            staging=self._staging,
            grown=grown,
            blobs=self._blobs,
            downloads=self._downloads,
            looked_into=self._looked_into,
            board=self._board,
        )
        descriptors = {layer.blob.digest: layer.descriptor for layer in missing}
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for descriptor in descriptors.values():
                    tasks.create_task(fetcher.fetch(descriptor))
                tasks.create_task(self._unpack(missing, grown))
        except* (EngineError, _Overtaken) as group:
            failure = _first(group)
        if failure is None:
            return
        if isinstance(failure, ArchiveError) and not isinstance(
            failure, LayerLimitError | UnsafePathError
        ):
            # The layer after the last complete one is at fault, or its blob is.
            descriptor = missing[len(self._results)].descriptor
            if await self._calls.run(lambda: fetcher.discard_unless_right(descriptor)):
                raise _DamagedError(failure)
        raise failure

    async def _unpack(self, missing: tuple[PullLayer, ...], grown: int) -> None:
        """Unpack every layer as it comes; waits while somebody else makes the lowest of them."""
        # Until the image is recorded: whoever waits finds the layers then.
        await self._held.enter_async_context(_making(self._config, missing[0].chain_id))
        if await self._missing() != missing:
            raise _Overtaken
        parent = await self._calls.run(lambda: self._make_directories(missing))
        try:
            await self._runner.run_job(
                "unpack-stack",
                msgspec.json.encode(self._arguments(missing)),
                descriptors=(parent, grown),
                on_progress=lambda message: self._on_progress(missing, message),
            )
        finally:
            os.close(parent)

    def _make_directories(self, missing: Sequence[PullLayer]) -> int:
        """Make an empty directory for each layer; returns a descriptor of the one that has them."""
        try:
            for layer in missing:
                self._directory(layer.chain_id).mkdir(mode=0o700)
            return os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise engine_error(error, str(self._staging)) from error

    def _directory(self, chain_id: ChainId) -> Path:
        return self._staging / f"layer-{chain_id.removeprefix('sha256:')}"

    def _arguments(self, missing: Sequence[PullLayer]) -> UnpackStackArguments:
        made = {layer.chain_id for layer in missing}
        lowers: list[str] = []
        parts: list[StackLayer] = []
        for layer in self._image.layers:
            directory = layer_directory(self._config, layer.chain_id)
            if layer.chain_id in made:
                directory = self._directory(layer.chain_id)
                arguments = UnpackArguments(
                    label=f"{self._image.name.familiar_name} (layer {layer.blob.digest[:19]})",
                    offset=0,
                    size=layer.blob.size_bytes,
                    blob_digest=layer.blob.digest,
                    diff_id=layer.diff_id,
                    lower_paths=tuple(reversed(lowers)),
                    uses_user_xattrs=self._uses_user_xattrs,
                    limits=self._config.layer_limits,
                )
                part = StackLayer(
                    blob_name=blob_name(layer.blob.digest),
                    directory_name=directory.name,
                    layer=arguments,
                )
                parts.append(part)
            lowers.append(str(directory / DIFF_NAME))
        return UnpackStackArguments(layers=tuple(parts))

    def _on_progress(self, missing: Sequence[PullLayer], message: bytes) -> None:
        progress = msgspec.json.decode(message, type=StackProgress)
        blob = missing[progress.position].blob
        if progress.result is not None:
            self._results.append(progress.result)
            self._board.tell(blob.digest, TransferStatus.DONE, total_bytes=blob.size_bytes)
        elif self._board.status_of(blob.digest) in {
            TransferStatus.DOWNLOADED,
            TransferStatus.EXTRACTING,
        }:
            # As long as it comes, that is what there is to wait for.
            self._board.tell(
                blob.digest,
                TransferStatus.EXTRACTING,
                done_bytes=progress.done,
                total_bytes=blob.size_bytes,
            )

    def _sync(self) -> None:
        descriptor = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(descriptor)
        except OSError as error:
            raise engine_error(error, str(self._staging)) from error
        finally:
            os.close(descriptor)

    def _staged(self, missing: Sequence[PullLayer]) -> tuple[StagedLayer, ...]:
        below: dict[ChainId, ChainId | None] = {}
        parent: ChainId | None = None
        for layer in self._image.layers:
            below[layer.chain_id] = parent
            parent = layer.chain_id
        return tuple(
            StagedLayer(
                chain_id=layer.chain_id,
                parent_chain_id=below[layer.chain_id],
                diff_id=layer.diff_id,
                size_bytes=result.size_bytes,
                entry_count=result.entry_count,
                directory=self._directory(layer.chain_id),
                warnings=result.warnings,
            )
            for layer, result in zip(missing, self._results, strict=True)
        )


@contextlib.asynccontextmanager
async def _making(config: EngineConfig, chain_id: ChainId) -> AsyncIterator[None]:
    """Be the only one who makes a layer; waits for who does it now.

    Whoever makes an image holds the lock of its lowest missing layer until the end. Images that
    share more have that one in common as well, so one lock is enough, and nobody waits in a ring.
    """
    path = config.layer_lock_path(chain_id)
    lock = LockFile(path, what="Making a layer", is_removed_with_directory=True)
    await lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
        lock.release()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first: the others are of its making."""
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return group
