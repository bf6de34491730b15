"""New images on top of old ones: the changes of a container as a layer, and a config of its own.

The config, the history and the texts are what `docker commit` makes (moby daemon/commit.go,
image/image.go NewChildImage).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.images.archive import StagedLayer
from engine.images.archive_documents import LayerIdentity, NewImage
from engine.images.instructions import apply_changes
from engine.late_dataclasses import dataclass
from engine.linux.files import sync_file_system
from engine.oci.documents import (
    MAXIMUM_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    ConfigSection,
    Descriptor,
    HistoryDocument,
    Manifest,
    RootFsDocument,
    chain_ids,
    decode_config,
    decode_manifest,
    encode_document,
    format_time,
    oci_layer_type,
)
from engine.operations import Progress
from engine.snapshots.job_parts import JobProgress
from engine.snapshots.removal import engine_error
from engine.snapshots.writable_jobs import CommitArguments, CommittedLayer
from engine.types import ChainId, CommittedImage, DiffId, Digest, ImageId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.images.archive import ImageCatalog
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.snapshots.writable_jobs import CompareArguments
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecord

_STEP = "Packing the writable layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCommit:
    """What a new image is made of.

    Attributes:
        container_name: For messages.
        image_id: Of the image that the container was made from.
        config: What the container's own process says, before `changes`.
        created_by: What the history says made the layer.
        changes: Dockerfile instructions.
        name: Familiar name with tag, or None.
        upper: The writable layer.
        comparison: What it is compared with.
    """

    container_name: str
    image_id: ImageId
    config: ConfigSection
    created_by: str
    author: str
    message: str
    changes: tuple[str, ...]
    name: str | None
    upper: Path
    comparison: CompareArguments


class CommitMaker:
    """Makes one image; the caller has claimed what the base has."""

    def __init__(
        self,
        commit: ImageCommit,
        base: ImageRecord,
        *,
        blobs: BlobStore,
        catalog: ImageCatalog,
        runner: JobRunner,
        staging: Path,
        uses_user_xattrs: bool,
        progress: ProgressListener,
    ) -> None:
        self._commit = commit
        self._base = base
        self._blobs = blobs
        self._catalog = catalog
        self._runner = runner
        self._staging = staging
        self._uses_user_xattrs = uses_user_xattrs
        self._progress = progress

    async def pack(self) -> CommittedLayer:
        """Turn the writable layer into a layer in staging; the container may go on after it."""
        commit = self._commit
        directory = self._staging / "layer"
        arguments = CommitArguments(
            label=f"the writable layer of {commit.container_name}",
            comparison=commit.comparison,
            uses_user_xattrs=self._uses_user_xattrs,
        )
        self._progress(Progress(step=_STEP))

        def on_progress(message: bytes) -> None:
            done = msgspec.json.decode(message, type=JobProgress)
            self._progress(
                Progress(step=_STEP, done=done.done, total=done.total or None, unit="bytes")
            )

        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            directory.mkdir(mode=0o700)
            upper = os.open(commit.upper, flags)
            try:
                target = os.open(directory, flags)
            except OSError:
                os.close(upper)
                raise
        except OSError as error:
            raise engine_error(error, str(directory)) from error
        try:
            result = await self._runner.run_job(
                "commit-layer",
                msgspec.json.encode(arguments),
                descriptors=(upper, target),
                on_progress=on_progress,
            )
        finally:
            os.close(upper)
            os.close(target)
        return msgspec.json.decode(result, type=CommittedLayer)

    async def publish(self, layer: CommittedLayer) -> CommittedImage:
        """Sync, rename the layer into its place, and record the image; then it can be used."""
        if not layer.is_empty:
            self._progress(Progress(step="Writing to the disk"))
            await asyncio.to_thread(sync_staging, self._staging)
        chain = self._chain(layer)
        image = await asyncio.to_thread(self._describe, layer, chain)
        staged: tuple[StagedLayer, ...] = ()
        if not layer.is_empty:
            staged = (
                StagedLayer(
                    chain_id=chain[-1],
                    parent_chain_id=chain[-2] if len(chain) > 1 else None,
                    diff_id=DiffId(layer.diff_id),
                    size_bytes=layer.size_bytes,
                    entry_count=layer.entry_count,
                    directory=self._staging / "layer",
                    warnings=layer.warnings,
                ),
            )
        await self._catalog.publish((image,), staged)
        return CommittedImage(
            image_id=image.image_id,
            name=self._commit.name,
            size_bytes=layer.size_bytes,
            entry_count=layer.entry_count,
            warnings=layer.warnings,
        )

    def _chain(self, layer: CommittedLayer) -> tuple[ChainId, ...]:
        diff_ids = [part.layer.diff_id for part in self._base.layers]
        if not layer.is_empty:
            diff_ids.append(DiffId(layer.diff_id))
        return chain_ids(diff_ids)

    def _describe(self, layer: CommittedLayer, chain: Sequence[ChainId]) -> NewImage:
        """Config and manifest of the new image; reads the old image's manifest."""
        commit = self._commit
        created = format_time(time.time())
        base = decode_config(self._base.config, commit.container_name)
        diff_ids = [part.layer.diff_id for part in self._base.layers]
        history = list(base.history or ())
        if sum(not step.empty_layer for step in history) != len(diff_ids):
            # A history that does not fit its layers could not be gone on with.
            history = [HistoryDocument(created=base.created) for _ in diff_ids]
        history.append(
            HistoryDocument(
                created=created,
                created_by=commit.created_by,
                author=commit.author or None,
                comment=commit.message or None,
                empty_layer=True if layer.is_empty else None,
            )
        )
        if not layer.is_empty:
            diff_ids.append(DiffId(layer.diff_id))
        config = encode_document(
            msgspec.structs.replace(
                base,
                created=created,
                author=commit.author or None,
                os=base.os or "linux",
                config=apply_changes(commit.config, commit.changes),
                rootfs=RootFsDocument(type="layers", diff_ids=tuple(diff_ids)),
                history=tuple(history),
            )
        )
        manifest = self._manifest(config, layer)
        return NewImage(
            image_id=ImageId(_digest(config)),
            manifest_digest=Digest(_digest(manifest)),
            names=() if commit.name is None else (commit.name,),
            config=config,
            manifest=manifest,
            layers=tuple(
                LayerIdentity(chain_id=chain_id, diff_id=diff_id)
                for chain_id, diff_id in zip(chain, diff_ids, strict=True)
            ),
        )

    def _manifest(self, config: bytes, layer: CommittedLayer) -> bytes:
        old = decode_manifest(
            self._blobs.read(self._base.manifest_digest, maximum_bytes=MAXIMUM_MANIFEST_BYTES),
            self._commit.container_name,
        )
        layers = [
            msgspec.structs.replace(part, media_type=oci_layer_type(part.media_type))
            for part in old.layers or ()
        ]
        if not layer.is_empty:
            layers.append(
                Descriptor(media_type=OCI_LAYER, digest=layer.diff_id, size=layer.tar_bytes)
            )
        return encode_document(
            Manifest(
                schema_version=2,
                media_type=OCI_MANIFEST,
                config=Descriptor(media_type=OCI_CONFIG, digest=_digest(config), size=len(config)),
                layers=tuple(layers),
            )
        )


def image_is_gone(container_name: str) -> EngineError:
    """What is said when there is nothing left that a commit could be based on."""
    return EngineError(
        f"the image of container {container_name} was removed: a new image cannot be based on it",
        hint=f"`lamella export {container_name}` writes all its files as an archive",
    )


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def sync_staging(directory: Path) -> None:
    """Write a staging directory, with everything else of its file system, to the disk; blocking."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file_system(descriptor)
    except OSError as error:
        raise engine_error(error, str(directory)) from error
    finally:
        os.close(descriptor)
