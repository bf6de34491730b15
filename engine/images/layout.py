"""Write an image that is made here as an OCI layout, to be loaded like any other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.oci.documents import (
    CONTAINERD_NAME_ANNOTATION,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ConfigSection,
    Descriptor,
    HistoryDocument,
    ImageDocument,
    Index,
    LayoutMarker,
    Manifest,
    Platform,
    RootFsDocument,
    encode_document,
    format_time,
)
from engine.oci.platforms import host_platform
from engine.snapshots.tar_writer import TarEntry, TarWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import msgspec

MADE_AT = 1_767_225_600
"""The time in everything that is made here: making an image twice gives the same image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLayer:
    """A layer to be written: what made it, and its entries, parents first."""

    created_by: str
    entries: tuple[TarEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """An image to be written; a step without entries in `layers` changes only the config."""

    name: str
    layers: tuple[MadeLayer, ...]
    config: ConfigSection
    empty_steps: tuple[str, ...] = ()


def write_layout(directory: Path, images: Sequence[MadeImage]) -> None:
    """Write images as an OCI layout directory; blocking.

    Raises:
        OSError: The directory cannot be written, or a source not be read.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    descriptors = tuple(_write_image(blobs, image) for image in images)
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=descriptors)
    (directory / "index.json").write_bytes(encode_document(index))
    (directory / "oci-layout").write_bytes(encode_document(LayoutMarker()))


def _write_image(blobs: Path, image: MadeImage) -> Descriptor:
    layers = tuple(_write_layer(blobs, layer) for layer in image.layers)
    platform = host_platform()
    created = format_time(MADE_AT)
    history = [
        HistoryDocument(created=created, created_by=layer.created_by) for layer in image.layers
    ]
    history += [
        HistoryDocument(created=created, created_by=step, empty_layer=True)
        for step in image.empty_steps
    ]
    document = ImageDocument(
        created=created,
        architecture=platform.architecture,
        os=platform.os,
        config=image.config,
        rootfs=RootFsDocument(
            type="layers", diff_ids=tuple(descriptor.digest for descriptor in layers)
        ),
        history=tuple(history),
    )
    config = _write_document(blobs, document, OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=layers)
    written = _write_document(blobs, manifest, OCI_MANIFEST)
    return Descriptor(
        media_type=written.media_type,
        digest=written.digest,
        size=written.size,
        annotations={CONTAINERD_NAME_ANNOTATION: image.name},
        platform=Platform(architecture=platform.architecture, os=platform.os),
    )


def _write_document(blobs: Path, document: msgspec.Struct, media_type: str) -> Descriptor:
    content = encode_document(document)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size=len(content))


def _write_layer(blobs: Path, layer: MadeLayer) -> Descriptor:
    unnamed = blobs / "layer"
    with unnamed.open("wb") as target:
        writer = TarWriter(target, modified_at=MADE_AT)
        for entry in layer.entries:
            writer.add(entry)
        writer.close()
    with unnamed.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    size = unnamed.stat().st_size
    unnamed.rename(blobs / digest)
    return Descriptor(media_type=OCI_LAYER, digest=f"sha256:{digest}", size=size)
