"""The job that writes images as an archive: layers made again, documents that name them.

A docker-archive is an OCI layout with Docker's manifest.json besides, as Docker has written it
since version 25, so that every tool reads it. What is written validates against the OCI
image-spec's schemas, as far as the images' own configs do.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.errors import DigestMismatchError, ReaderGoneError, StoreError
from engine.images.archive_target import (
    ArchiveTarget,
    BlobIdentity,
    DirectoryTarget,
    TarTarget,
    blob_name,
)
from engine.oci.digests import digest_of
from engine.oci.documents import (
    CONTAINERD_NAME_ANNOTATION,
    LAYER_COMPRESSION,
    MAXIMUM_CONFIG_BYTES,
    MAXIMUM_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    REFERENCE_ANNOTATION,
    Descriptor,
    DockerArchiveImage,
    Index,
    LayoutMarker,
    Manifest,
    decode_config,
    decode_manifest,
    encode_document,
    oci_layer_type,
)
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.layer_tar import layer_tar_bytes
from engine.snapshots.layer_tar_jobs import write_layer
from engine.snapshots.removal import engine_error
from engine.types import ArchiveFormat, Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COPY_BYTES = 1 << 20
_LAYER_TYPES = {
    Compression.NONE: OCI_LAYER,
    Compression.GZIP: OCI_LAYER_GZIP,
    Compression.ZSTD: OCI_LAYER_ZSTD,
}


class SavedName(msgspec.Struct, frozen=True, kw_only=True):
    """One name of an image.

    Attributes:
        familiar: `web/app:1`, as people write it.
        canonical: With everything written out.
    """

    familiar: str
    canonical: str
    repository: str
    tag: str


class SavedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer.

    Attributes:
        diff_id: Of its tar.
        path: Its directory.
        blob_path: Of the blob it was pulled as; empty where that is not kept.
        blob_digest: Of that blob.
        blob_media_type: Of that blob.
    """

    diff_id: str
    path: str
    blob_path: str = ""
    blob_digest: str = ""
    blob_media_type: str = ""


class SavedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image.

    Attributes:
        config_path: Of the config among the blobs.
        image_id: The config's digest.
        manifest_path: Of the manifest among the blobs.
        manifest_digest: Its digest.
        names: Those that go into the archive.
        layers: Bottom first.
    """

    config_path: str
    image_id: str
    manifest_path: str
    manifest_digest: str
    names: tuple[SavedName, ...]
    layers: tuple[SavedLayer, ...]


class SaveArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Write images. Descriptors: file, pipe or empty directory; a staging directory.

    Attributes:
        label: What errors call the archive.
        images: In the archive's order.
        format: What is written.
        layer_compression: None leaves layers as they are in the store.
        archive_compression: Of the whole.
        can_seek: The target is a new file, of which earlier parts may be written again.
    """

    label: str
    images: tuple[SavedImage, ...]
    format: ArchiveFormat
    layer_compression: Compression | None
    archive_compression: Compression
    can_seek: bool


class SaveResult(msgspec.Struct, frozen=True, kw_only=True):
    """An archive was written; nothing is synced."""

    image_ids: tuple[str, ...]
    layer_count: int
    size_bytes: int
    warnings: tuple[str, ...]


class _WrittenLayer(msgspec.Struct, frozen=True, kw_only=True):
    diff_id: str
    descriptor: Descriptor
    is_exact: bool


def save_archive(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Write images as an archive: a SaveResult.

    Raises:
        StoreError: A layer or a document is damaged.
        ReaderGoneError: Nobody reads it any more.
        NoSpaceError: The disk that is written to is full.
    """
    request = msgspec.json.decode(arguments, type=SaveArguments)
    target, staging = descriptors
    try:
        return msgspec.json.encode(_Writing(request, _open(request, target, staging), report).run())
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise engine_error(error, request.label) from error


def _open(request: SaveArguments, descriptor: int, staging: int) -> ArchiveTarget:
    if request.format is ArchiveFormat.OCI_DIRECTORY:
        return DirectoryTarget(descriptor)
    return TarTarget(
        descriptor,
        compression=request.archive_compression,
        staging=staging,
        can_seek=request.can_seek,
    )


class _Writing:
    """The writing of one archive."""

    def __init__(self, request: SaveArguments, target: ArchiveTarget, report: Reporter) -> None:
        self._request = request
        self._target = target
        self._report = report
        self._layers: dict[str, _WrittenLayer] = {}
        self._documents: set[str] = set()
        self._done_bytes = 0
        lengths = {
            layer.diff_id: layer_tar_bytes(layer.path) or 0
            for image in request.images
            for layer in image.layers
        }
        self._total_bytes = sum(lengths.values())

    def run(self) -> SaveResult:
        manifests: list[Descriptor] = []
        docker_images: list[DockerArchiveImage] = []
        repositories: dict[str, dict[str, str]] = {}
        image_ids: list[str] = []
        self._target.add("oci-layout", encode_document(LayoutMarker()))
        for image in self._request.images:
            layers = [self._layer(layer) for layer in image.layers]
            config = self._config(image, layers)
            image_ids.append(config.digest)
            manifests += self._manifests(image, config, layers)
            docker_images.append(
                DockerArchiveImage(
                    config=blob_name(config.digest),
                    repo_tags=tuple(name.familiar for name in image.names) or None,
                    layers=tuple(blob_name(layer.descriptor.digest) for layer in layers),
                )
            )
            for name in image.names if layers else ():
                tags = repositories.setdefault(name.repository, {})
                tags[name.tag] = layers[-1].diff_id.removeprefix("sha256:")
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(manifests))
        self._target.add("index.json", encode_document(index))
        if self._request.format is ArchiveFormat.DOCKER_ARCHIVE:
            self._target.add("manifest.json", msgspec.json.encode(docker_images))
            if repositories:
                content = msgspec.json.encode(repositories, order="sorted")
                self._target.add("repositories", content)
        renewed = sum(not layer.is_exact for layer in self._layers.values())
        return SaveResult(
            image_ids=tuple(image_ids),
            layer_count=len(self._layers),
            size_bytes=self._target.close(),
            warnings=(_renewed_warning(renewed),) if renewed else (),
        )

    # --- layers -------------------------------------------------------------------------------

    def _layer(self, layer: SavedLayer) -> _WrittenLayer:
        known = self._layers.get(layer.diff_id)
        if known is None:
            is_kept = layer.blob_path and self._may_copy(layer)
            known = self._copy(layer) if is_kept else self._make(layer)
            self._layers[layer.diff_id] = known
            self._done_bytes += layer_tar_bytes(layer.path) or 0
            self._tell(0)
        return known

    def _wanted(self) -> Compression | None:
        wanted = self._request.layer_compression
        if wanted is None and self._request.format is ArchiveFormat.DOCKER_ARCHIVE:
            return Compression.NONE
        return wanted

    def _may_copy(self, layer: SavedLayer) -> bool:
        wanted = self._wanted()
        return wanted is None or LAYER_COMPRESSION.get(layer.blob_media_type) == wanted.value

    def _copy(self, layer: SavedLayer) -> _WrittenLayer:
        """Take the blob that the layer was pulled as."""
        size = os.stat(layer.blob_path).st_size

        def make(write: Callable[[bytes], object]) -> BlobIdentity:
            digest = hashlib.sha256()
            copied = 0
            with open(layer.blob_path, "rb", buffering=0) as file:
                while piece := file.read(_COPY_BYTES):
                    digest.update(piece)
                    write(piece)
                    copied += len(piece)
            actual = f"sha256:{digest.hexdigest()}"
            if actual != layer.blob_digest:
                raise DigestMismatchError(
                    layer.blob_path, expected=layer.blob_digest, actual=actual
                )
            return BlobIdentity(digest=actual, size=copied)

        expected = BlobIdentity(digest=layer.blob_digest, size=size)
        made = self._target.add_blob(make, expected=expected, maximum_bytes=size)
        return _WrittenLayer(
            diff_id=layer.diff_id,
            descriptor=Descriptor(
                media_type=oci_layer_type(layer.blob_media_type), digest=made.digest, size=made.size
            ),
            is_exact=True,
        )

    def _make(self, layer: SavedLayer) -> _WrittenLayer:
        """Make the layer's tar again of its files."""
        compression = self._wanted() or Compression.NONE
        label = f"layer {layer.diff_id[:19]}"
        length = layer_tar_bytes(layer.path)
        expected = None
        if length is not None and compression is Compression.NONE:
            expected = BlobIdentity(digest=layer.diff_id, size=length)
        made_of = layer.diff_id
        is_exact = True

        def make(write: Callable[[bytes], object]) -> BlobIdentity:
            nonlocal made_of, is_exact
            directory = os.open(layer.path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                result = write_layer(
                    directory,
                    write,
                    label=label,
                    diff_id=layer.diff_id,
                    compression=compression,
                    on_bytes=self._tell,
                )
            finally:
                os.close(directory)
            made_of, is_exact = result.diff_id, result.is_exact
            return BlobIdentity(digest=result.blob_digest, size=result.blob_bytes)

        made = self._target.add_blob(make, expected=expected, maximum_bytes=length)
        return _WrittenLayer(
            diff_id=made_of,
            descriptor=Descriptor(
                media_type=_LAYER_TYPES[compression], digest=made.digest, size=made.size
            ),
            is_exact=is_exact,
        )

    def _tell(self, done: int) -> None:
        progress = JobProgress(done=self._done_bytes + done, total=self._total_bytes)
        self._report(msgspec.json.encode(progress))

    # --- documents ----------------------------------------------------------------------------

    def _config(self, image: SavedImage, layers: Sequence[_WrittenLayer]) -> Descriptor:
        content = _read_document(image.config_path, image.image_id, MAXIMUM_CONFIG_BYTES)
        if not all(layer.is_exact for layer in layers):
            content = _with_diff_ids(content, [layer.diff_id for layer in layers])
        return self._add_document(content, OCI_CONFIG)

    def _manifests(
        self, image: SavedImage, config: Descriptor, layers: Sequence[_WrittenLayer]
    ) -> list[Descriptor]:
        """Add an image's manifest; returns what the index says of it, once for each name."""
        content = _read_document(image.manifest_path, image.manifest_digest, MAXIMUM_MANIFEST_BYTES)
        old = decode_manifest(content, image.manifest_path)
        manifest = Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=config,
            layers=tuple(layer.descriptor for layer in layers),
            annotations=old.annotations,
        )
        # As it came, if it says just this: then its digest is the one that the image has here.
        if not _says_the_same(old, manifest):
            content = encode_document(manifest)
        written = self._add_document(content, OCI_MANIFEST)
        document = _read_document(image.config_path, image.image_id, MAXIMUM_CONFIG_BYTES)
        platform = decode_config(document, image.config_path).platform
        written = msgspec.structs.replace(written, platform=platform)
        if not image.names:
            return [written]
        return [
            msgspec.structs.replace(
                written,
                annotations={
                    CONTAINERD_NAME_ANNOTATION: name.canonical,
                    REFERENCE_ANNOTATION: name.tag,
                },
            )
            for name in image.names
        ]

    def _add_document(self, content: bytes, media_type: str) -> Descriptor:
        digest = digest_of(content)
        if digest not in self._documents:
            self._documents.add(digest)
            self._target.add(blob_name(digest), content)
        return Descriptor(media_type=media_type, digest=digest, size=len(content))


def _says_the_same(old: Manifest, new: Manifest) -> bool:
    if old.media_type != OCI_MANIFEST or old.schema_version != 2 or old.config is None:
        return False
    return (old.config.digest, old.config.media_type) == (
        new.config.digest if new.config else "",
        OCI_CONFIG,
    ) and [(layer.digest, layer.media_type) for layer in old.layers or ()] == [
        (layer.digest, layer.media_type) for layer in new.layers or ()
    ]


def _read_document(path: str, digest: str, maximum_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(maximum_bytes + 1)
    except FileNotFoundError:
        raise StoreError(
            f"{digest} is missing from the store", hint="Remove the image and load it again"
        ) from None
    actual = digest_of(content)
    if actual != digest:
        raise DigestMismatchError(path, expected=digest, actual=actual)
    return content


def _with_diff_ids(config: bytes, diff_ids: Sequence[str]) -> bytes:
    """A config for other layers; what we do not know of it stays as it is."""
    document = msgspec.json.decode(config, type=dict[str, msgspec.Raw])
    root = msgspec.json.encode({"type": "layers", "diff_ids": diff_ids})
    return msgspec.json.encode({**document, "rootfs": msgspec.Raw(root)})


def _renewed_warning(count: int) -> str:
    layers = "a layer was" if count == 1 else f"{count:,} layers were"
    return (
        f"{layers} unpacked before tars were kept, and packed anew: "
        "digests and image ids in the archive are others than here"
    )


JOBS = {"save-archive": save_archive}
