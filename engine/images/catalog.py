"""Where loaded images end up: layers renamed into place, documents, records, events."""

from __future__ import annotations

import asyncio
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from engine.errors import StoreError
from engine.events import Event, EventSubject
from engine.oci.documents import decode_config, parse_time
from engine.oci.reference import parse_reference
from engine.store.durability import sync_directory
from engine.store.event_log import append_event
from engine.store.image_records import (
    ImageAddition,
    ImageLayerRecord,
    ImageRecord,
    ImageRecords,
    LayerRecord,
)
from engine.store.staging import holder_of
from engine.types import ChainId, Digest, LoadedImage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.archive import StagedLayer
    from engine.images.archive_documents import NewImage
    from engine.images.mending import LayerMender
    from engine.store.blobs import BlobStore
    from engine.store.claims import ClaimRecords
    from engine.store.image_lock import ImageLock


class StoreCatalog:
    """The store as who adds images sees it, for one load, pull or commit.

    What is found is claimed, so that nobody collects it; removals need not wait meanwhile. The
    claims are given up when the block of `adding_images` ends, or die with their holder.
    """

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        claims: ClaimRecords,
        lock: ImageLock,
        mender: LayerMender,
        blobs: BlobStore,
        staging: Path,
        action: str,
    ) -> None:
        """Add images to a store.

        Args:
            config: Where it is.
            records: Of images.
            claims: Of what this catalog counts on.
            lock: Of the images.
            mender: Puts layers into place.
            blobs: Of the store.
            staging: A claim's directory, whose holder this is.
            action: What the events call it.
        """
        self._action = action
        self._config = config
        self._records = records
        self._claims = claims
        self._lock = lock
        self._mender = mender
        self._blobs = blobs
        self._staging = staging
        self._has_claims = False
        self.has_replaced_documents = False
        """An image that was here has got another manifest: nothing leads to the old one."""

    async def find_layers(self, chain_ids: Sequence[ChainId]) -> frozenset[ChainId]:
        """As ImageCatalog."""
        self._has_claims = True
        async with self._lock.shared():
            known = await self._claims.claim_layers(holder_of(self._staging), chain_ids)
            return await asyncio.to_thread(self._with_directory, known)

    def _with_directory(self, chain_ids: frozenset[ChainId]) -> frozenset[ChainId]:
        return frozenset(
            chain for chain in chain_ids if layer_directory(self._config, chain).is_dir()
        )

    async def keep(self, digests: Sequence[str]) -> None:
        """Keep blobs and layers that are here, or that come before their image is recorded.

        Look whether something is here, or put it into place, after this has returned.
        """
        self._has_claims = True
        async with self._lock.shared():
            await self._claims.claim(holder_of(self._staging), digests)

    def begin_claims(self) -> str:
        """The holder for claims that somebody else records, to be given up with all others."""
        self._has_claims = True
        return holder_of(self._staging)

    async def keep_placed(self, layer: LayerRecord) -> None:
        """Record a layer that was put into place, for an image that comes.

        The caller holds the image lock.
        """
        self._has_claims = True
        await self._claims.claim(holder_of(self._staging), (layer.chain_id,))
        await self._records.insert_layer(layer)

    async def release(self) -> None:
        """Give up what was claimed: images lead to what they need now, or nobody needs it."""
        if self._has_claims:
            await self._claims.release(holder_of(self._staging))

    async def publish(
        self,
        images: Sequence[NewImage],
        layers: Sequence[StagedLayer],
        blobs: Mapping[Digest, Path] = MappingProxyType({}),
    ) -> tuple[LoadedImage, ...]:
        """As ImageCatalog; what is cut short has recorded all images or none.

        Args:
            images: What is recorded.
            layers: What is put into place for them.
            blobs: Compressed layers to keep: complete, verified and synced files of the store's
                file system. Claimed by `keep` before they were looked for.

        Raises:
            InvalidReferenceError: A name in the archive is none.
        """
        # Before anything is moved: a name that cannot be refuses the whole archive.
        names = [_familiar(image.names) for image in images]
        layers_now = {layer.chain_id: layer for layer in layers}
        async with self._lock.shared():
            replaceable = await self._mender.replaceable(layers_now)
            await asyncio.to_thread(self._move_into_place, layers, replaceable)
            kept = await asyncio.to_thread(self._add_blobs, images, blobs)
            records = [await self._record_of(image, layers_now, kept) for image in images]
            additions = [
                ImageAddition(image=record, names=image_names, origin=image.origin)
                for image, record, image_names in zip(images, records, names, strict=True)
            ]
            were_new = await self._records.insert(*additions)
            if replaceable:
                parts = (part.layer for record in records for part in record.layers)
                await self._mender.mended(layer for layer in parts if layer.chain_id in replaceable)
        loaded = tuple(
            LoadedImage(
                image_id=addition.image.image_id, names=addition.names, was_present=not is_new
            )
            for addition, is_new in zip(additions, were_new, strict=True)
        )
        self.has_replaced_documents |= any(
            image.was_present and addition.origin is not None
            for image, addition in zip(loaded, additions, strict=True)
        )
        await asyncio.to_thread(self._tell, loaded)
        return loaded

    def _move_into_place(
        self, layers: Sequence[StagedLayer], replaceable: frozenset[ChainId]
    ) -> None:
        for layer in layers:
            self._mender.place(
                layer.directory,
                layer_directory(self._config, layer.chain_id),
                is_replaced=layer.chain_id in replaceable,
            )
        if layers:
            sync_directory(self._config.layers_directory)

    def _add_blobs(
        self, images: Sequence[NewImage], blobs: Mapping[Digest, Path]
    ) -> frozenset[Digest]:
        """Put documents and compressed layers into place; returns which of the latter are here."""
        for digest, path in blobs.items():
            if not self._blobs.has(digest):
                self._blobs.adopt(path, digest)
        for image in images:
            self._blobs.add(image.config, self._staging)
            self._blobs.add(image.manifest, self._staging)
        named = {layer.blob.digest for image in images for layer in image.layers if layer.blob}
        return frozenset(digest for digest in named if self._blobs.has(digest))

    async def _record_of(
        self, image: NewImage, staged: dict[ChainId, StagedLayer], kept: frozenset[Digest]
    ) -> ImageRecord:
        document = decode_config(image.config, "the image's config")
        parts: list[ImageLayerRecord] = []
        parent: ChainId | None = None
        for layer in image.layers:
            unpacked = staged.get(layer.chain_id)
            if unpacked is not None:
                record = LayerRecord(
                    chain_id=layer.chain_id,
                    diff_id=layer.diff_id,
                    parent_chain_id=parent,
                    size_bytes=unpacked.size_bytes,
                    entry_count=unpacked.entry_count,
                )
            else:
                found = await self._records.find_layer(layer.chain_id)
                if found is None:
                    raise StoreError(f"layer {layer.chain_id} has lost its record")
                record = found
            blob = layer.blob
            parts.append(
                ImageLayerRecord(
                    layer=record,
                    blob_digest=blob.digest if blob and blob.digest in kept else None,
                    blob_media_type=blob.media_type if blob else "",
                    blob_size_bytes=blob.size_bytes if blob else 0,
                )
            )
            parent = layer.chain_id
        return ImageRecord(
            image_id=image.image_id,
            manifest_digest=image.manifest_digest,
            config=image.config,
            created_at=parse_time(document.created),
            operating_system=document.platform.os,
            architecture=document.platform.architecture,
            added_at=time.time(),
            layers=tuple(parts),
        )

    def _tell(self, images: Sequence[LoadedImage]) -> None:
        for image in images:
            append_image_event(
                self._config, self._action, image.image_id, image.names[0] if image.names else ""
            )


def layer_directory(config: EngineConfig, chain_id: str) -> Path:
    """Where a layer is, or would be."""
    return config.layers_directory / chain_id.removeprefix("sha256:")


def append_image_event(config: EngineConfig, action: str, image_id: str, name: str) -> None:
    """Tell every engine over this store what happened to an image; blocking."""
    append_event(
        config.events_path,
        Event(
            time_ns=time.time_ns(),
            subject=EventSubject.IMAGE,
            action=action,
            subject_id=image_id,
            name=name,
        ),
    )


def _familiar(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parse_reference(name).familiar_name for name in names))
