"""What an image archive says about itself: Docker's manifest.json, or an OCI index.

Read leniently, as every tool writes something of its own; what is used is checked.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from engine.errors import ArchiveError, DigestMismatchError, PlatformMismatchError
from engine.late_dataclasses import dataclass
from engine.oci.digests import digest_of, is_digest
from engine.oci.documents import (
    CONFIG_MEDIA_TYPES,
    CONTAINERD_NAME_ANNOTATION,
    INDEX_MEDIA_TYPES,
    LAYER_COMPRESSION,
    MANIFEST_MEDIA_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    REFERENCE_ANNOTATION,
    Descriptor,
    Manifest,
    Platform,
    chain_ids,
    decode_config,
    decode_docker_manifest,
    decode_index,
    decode_layout_marker,
    decode_manifest,
    encode_document,
)
from engine.oci.platforms import (
    choose_manifests,
    is_attestation,
    platform_mismatch,
    platform_rank,
)
from engine.types import ChainId, DiffId, Digest, ImageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.images.archive_source import ArchiveSource, Member
    from engine.store.repository_digests import RepositoryDigest

_DOCUMENT_BYTES = 8 << 20
_DOCUMENTS_BYTES = 64 << 20
_MOST_DOCUMENTS = 20_000
_NESTING_LIMIT = 4
_HEX_NAME = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json|\.tar)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """A layer as a registry has it, as the manifest says."""

    digest: Digest
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerIdentity:
    """Which layer it is: by its tar, and by its place in a stack.

    Attributes:
        diff_id: Digest of the uncompressed tar.
        chain_id: Of the layer and all below.
        blob: What it came as, from a registry.
    """

    diff_id: DiffId
    chain_id: ChainId
    blob: LayerBlob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLayer(LayerIdentity):
    """One layer in an archive.

    Attributes:
        blob_digest: What the blob must have; empty where the archive does not say.
    """

    member: Member
    blob_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image that is to be recorded.

    Attributes:
        names: Not normalised.
        config: The document, byte for byte; its digest is the image's id.
        manifest: As it came, or made by us.
        layers: Bottom first.
        origin: The registry it came from, with what it is called there.
    """

    image_id: ImageId
    manifest_digest: Digest
    names: tuple[str, ...]
    config: bytes
    manifest: bytes
    layers: tuple[LayerIdentity, ...]
    origin: RepositoryDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveImage(NewImage):
    """One image in an archive."""

    layers: tuple[ArchiveLayer, ...]


def read_images(source: ArchiveSource, *, platform: Platform) -> tuple[ArchiveImage, ...]:
    """Find every image of an archive that is for a platform; blocking.

    Args:
        source: The archive.
        platform: This host's, or what a person asked for.

    Raises:
        ArchiveError: Neither Docker's nor OCI's format, or damaged.
        PlatformMismatchError: An image is for another platform.
    """
    return _Reader(source, platform).read()


class _Reader:
    def __init__(self, source: ArchiveSource, platform: Platform) -> None:
        self._source = source
        self._platform = platform
        self._left_bytes = _DOCUMENTS_BYTES
        self._left_count = _MOST_DOCUMENTS

    def _error(self, reason: str, *, hint: str = "") -> ArchiveError:
        return ArchiveError(self._source.label, reason, hint=hint)

    def read(self) -> tuple[ArchiveImage, ...]:
        # Docker 25 and newer writes both; only manifest.json has whole names.
        if self._source.find("manifest.json") is not None:
            try:
                images = self._read_docker()
            except PlatformMismatchError:
                # It names one image of each index: the host's that wrote it.
                if self._source.find("index.json") is None:
                    raise
                images = self._read_oci()
        elif self._source.find("index.json") is not None:
            images = self._read_oci()
        else:
            raise self._error(
                "it is no image archive: it has neither manifest.json nor index.json",
                hint="Make one with `docker save`, `podman save`, or `skopeo copy … oci-archive:`",
            )
        if not images:
            raise self._error("there is no image in it")
        return images

    # --- content ------------------------------------------------------------------------------

    def _member(self, name: str) -> Member:
        member = self._source.find(name)
        if member is None:
            raise self._error(f"{name} is missing", hint="The archive is incomplete; get it again")
        return member

    def _content(self, name: str) -> bytes:
        member = self._member(name)
        if member.size > _DOCUMENT_BYTES:
            raise self._error(f"{name} is larger than {_DOCUMENT_BYTES:,} bytes")
        self._left_bytes -= member.size
        if self._left_bytes < 0:
            # An archive may name one config as often as it likes.
            raise self._error(f"its documents are larger than {_DOCUMENTS_BYTES:,} bytes together")
        self._left_count -= 1
        if self._left_count < 0:
            raise self._error(f"it names more than {_MOST_DOCUMENTS:,} documents")
        parts = []
        done = 0
        while done < member.size:
            piece = os.pread(member.descriptor, member.size - done, member.offset + done)
            if not piece:
                raise self._error(f"{name} ends too early: it is truncated")
            parts.append(piece)
            done += len(piece)
        return b"".join(parts)

    def _path(self, name: str) -> str:
        """A member as errors name it."""
        return f"{self._source.label} ({name})"

    def _blob_name(self, digest: str) -> str:
        if not is_digest(digest):
            raise self._error(f"{digest[:80]!r} is not a sha256 digest")
        return f"blobs/sha256/{digest.removeprefix('sha256:')}"

    def _blob(self, descriptor: Descriptor) -> bytes:
        name = self._blob_name(descriptor.digest)
        content = self._content(name)
        self._check_size(name, descriptor.size, len(content))
        self._check_digest(name, descriptor.digest, digest_of(content))
        return content

    def _check_size(self, name: str, expected: int, actual: int) -> None:
        if expected != actual:
            raise self._error(f"{name} has {actual:,} bytes, expected {expected:,}")

    def _check_digest(self, name: str, expected: str, actual: str) -> None:
        if expected != actual:
            raise DigestMismatchError(self._path(name), expected=expected, actual=actual)

    # --- one image ----------------------------------------------------------------------------

    def _image(
        self,
        names: Sequence[str],
        config_content: bytes,
        manifest: bytes | None,
        blobs: Sequence[tuple[Member, str]],
    ) -> ArchiveImage:
        """Put an image together; `blobs` has each layer's member and digest, if it has one."""
        config = decode_config(config_content, self._path("the image's config"))
        self._check_platform(config.platform)
        diff_ids = config.diff_ids
        if len(diff_ids) != len(blobs):
            raise self._error(f"its config names {len(diff_ids)} layers, its manifest {len(blobs)}")
        layers = [
            ArchiveLayer(member=member, blob_digest=digest, diff_id=diff_id, chain_id=chain_id)
            for diff_id, chain_id, (member, digest) in zip(
                diff_ids, chain_ids(diff_ids), blobs, strict=True
            )
        ]
        if manifest is None:
            manifest = _make_manifest(config_content, layers)
        return ArchiveImage(
            image_id=ImageId(digest_of(config_content)),
            manifest_digest=digest_of(manifest),
            names=tuple(dict.fromkeys(names)),
            config=config_content,
            manifest=manifest,
            layers=tuple(layers),
        )

    def _check_platform(self, platform: Platform) -> None:
        # Very old images do not name an architecture.
        if platform_rank(platform, self._platform) is None and (
            platform.architecture or platform.os != self._platform.os
        ):
            raise platform_mismatch(self._source.label, (str(platform),), self._platform)

    # --- Docker -------------------------------------------------------------------------------

    def _read_docker(self) -> tuple[ArchiveImage, ...]:
        content = self._content("manifest.json")
        images = []
        for item in decode_docker_manifest(content, self._path("manifest.json")):
            config = self._content(item.config)
            named = _HEX_NAME.search(item.config)
            if named:
                self._check_digest(item.config, f"sha256:{named[1]}", digest_of(config))
            blobs = []
            for name in item.layers or ():
                # Only in blobs/ is the name the digest of what is there, compressed or not.
                is_blob = name.startswith("blobs/sha256/") and _HEX_NAME.search(name)
                digest = f"sha256:{name.removeprefix('blobs/sha256/')}" if is_blob else ""
                blobs.append((self._member(name), digest))
            images.append(self._image(item.repo_tags or (), config, None, blobs))
        return tuple(images)

    # --- OCI ----------------------------------------------------------------------------------

    def _read_oci(self) -> tuple[ArchiveImage, ...]:
        if self._source.find("oci-layout") is not None:
            decode_layout_marker(self._content("oci-layout"), self._path("oci-layout"))
        index = decode_index(self._content("index.json"), self._path("index.json"))
        groups: dict[tuple[str, ...], list[Descriptor]] = {}
        for descriptor in index.manifests or ():
            groups.setdefault(_names_of(descriptor), []).append(descriptor)
        images: dict[str, ArchiveImage] = {}
        for names, descriptors in groups.items():
            chosen: Sequence[Descriptor] = self._flatten(descriptors, 0)
            if names or len(chosen) > 1:
                chosen = self._choose(chosen, is_one=bool(names))
            for descriptor in chosen:
                image = self._read_manifest(self._full_names(names), descriptor)
                images[descriptor.digest + "|" + "|".join(names)] = image
        return tuple(images.values())

    def _full_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names with a repository: a bare tag gets the archive's own name before it."""
        stem = re.sub(r"(\.(tar|gz|tgz|zst|oci))+$", "", self._source.label)
        stem = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
        full = []
        for name in names:
            if "/" in name or ":" in name:
                full.append(name)
            elif stem:
                full.append(f"{stem}:{name}")
        return tuple(full)

    def _flatten(self, descriptors: Sequence[Descriptor], depth: int) -> list[Descriptor]:
        """Manifests, also those in nested indexes; attestations are none."""
        if depth > _NESTING_LIMIT:
            raise self._error("its indexes are nested too deeply")
        found = []
        for descriptor in descriptors:
            if is_attestation(descriptor):
                continue
            if descriptor.media_type in INDEX_MEDIA_TYPES:
                nested = decode_index(self._blob(descriptor), self._path("a nested index"))
                found += self._flatten(nested.manifests or (), depth + 1)
            elif descriptor.media_type in MANIFEST_MEDIA_TYPES or not descriptor.media_type:
                found.append(descriptor)
            else:
                raise self._error(_type_reason(descriptor.media_type))
        return found

    def _choose(self, descriptors: Sequence[Descriptor], *, is_one: bool) -> list[Descriptor]:
        """Those for the platform, the best first; a manifest that names no platform may be."""
        fitting = choose_manifests(descriptors, self._platform)
        if not fitting:
            platforms = sorted({str(item.platform) for item in descriptors if item.platform})
            raise platform_mismatch(self._source.label, platforms, self._platform)
        return list(fitting[:1] if is_one else fitting)

    def _read_manifest(self, names: tuple[str, ...], descriptor: Descriptor) -> ArchiveImage:
        content = self._blob(descriptor)
        manifest = decode_manifest(content, self._path("its manifest"))
        if manifest.media_type and manifest.media_type not in MANIFEST_MEDIA_TYPES:
            raise self._error(_type_reason(manifest.media_type))
        assert manifest.config is not None  # decode_manifest has looked
        if manifest.config.media_type not in CONFIG_MEDIA_TYPES:
            raise self._error(_type_reason(manifest.config.media_type))
        blobs = []
        for layer in manifest.layers or ():
            if layer.media_type not in LAYER_COMPRESSION:
                raise self._error(_type_reason(layer.media_type))
            name = self._blob_name(layer.digest)
            member = self._member(name)
            self._check_size(name, layer.size, member.size)
            blobs.append((member, layer.digest))
        return self._image(names, self._blob(manifest.config), content, blobs)


def _names_of(descriptor: Descriptor) -> tuple[str, ...]:
    annotations = descriptor.annotations or {}
    name = annotations.get(CONTAINERD_NAME_ANNOTATION) or annotations.get(REFERENCE_ANNOTATION)
    return (name,) if name else ()


def _type_reason(media_type: str) -> str:
    return f"it holds something of the type {media_type[:120]!r}, which is no container image"


def _make_manifest(config: bytes, layers: Sequence[ArchiveLayer]) -> bytes:
    """A manifest for an archive that has none, as it would be with its layers uncompressed."""
    return encode_document(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
            layers=tuple(
                Descriptor(media_type=OCI_LAYER, digest=layer.diff_id, size=layer.member.size)
                for layer in layers
            ),
        )
    )
