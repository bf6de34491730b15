"""What can be done about damage: nothing is thrown away that nothing can replace."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.images.catalog import layer_directory
from engine.images.image_checks import bring_again, image_label
from engine.late_dataclasses import dataclass
from engine.linux.files import sync_file_system
from engine.operations import carry_through
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.removal import engine_error
from engine.snapshots.unpacking import UnpackArguments, UnpackResult
from engine.store.durability import sync_directory
from engine.types import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.collector import StoreCollector
    from engine.images.mending import LayerMender
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.check_records import CheckRecords, StoreRecords
    from engine.store.image_lock import ImageLock
    from engine.store.image_records import ImageRecord, LayerRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOutcome:
    """What a repair came to: a sentence that says what was done, or what is left to do."""

    is_repaired: bool
    text: str


class StoreRepairs:
    """Repairs of one check."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        checks: CheckRecords,
        blobs: BlobStore,
        lock: ImageLock,
        mender: LayerMender,
        collector: StoreCollector,
        runner: JobRunner,
        staging: Path,
        uses_user_xattrs: bool,
    ) -> None:
        """Repair a store; `staging` is a claim's directory, for what is made and replaced."""
        self._config = config
        self._checks = checks
        self._blobs = blobs
        self._lock = lock
        self._mender = mender
        self._collector = collector
        self._runner = runner
        self._staging = staging
        self._uses_user_xattrs = uses_user_xattrs

    async def collect(self) -> None:
        """Remove what nothing leads to."""
        async with self._collector.collecting() as collection:
            await collection.delete()

    async def drop_layer_blob(self, digest: str) -> RepairOutcome:
        """Forget a compressed layer that is no longer what it says."""
        async with self._lock.exclusive():
            await carry_through(self._checks.forget_blob(digest))
            await asyncio.to_thread(self._blobs.remove, digest)
        return RepairOutcome(
            is_repaired=True, text="dropped; the layer itself stays, and a push packs it again"
        )

    async def rewrite_config(self, record: ImageRecord) -> RepairOutcome:
        """Write an image's config from the database, which has it as well."""
        async with self._lock.exclusive():
            await asyncio.to_thread(self._replace_blob, record.image_id, record.config)
        return RepairOutcome(is_repaired=True, text="written again")

    def _replace_blob(self, digest: str, content: bytes) -> None:
        with self._blobs.writer(self._staging) as writer:
            writer.write(content)
            self._blobs.remove(digest)
            writer.commit(Digest(digest))

    async def drop_manifest(self, record: ImageRecord, label: str) -> RepairOutcome:
        """Take a damaged manifest away, so that a new one can come."""
        async with self._lock.exclusive():
            await asyncio.to_thread(self._blobs.remove, record.manifest_digest)
        return RepairOutcome(is_repaired=False, text=bring_again(label))

    async def note_whole(self, layer: LayerRecord) -> None:
        """Take the mark from a layer that is whole again."""
        await self._mender.mended((layer,))

    async def make_layer_again(
        self, layer: LayerRecord, records: StoreRecords, *, bad_blobs: frozenset[str]
    ) -> RepairOutcome:
        """Unpack a layer from the compressed one that is kept, and put it where it belongs.

        Without a blob it is marked, and counts as missing for whoever adds its image again.
        """
        source = _source_of(layer, records, bad_blobs)
        if runners := await self._mender.runners(layer.chain_id):
            return RepairOutcome(
                is_repaired=False,
                text=f"containers run on it: stop {', '.join(runners)}, then repair again",
            )
        await self._checks.mark_damaged(layer.chain_id)
        if source is None:
            label = next(
                (
                    image_label(image)
                    for image in records.images
                    if any(part.layer.chain_id == layer.chain_id for part in image.record.layers)
                ),
                "the image",
            )
            return RepairOutcome(is_repaired=False, text=bring_again(label))
        staged = self._staging / layer.chain_id.removeprefix("sha256:")
        made = await self._unpack(layer, source, records, staged)
        async with self._lock.exclusive():
            replaceable = await self._mender.replaceable((layer.chain_id,))
            if layer.chain_id not in replaceable:
                raise EngineError("a container was started on it meanwhile")
            await carry_through(self._put_in_place(made, staged))
        return RepairOutcome(is_repaired=True, text="unpacked again from the compressed layer")

    async def _put_in_place(self, layer: LayerRecord, staged: Path) -> None:
        target = layer_directory(self._config, layer.chain_id)

        def place() -> None:
            self._mender.place(staged, target, is_replaced=True)
            sync_directory(target.parent)

        await asyncio.to_thread(place)
        await self._mender.mended((layer,))

    async def _unpack(
        self, layer: LayerRecord, source: BlobOfLayer, records: StoreRecords, staged: Path
    ) -> LayerRecord:
        by_chain = {one.chain_id: one for one in records.layers}
        lowers: list[str] = []
        parent = layer.parent_chain_id
        while parent is not None:
            lowers.append(str(layer_directory(self._config, parent) / DIFF_NAME))
            parent = by_chain[parent].parent_chain_id
        arguments = UnpackArguments(
            label=f"layer {layer.chain_id[7:19]}",
            offset=0,
            size=source.size_bytes,
            blob_digest=source.digest,
            diff_id=layer.diff_id,
            lower_paths=tuple(lowers),
            uses_user_xattrs=self._uses_user_xattrs,
            limits=self._config.layer_limits,
        )
        blob = self._blobs.open(source.digest)
        try:
            os.mkdir(staged, 0o700)
            directory = os.open(staged, os.O_RDONLY | os.O_DIRECTORY)
            try:
                answer = await self._runner.run_job(
                    "unpack-layer", msgspec.json.encode(arguments), descriptors=(blob, directory)
                )
                await asyncio.to_thread(sync_file_system, directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise engine_error(error, str(staged)) from error
        finally:
            os.close(blob)
        result = msgspec.json.decode(answer, type=UnpackResult)
        return replace(layer, size_bytes=result.size_bytes, entry_count=result.entry_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobOfLayer:
    """A compressed layer that is kept."""

    digest: str
    size_bytes: int


def _source_of(
    layer: LayerRecord, records: StoreRecords, bad_blobs: frozenset[str]
) -> BlobOfLayer | None:
    for image in records.images:
        for part in image.record.layers:
            if (
                part.layer.chain_id == layer.chain_id
                and part.blob_digest is not None
                and part.blob_digest not in bad_blobs
            ):
                return BlobOfLayer(digest=part.blob_digest, size_bytes=part.blob_size_bytes)
    return None
