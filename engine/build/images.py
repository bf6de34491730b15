"""The image that a build leaves: configuration, history and manifest, always the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.build.created_by import COMMENT
from engine.errors import InvalidInputError
from engine.images.archive_documents import LayerIdentity, NewImage
from engine.late_dataclasses import dataclass
from engine.oci.digests import digest_of
from engine.oci.documents import (
    MAXIMUM_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    ConfigSection,
    Descriptor,
    HistoryDocument,
    ImageDocument,
    Manifest,
    RootFsDocument,
    chain_ids,
    decode_config,
    decode_manifest,
    encode_document,
    format_time,
    oci_layer_type,
)
from engine.oci.platforms import host_platform
from engine.snapshots.layer_tar import layer_tar_bytes
from engine.types import ImageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.build.layers import BuildLayer
    from engine.build.steps import HistoryItem
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecord

_MOST_TRIGGERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """What a stage stands on that is no stage.

    Attributes:
        name: As people know it.
        record: None for scratch.
        document: Its configuration.
        layers: Descriptors of its manifest.
    """

    name: str
    record: ImageRecord | None
    document: ImageDocument
    layers: tuple[Descriptor, ...]

    @property
    def history(self) -> tuple[HistoryDocument, ...]:
        """Its history, made fit for its layers if it is not."""
        history = self.document.history or ()
        count = len(self.document.diff_ids)
        if sum(not step.empty_layer for step in history) == count:
            return history
        return tuple(HistoryDocument(created=self.document.created) for _ in range(count))


def scratch_base() -> BaseImage:
    """Nothing at all."""
    platform = host_platform()
    document = ImageDocument(
        architecture=platform.architecture,
        variant=platform.variant or None,
        os="linux",
        config=ConfigSection(),
        rootfs=RootFsDocument(type="layers", diff_ids=()),
    )
    return BaseImage(name="scratch", record=None, document=document, layers=())


def read_base(name: str, record: ImageRecord, blobs: BlobStore) -> BaseImage:
    """An image of the store as a base; blocking.

    Raises:
        ArchiveError: Its documents are damaged.
        StoreError: Its manifest is not there.
        InvalidInputError: It asks for more than any image that means well.
    """
    document = decode_config(record.config, name)
    triggers = len((document.config and document.config.on_build) or ())
    if triggers > _MOST_TRIGGERS:
        raise InvalidInputError(
            f"{name} has {triggers:,} ONBUILD triggers, more than {_MOST_TRIGGERS:,}",
            hint="Build on the image that it was made of",
        )
    content = blobs.read(record.manifest_digest, maximum_bytes=MAXIMUM_MANIFEST_BYTES)
    manifest = decode_manifest(content, name)
    return BaseImage(
        name=name, record=record, document=document, layers=tuple(manifest.layers or ())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStage:
    """A stage that is done, as an image sees it.

    Attributes:
        config: What its containers do.
        author: Of MAINTAINER.
        history: What its instructions, and those of the stages below, have added.
        made_layer: For each of these, whether there is a layer of it.
        layers: All, bottom first, in place.
        squashed: The same before its layers became one; None if they did not.
    """

    base: BaseImage
    config: ConfigSection
    author: str
    history: tuple[HistoryItem, ...]
    made_layer: tuple[bool, ...]
    layers: Sequence[BuildLayer]
    squashed: FinishedStage | None = None


def describe_image(
    stage: FinishedStage,
    *,
    names: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    created_at: float,
) -> NewImage:
    """Make the documents of an image; blocking, as sizes of layers are read.

    Args:
        stage: The target.
        names: What it is called.
        labels: Besides those of the Dockerfile.
        created_at: Of the image, and of every step of ours.
    """
    base = stage.base
    config = stage.config
    if labels:
        config = msgspec.structs.replace(config, labels={**(config.labels or {}), **dict(labels)})
    created = format_time(created_at)
    history = [
        *base.history,
        *(
            HistoryDocument(
                created=created,
                created_by=item.created_by,
                comment=COMMENT,
                empty_layer=None if made_layer else True,
            )
            for item, made_layer in zip(stage.history, stage.made_layer, strict=True)
        ),
    ]
    if stage.squashed is not None:
        before = describe_image(stage.squashed, names=(), labels=labels, created_at=created_at)
        history.append(
            HistoryDocument(
                created=created,
                comment=_squash_comment(before.image_id, base),
                empty_layer=None if len(stage.layers) > len(base.document.diff_ids) else True,
            )
        )
    diff_ids = [str(layer.diff_id) for layer in stage.layers]
    document = ImageDocument(
        created=created,
        author=stage.author or base.document.author,
        architecture=base.document.architecture,
        variant=base.document.variant,
        os=base.document.os or "linux",
        config=config,
        rootfs=RootFsDocument(type="layers", diff_ids=tuple(diff_ids)),
        history=tuple(history),
    )
    return encode_image(document, _layer_descriptors(stage), names=names)


def encode_image(
    document: ImageDocument, layers: Sequence[Descriptor], *, names: tuple[str, ...]
) -> NewImage:
    """Make an image of its configuration and what its manifest says of its layers."""
    config = encode_document(document)
    manifest = encode_document(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
            layers=tuple(layers),
        )
    )
    diff_ids = document.diff_ids
    return NewImage(
        image_id=ImageId(digest_of(config)),
        manifest_digest=digest_of(manifest),
        names=names,
        config=config,
        manifest=manifest,
        layers=tuple(
            LayerIdentity(chain_id=chain_id, diff_id=diff_id)
            for chain_id, diff_id in zip(chain_ids(diff_ids), diff_ids, strict=True)
        ),
    )


def _squash_comment(image_id: ImageId, base: BaseImage) -> str:
    """As Docker's (moby, daemon/images/image_squash.go)."""
    if base.record is None:
        return f"create new from {image_id}"
    return f"merge {image_id} to {base.record.image_id}"


def _layer_descriptors(stage: FinishedStage) -> list[Descriptor]:
    known = stage.base.layers
    layers: list[Descriptor] = []
    for position, layer in enumerate(stage.layers):
        if position < len(known):
            below = known[position]
            layers.append(
                Descriptor(
                    media_type=oci_layer_type(below.media_type),
                    digest=below.digest,
                    size=below.size,
                )
            )
            continue
        size = layer_tar_bytes(str(layer.directory))
        layers.append(Descriptor(media_type=OCI_LAYER, digest=str(layer.diff_id), size=size or 0))
    return layers
