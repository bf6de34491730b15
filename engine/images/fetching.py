"""Blobs from a registry into staging, where they are unpacked while they grow."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from engine.errors import DigestMismatchError, InvalidInputError, RegistryError, StoreError
from engine.oci.digests import digest_of
from engine.oci.documents import MAXIMUM_MANIFEST_BYTES
from engine.store.durability import raise_store_error
from engine.types import Digest, TransferStatus

if TYPE_CHECKING:
    from pathlib import Path

    from engine.images.blocking import BlockingCalls
    from engine.images.layer_cache import LayerCache
    from engine.images.remote import ImageSource
    from engine.images.transfer_board import TransferBoard
    from engine.oci.documents import Descriptor
    from engine.oci.reference import Reference
    from engine.store.blobs import BlobStore
    from engine.store.downloads import Download, DownloadArea

PARALLEL_FETCHES = 3
_PIECE_BYTES = 1 << 20


def blob_name(digest: str) -> str:
    """What a blob is called in a pull's directory in staging."""
    return f"blob-{digest.removeprefix('sha256:')}"


class DocumentFetcher:
    """Gets configs: from the store, of what a pull left that was cut short, or the registry's.

    Manifests as well, but only those that are in the store.
    """

    def __init__(self, source: ImageSource, *, blobs: BlobStore, downloads: DownloadArea) -> None:
        """Get from one registry what is not here."""
        self._source = source
        self._blobs = blobs
        self._downloads = downloads

    def find_manifest(self, digest: str, /) -> bytes | None:
        """As KnownManifests."""
        with contextlib.suppress(StoreError, DigestMismatchError, InvalidInputError):
            return self._blobs.read(digest, maximum_bytes=MAXIMUM_MANIFEST_BYTES)
        return None

    def get_config(
        self, name: Reference, descriptor: Descriptor, /, *, maximum_bytes: int
    ) -> bytes:
        """As ConfigGetter."""
        digest = descriptor.digest
        # A collector may take it, and a disk may damage it: the registry has it as well.
        with contextlib.suppress(StoreError, DigestMismatchError):
            return self._blobs.read(digest, maximum_bytes=maximum_bytes)
        arrived = self._downloads.read(digest, maximum_bytes=maximum_bytes)
        if len(arrived) == descriptor.size and digest_of(arrived) == digest:
            return arrived
        content = self._source.get_small_blob(name, descriptor, maximum_bytes=maximum_bytes)
        self._downloads.keep(digest, content)
        return content


class BlobFetcher:
    """Fetches the blobs of one image, some at once; each may have begun before, or elsewhere."""

    def __init__(
        self,
        *,
        source: ImageSource,
        calls: BlockingCalls,
        name: Reference,
        staging: Path,
        grown: int,
        blobs: BlobStore,
        downloads: DownloadArea,
        looked_into: LayerCache,
        board: TransferBoard,
    ) -> None:
        """Fetch from one registry.

        Args:
            source: The registry.
            calls: Threads, whose end is the source's.
            name: Of the image.
            staging: Where the blobs get a name.
            grown: An eventfd; written to whenever a blob was made or has grown.
            blobs: What need not be fetched, claimed by the caller.
            downloads: Where what arrives is kept.
            looked_into: Has blobs that need not be fetched, either.
            board: Is told of each blob.
        """
        self._source = source
        self._calls = calls
        self._name = name
        self._staging = staging
        self._grown = grown
        self._blobs = blobs
        self._downloads = downloads
        self._looked_into = looked_into
        self._board = board
        self._slots = asyncio.Semaphore(PARALLEL_FETCHES)

    async def fetch(self, descriptor: Descriptor) -> None:
        """Give a blob its name in staging, and let it grow there until it is whole.

        Raises:
            RegistryError: The registry does not give it; what has arrived is kept.
            NoSpaceError: The disk is full.
        """
        async with (
            self._slots,
            self._downloads.claim(descriptor.digest, size_bytes=descriptor.size) as download,
        ):
            await self._calls.run(lambda: self._fetch(descriptor, download))
        digest = Digest(descriptor.digest)
        self._board.tell(digest, TransferStatus.DOWNLOADED, total_bytes=descriptor.size)

    def _fetch(self, descriptor: Descriptor, download: Download) -> None:
        path = self._staging / blob_name(descriptor.digest)
        if self._blobs.has(descriptor.digest):
            # Kept with another image, or by somebody who was faster.
            try:
                os.link(self._blobs.path(descriptor.digest), path)
            except OSError as error:
                raise_store_error(error, path)
        else:
            download.link_to(path)
        os.eventfd_write(self._grown, 1)
        if path.stat().st_size != descriptor.size:
            self._receive(descriptor, download)

    def _receive(self, descriptor: Descriptor, download: Download) -> None:
        digest = Digest(descriptor.digest)

        def on_retry(seconds: float) -> None:
            detail = f"in {seconds:.0f} seconds"
            self._board.tell(digest, TransferStatus.RETRYING, detail=detail)

        arrived_bytes = download.arrived_bytes
        kept = self._looked_into.open(digest, offset=arrived_bytes)
        with kept or self._source.open_blob(
            self._name, descriptor, offset=arrived_bytes, on_retry=on_retry
        ) as stream:
            while piece := stream.read(_PIECE_BYTES):
                download.append(piece)
                os.eventfd_write(self._grown, 1)
                self._board.tell(
                    digest,
                    TransferStatus.DOWNLOADING,
                    done_bytes=download.arrived_bytes,
                    total_bytes=descriptor.size,
                )
        if not download.is_whole:
            raise RegistryError(
                self._name.domain,
                f"{self._name.domain} ended blob {digest} after {download.arrived_bytes:,} of "
                f"{descriptor.size:,} bytes",
                hint="Pull again: what has arrived is kept",
            )

    def discard_unless_right(self, descriptor: Descriptor) -> bool:
        """Drop what has arrived of a blob unless it is exactly the blob; blocking.

        Returns:
            Whether it was dropped.
        """
        path = self._staging / blob_name(descriptor.digest)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if f"sha256:{found}" == descriptor.digest:
                return False
            # If it was linked from there, what the store keeps is damaged, too.
            if self._blobs.has(descriptor.digest) and path.samefile(
                self._blobs.path(descriptor.digest)
            ):
                self._blobs.remove(descriptor.digest)
        self._looked_into.drop(descriptor.digest)
        path.unlink(missing_ok=True)
        self._downloads.discard((descriptor.digest,))
        return True
