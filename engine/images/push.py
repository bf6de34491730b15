"""Pushing: an image of the store to a registry, with as few bytes as can be.

Blobs that were kept go as they came, under the manifest that they came with if all were. The
others are made again of their layers, gzipped; their tar is verified to be what the image says.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import EngineError, ImageNotFoundError, InvalidReferenceError
from engine.images.blocking import BlockingCalls
from engine.images.catalog import append_image_event, layer_directory
from engine.images.documents import require_platform
from engine.images.transfer_board import TransferBoard
from engine.late_dataclasses import dataclass
from engine.oci.digests import digest_of
from engine.oci.documents import (
    MAXIMUM_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    decode_manifest,
    encode_document,
    oci_layer_type,
)
from engine.oci.reference import parse_reference
from engine.snapshots.job_parts import JobProgress
from engine.snapshots.layer_tar_jobs import LayerTarArguments, LayerTarResult
from engine.snapshots.removal import engine_error
from engine.store.repository_digests import RepositoryDigest
from engine.types import Compression, Digest, PushedImage, TransferStatus

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from engine.config import EngineConfig
    from engine.images.pull import ImageAdder
    from engine.images.remote import BlobContent, ImageTarget
    from engine.oci.reference import Reference
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageLayerRecord, ImageRecord, ImageRecords
    from engine.store.staging import StagingArea
    from engine.store.transfer_records import KeptBlob, TransferRecords
    from engine.types import ChainId, TransferListener

_PARALLEL_LAYERS = 3


class TargetMaker(Protocol):
    """Connects with registries."""

    def __call__(self) -> ImageTarget:
        """Make a client for one push; blocking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileBlob:
    """A blob in a file."""

    path: Path
    size: int

    def open(self) -> BinaryIO:
        return self.path.open("rb")


@dataclass(frozen=True, slots=True, kw_only=True)
class _DocumentBlob:
    """A blob in memory."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)


class ImagePusher:
    """Pushes images of one store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        transfers: TransferRecords,
        blobs: BlobStore,
        staging: StagingArea,
        adding_images: ImageAdder,
        runner: JobRunner,
        connect: TargetMaker,
    ) -> None:
        self._config = config
        self._records = records
        self._transfers = transfers
        self._blobs = blobs
        self._staging = staging
        self._adding_images = adding_images
        self._runner = runner
        self._connect = connect

    async def push(
        self, name: Reference, *, platform: str, progress: TransferListener
    ) -> PushedImage:
        """Push the image that has a name to where the name says.

        Cancelling leaves blobs in the registry that no manifest names, which it collects.

        Raises:
            ImageNotFoundError: No image has the name.
            ImageForPlatformNotFoundError: It is for another platform than the one asked for.
            RegistryError: The registry does not take it.
            StoreError: A layer cannot be made again as it was.
        """
        if name.digest is not None:
            raise InvalidReferenceError(name.familiar_name, "cannot push a digest reference")
        image_id = await self._records.find_by_name(name.familiar_name)
        if image_id is None:
            raise ImageNotFoundError(name.familiar_name)
        board = TransferBoard(progress)
        target = await asyncio.to_thread(self._connect)
        async with (
            self._staging.claim("push") as staging,
            self._adding_images(staging, action="push") as catalog,
        ):
            record = await self._records.find(image_id)
            if record is not None:
                chain = tuple(part.layer.chain_id for part in record.layers)
                kept = await self._transfers.kept_blobs(chain)
                digests = (blob.digest for blob in kept.values())
                await catalog.keep((record.manifest_digest, image_id, *chain, *digests))
                # It may have gone before it was claimed; from now on it does not.
                record = await self._records.find(image_id)
            if record is None:
                raise ImageNotFoundError(name.familiar_name)
            require_platform(record.config, name.familiar_name, platform)
            with (
                contextlib.closing(target),
                BlockingCalls("push", thread_count=_PARALLEL_LAYERS, end=target.cancel) as calls,
            ):
                push = _Push(
                    name,
                    record,
                    config=self._config,
                    transfers=self._transfers,
                    blobs=self._blobs,
                    staging=staging,
                    runner=self._runner,
                    target=target,
                    calls=calls,
                    board=board,
                )
                pushed = await push.run()
        known_as = RepositoryDigest(repository=name.familiar_repository, digest=pushed.digest)
        await self._transfers.remember(known_as, image_id)
        await asyncio.to_thread(
            append_image_event, self._config, "push", image_id, name.familiar_name
        )
        return pushed


class _Push:
    """One image on its way."""

    def __init__(
        self,
        name: Reference,
        record: ImageRecord,
        *,
        config: EngineConfig,
        transfers: TransferRecords,
        blobs: BlobStore,
        staging: Path,
        runner: JobRunner,
        target: ImageTarget,
        calls: BlockingCalls,
        board: TransferBoard,
    ) -> None:
        self._name = name
        self._record = record
        self._config = config
        self._transfers = transfers
        self._blobs = blobs
        self._staging = staging
        self._runner = runner
        self._target = target
        self._calls = calls
        self._board = board
        self._slots = asyncio.Semaphore(_PARALLEL_LAYERS)

    async def run(self) -> PushedImage:
        """Send layers, config and manifest, in this order."""
        layers = self._record.layers
        for part in layers:
            self._board.tell(_shown(part), TransferStatus.PREPARING)
        chain = tuple(part.layer.chain_id for part in layers)
        kept = await self._transfers.kept_blobs(chain)
        there = await self._calls.run(lambda: self._those_that_are_there(kept))
        old = await self._calls.run(self._old_manifest)
        failure: EngineError | None = None
        sent: list[asyncio.Task[Descriptor]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                # The same layer at two places, such as an empty one, is sent once.
                first: dict[str, asyncio.Task[Descriptor]] = {}
                for part in layers:
                    diff_id = part.layer.diff_id
                    if diff_id not in first:
                        blob = there.get(part.layer.chain_id)
                        first[diff_id] = tasks.create_task(self._send_layer(part, blob))
                    sent.append(first[diff_id])
        except* EngineError as group:
            failure = next(error for error in group.exceptions if isinstance(error, EngineError))
        if failure is not None:
            raise failure
        descriptors = tuple(task.result() for task in sent)
        await self._calls.run(self._send_config)
        content, media_type = self._manifest(old, descriptors)
        tag = self._name.tag or "latest"
        digest = await self._calls.run(
            lambda: self._target.put_manifest(
                self._name, tag_or_digest=tag, media_type=media_type, content=content
            )
        )
        return PushedImage(name=self._name.familiar_name, digest=digest, size_bytes=len(content))

    # --- documents ----------------------------------------------------------------------------

    def _old_manifest(self) -> tuple[bytes, Manifest]:
        content = self._blobs.read(
            self._record.manifest_digest, maximum_bytes=MAXIMUM_MANIFEST_BYTES
        )
        return content, decode_manifest(content, self._name.familiar_name)

    def _send_config(self) -> None:
        digest = Digest(self._record.image_id)
        if not self._target.has_blob(self._name, digest):
            self._target.upload_blob(
                self._name,
                _DocumentBlob(content=self._record.config),
                digest=digest,
                on_bytes=_ignore_bytes,
            )

    def _manifest(
        self, old: tuple[bytes, Manifest], layers: tuple[Descriptor, ...]
    ) -> tuple[bytes, str]:
        """The manifest that the image came with, if it says what was sent; else one of our own."""
        content, manifest = old
        before = tuple(part.digest for part in manifest.layers or ())
        if before == tuple(part.digest for part in layers) and manifest.config is not None:
            return content, manifest.media_type or OCI_MANIFEST
        config = Descriptor(
            media_type=OCI_CONFIG,
            digest=digest_of(self._record.config),
            size=len(self._record.config),
        )
        made = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=layers)
        return encode_document(made), OCI_MANIFEST

    # --- layers -------------------------------------------------------------------------------

    def _those_that_are_there(self, kept: dict[ChainId, KeptBlob]) -> dict[ChainId, KeptBlob]:
        return {chain: blob for chain, blob in kept.items() if self._blobs.has(blob.digest)}

    async def _send_layer(self, part: ImageLayerRecord, kept: KeptBlob | None) -> Descriptor:
        async with self._slots:
            if kept is not None:
                content: BlobContent = _FileBlob(
                    path=self._blobs.path(kept.digest), size=kept.size_bytes
                )
                descriptor = Descriptor(
                    media_type=oci_layer_type(kept.media_type),
                    digest=kept.digest,
                    size=kept.size_bytes,
                )
                sources = await self._sources(kept.digest)
                await self._calls.run(lambda: self._give(part, descriptor, content, sources))
                return descriptor
            path = self._staging / f"blob-{part.layer.diff_id.removeprefix('sha256:')}"
            made = await self._make(part, path)
            descriptor = Descriptor(
                media_type=OCI_LAYER_GZIP, digest=made.blob_digest, size=made.blob_bytes
            )
            content = _FileBlob(path=path, size=made.blob_bytes)
            await self._calls.run(lambda: self._give(part, descriptor, content, ()))
            await self._calls.run(path.unlink)
            return descriptor

    async def _sources(self, digest: str) -> tuple[str, ...]:
        """Repositories of the same registry that may have a blob."""
        named = [parse_reference(text) for text in await self._transfers.repositories_with(digest)]
        return tuple(
            other.path
            for other in named
            if other.domain == self._name.domain and other.path != self._name.path
        )

    def _give(
        self,
        part: ImageLayerRecord,
        descriptor: Descriptor,
        content: BlobContent,
        sources: tuple[str, ...],
    ) -> None:
        """Let the registry have a blob; in a thread."""
        shown, digest = _shown(part), Digest(descriptor.digest)
        if self._target.has_blob(self._name, digest):
            self._board.tell(shown, TransferStatus.PRESENT)
            return
        for source in sources:
            if self._target.mount_blob(self._name, digest, source_repository=source):
                self._board.tell(shown, TransferStatus.MOUNTED, detail=source)
                return

        def on_bytes(count: int) -> None:
            self._board.tell(
                shown, TransferStatus.PUSHING, done_bytes=count, total_bytes=descriptor.size
            )

        def on_retry(seconds: float) -> None:
            self._board.tell(shown, TransferStatus.RETRYING, detail=f"in {seconds:.0f} seconds")

        self._target.upload_blob(
            self._name, content, digest=digest, on_bytes=on_bytes, on_retry=on_retry
        )
        self._board.tell(shown, TransferStatus.PUSHED, total_bytes=descriptor.size)

    async def _make(self, part: ImageLayerRecord, path: Path) -> LayerTarResult:
        """Write a layer, gzipped, into a file."""
        label = f"{self._name.familiar_name} (layer {part.layer.diff_id[:19]})"
        arguments = LayerTarArguments(
            label=label, diff_id=part.layer.diff_id, compression=Compression.GZIP
        )

        def on_progress(message: bytes) -> None:
            done = msgspec.json.decode(message, type=JobProgress)
            self._board.tell(
                _shown(part),
                TransferStatus.PREPARING,
                done_bytes=done.done,
                total_bytes=done.total or None,
            )

        source = layer_directory(self._config, part.layer.chain_id)
        directory, target = await self._calls.run(lambda: _open_both(source, path))
        try:
            result = await self._runner.run_job(
                "layer-tar",
                msgspec.json.encode(arguments),
                descriptors=(directory, target),
                on_progress=on_progress,
            )
        finally:
            os.close(directory)
            os.close(target)
        made = msgspec.json.decode(result, type=LayerTarResult)
        if not made.is_exact:
            raise EngineError(
                f"{label} cannot be made again byte for byte: it was unpacked before the store "
                "kept what that takes",
                hint="Load or pull the image again, or push it from where it came from",
            )
        return made


def _open_both(source: Path, target: Path) -> tuple[int, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return directory, os.open(target, flags, 0o600)
        except OSError:
            os.close(directory)
            raise
    except OSError as error:
        raise engine_error(error, str(target)) from error


def _shown(part: ImageLayerRecord) -> Digest:
    """What a push calls a layer: as Docker by its tar, as its blob may not be made yet."""
    return Digest(part.layer.diff_id)


def _ignore_bytes(_count: int) -> None:
    """Nobody watches a config go."""
