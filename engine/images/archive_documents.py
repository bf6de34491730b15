"""What an image archive says about itself: Docker's manifest.json, or an OCI index.

Read leniently, as every tool writes something of its own; what is used is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.errors import ArchiveError, DigestMismatchError, PlatformMismatchError
from engine.types import ChainId, DiffId, Digest, ImageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.images.archive_source import ArchiveSource, Member

_DOCUMENT_BYTES = 8 << 20
_NESTING_LIMIT = 4
_LAYER_LIMIT = 500  # overlayfs takes no more
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_NAME = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json|\.tar)?$")

_INDEX_TYPES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFEST_TYPES = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIG_TYPES = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
_LAYER_TYPE = re.compile(
    r"application/vnd\.(?:"
    r"oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.gzip|\.zstd)?)"
)
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "arm64/v8": "arm64"}
_ATTESTATION = "vnd.docker.reference.type"


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str | None = None


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: list[_Descriptor] | None = None


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 2
    media_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


class _DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _RootFilesystem(msgspec.Struct, frozen=True):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    rootfs: _RootFilesystem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLayer:
    """One layer in an archive.

    Attributes:
        blob_digest: What the blob must have; empty where the archive does not say.
        diff_id: What the uncompressed tar must have.
        chain_id: Of the layer and all below.
    """

    member: Member
    blob_digest: str
    diff_id: DiffId
    chain_id: ChainId


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveImage:
    """One image in an archive.

    Attributes:
        names: As the archive has them, not normalised.
        config: The document, byte for byte; its digest is the image's id.
        manifest: As in the archive, or made by us for an archive without.
        layers: Bottom first.
    """

    image_id: ImageId
    manifest_digest: Digest
    names: tuple[str, ...]
    config: bytes
    manifest: bytes
    layers: tuple[ArchiveLayer, ...]


_Document = TypeVar("_Document")


def read_images(source: ArchiveSource, *, host_architecture: str) -> tuple[ArchiveImage, ...]:
    """Find every image of an archive that this host can run; blocking.

    Args:
        source: The archive.
        host_architecture: As images name it: `amd64`, `arm64`.

    Raises:
        ArchiveError: Neither Docker's nor OCI's format, or damaged.
        PlatformMismatchError: An image is for another platform.
    """
    return _Reader(source, host_architecture).read()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Reader:
    def __init__(self, source: ArchiveSource, host_architecture: str) -> None:
        self._source = source
        self._host_architecture = host_architecture

    def _error(self, reason: str, *, hint: str = "") -> ArchiveError:
        return ArchiveError(self._source.label, reason, hint=hint)

    def read(self) -> tuple[ArchiveImage, ...]:
        # Docker 25 and newer writes both; only manifest.json has whole names.
        if self._source.find("manifest.json") is not None:
            images = self._read_docker()
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
        parts = []
        done = 0
        while done < member.size:
            piece = os.pread(member.descriptor, member.size - done, member.offset + done)
            if not piece:
                raise self._error(f"{name} ends too early: it is truncated")
            parts.append(piece)
            done += len(piece)
        return b"".join(parts)

    def _decode(self, content: bytes, kind: type[_Document], name: str) -> _Document:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(f"{name} is not a valid JSON document: {error}") from None

    def _blob_name(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise self._error(f"{digest[:80]!r} is not a sha256 digest")
        return f"blobs/sha256/{digest.removeprefix('sha256:')}"

    def _blob(self, descriptor: _Descriptor) -> bytes:
        name = self._blob_name(descriptor.digest)
        content = self._content(name)
        self._check_size(name, descriptor.size, len(content))
        self._check_digest(name, descriptor.digest, _digest(content))
        return content

    def _check_size(self, name: str, expected: int, actual: int) -> None:
        if expected != actual:
            raise self._error(f"{name} has {actual:,} bytes, expected {expected:,}")

    def _check_digest(self, name: str, expected: str, actual: str) -> None:
        if expected != actual:
            raise DigestMismatchError(
                f"{self._source.label} ({name})", expected=expected, actual=actual
            )

    # --- one image ----------------------------------------------------------------------------

    def _image(
        self,
        names: Sequence[str],
        config_content: bytes,
        manifest: bytes | None,
        blobs: Sequence[tuple[Member, str]],
    ) -> ArchiveImage:
        """Put an image together; `blobs` has each layer's member and digest, if it has one."""
        config = self._decode(config_content, _Config, "the image's config")
        self._check_platform(config.os, config.architecture)
        diff_ids = (config.rootfs.diff_ids if config.rootfs else None) or []
        if len(diff_ids) != len(blobs):
            raise self._error(f"its config names {len(diff_ids)} layers, its manifest {len(blobs)}")
        if len(blobs) > _LAYER_LIMIT:
            raise self._error(f"it has {len(blobs)} layers; {_LAYER_LIMIT} are possible")
        layers = []
        chain = ""
        for diff_id, (member, digest) in zip(diff_ids, blobs, strict=True):
            if not _DIGEST.fullmatch(diff_id):
                raise self._error(f"{diff_id[:80]!r} is not a sha256 digest")
            # OCI image-spec, config.md, "Layer ChainID".
            chain = _digest(f"{chain} {diff_id}".encode()) if chain else diff_id
            layers.append(
                ArchiveLayer(
                    member=member,
                    blob_digest=digest,
                    diff_id=DiffId(diff_id),
                    chain_id=ChainId(chain),
                )
            )
        if manifest is None:
            manifest = _make_manifest(config_content, layers)
        return ArchiveImage(
            image_id=ImageId(_digest(config_content)),
            manifest_digest=Digest(_digest(manifest)),
            names=tuple(dict.fromkeys(names)),
            config=config_content,
            manifest=manifest,
            layers=tuple(layers),
        )

    def _check_platform(self, system: str, architecture: str) -> None:
        architecture = _ARCHITECTURES.get(architecture, architecture)
        if (system or "linux") != "linux" or (
            architecture and architecture != self._host_architecture
        ):
            raise PlatformMismatchError(
                self._source.label,
                image_platform=f"{system or 'linux'}/{architecture or 'unknown'}",
                host_platform=f"linux/{self._host_architecture}",
            )

    # --- Docker -------------------------------------------------------------------------------

    def _read_docker(self) -> tuple[ArchiveImage, ...]:
        items = self._decode(self._content("manifest.json"), list[_DockerImage], "manifest.json")
        images = []
        for item in items:
            config = self._content(item.config)
            named = _HEX_NAME.search(item.config)
            if named:
                self._check_digest(item.config, f"sha256:{named[1]}", _digest(config))
            blobs = []
            for name in item.layers or []:
                # Only in blobs/ is the name the digest of what is there, compressed or not.
                is_blob = name.startswith("blobs/sha256/") and _HEX_NAME.search(name)
                digest = f"sha256:{name.removeprefix('blobs/sha256/')}" if is_blob else ""
                blobs.append((self._member(name), digest))
            images.append(self._image(item.repo_tags or (), config, None, blobs))
        return tuple(images)

    # --- OCI ----------------------------------------------------------------------------------

    def _read_oci(self) -> tuple[ArchiveImage, ...]:
        index = self._decode(self._content("index.json"), _Index, "index.json")
        groups: dict[tuple[str, ...], list[_Descriptor]] = {}
        for descriptor in index.manifests or []:
            groups.setdefault(_names_of(descriptor), []).append(descriptor)
        images: dict[str, ArchiveImage] = {}
        for names, descriptors in groups.items():
            chosen: Sequence[_Descriptor] = self._flatten(descriptors, 0)
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

    def _flatten(self, descriptors: Sequence[_Descriptor], depth: int) -> list[_Descriptor]:
        """Manifests, also those in nested indexes; attestations are none."""
        if depth > _NESTING_LIMIT:
            raise self._error("its indexes are nested too deeply")
        found = []
        for descriptor in descriptors:
            if _ATTESTATION in (descriptor.annotations or {}):
                continue
            if descriptor.platform is not None and descriptor.platform.os == "unknown":
                continue
            if descriptor.media_type in _INDEX_TYPES:
                nested = self._decode(self._blob(descriptor), _Index, "a nested index")
                found += self._flatten(nested.manifests or [], depth + 1)
            elif descriptor.media_type in _MANIFEST_TYPES or not descriptor.media_type:
                found.append(descriptor)
            else:
                raise self._error(_type_reason(descriptor.media_type))
        return found

    def _choose(self, descriptors: Sequence[_Descriptor], *, is_one: bool) -> list[_Descriptor]:
        """Those for this host, the best first; a manifest that names no platform may be."""
        ranked = []
        for descriptor in descriptors:
            rank = _platform_rank(descriptor.platform, self._host_architecture)
            if rank is not None:
                ranked.append((rank, descriptor))
        if not ranked:
            platforms = sorted({_platform_name(item.platform) for item in descriptors})
            raise PlatformMismatchError(
                self._source.label,
                image_platform=", ".join(platforms) or "no platform",
                host_platform=f"linux/{self._host_architecture}",
            )
        ranked.sort(key=_rank_of)
        return [descriptor for _, descriptor in ranked][: 1 if is_one else None]

    def _read_manifest(self, names: tuple[str, ...], descriptor: _Descriptor) -> ArchiveImage:
        content = self._blob(descriptor)
        manifest = self._decode(content, _Manifest, "its manifest")
        if manifest.schema_version != 2:
            raise self._error(_type_reason("manifest.v1"))
        if manifest.media_type and manifest.media_type not in _MANIFEST_TYPES:
            raise self._error(_type_reason(manifest.media_type))
        if manifest.config is None:
            raise self._error("its manifest names no config")
        if manifest.config.media_type not in _CONFIG_TYPES:
            raise self._error(_type_reason(manifest.config.media_type))
        blobs = []
        for layer in manifest.layers or []:
            if not _LAYER_TYPE.fullmatch(layer.media_type):
                raise self._error(_type_reason(layer.media_type))
            name = self._blob_name(layer.digest)
            member = self._member(name)
            self._check_size(name, layer.size, member.size)
            blobs.append((member, layer.digest))
        return self._image(names, self._blob(manifest.config), content, blobs)


def _names_of(descriptor: _Descriptor) -> tuple[str, ...]:
    annotations = descriptor.annotations or {}
    whole = annotations.get("io.containerd.image.name")
    name = whole or annotations.get("org.opencontainers.image.ref.name")
    return (name,) if name else ()


def _rank_of(item: tuple[int, _Descriptor]) -> int:
    return item[0]


def _platform_rank(platform: _Platform | None, host_architecture: str) -> int | None:
    """How well a platform fits, 0 best; None not at all.

    amd64/v1 and arm64/v8 run on every processor of their family; what v2 to v4 need is not asked
    for here, so the lowest is preferred.
    """
    if platform is None or not platform.architecture:
        return 9
    architecture = _ARCHITECTURES.get(platform.architecture, platform.architecture)
    if (platform.os or "linux") != "linux" or architecture != host_architecture:
        return None
    variant = platform.variant or ""
    if variant in {"", "v1" if architecture == "amd64" else "v8"}:
        return 0
    return int(variant[1:]) if variant[1:].isdigit() else 8


def _platform_name(platform: _Platform | None) -> str:
    if platform is None:
        return "an unknown platform"
    parts = (platform.os or "linux", platform.architecture, platform.variant or "")
    return "/".join(part for part in parts if part)


def _type_reason(media_type: str) -> str:
    if "manifest.v1" in media_type:
        return "it uses Docker's image format version 1, which nothing writes since 2016"
    return f"it holds something of the type {media_type[:120]!r}, which is no container image"


def _make_manifest(config: bytes, layers: Sequence[ArchiveLayer]) -> bytes:
    """A manifest for an archive that has none, as it would be with its layers uncompressed."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer.diff_id,
                    "size": layer.member.size,
                }
                for layer in layers
            ],
        }
    )
