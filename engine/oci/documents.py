"""OCI and Docker documents: read leniently, written strictly.

What we read need not validate: docker's own `save` writes null where the schema wants arrays.
What we write omits what has no value, and validates against the OCI image-spec's schemas.
Sources: OCI image-spec 1.1 (image-index.md, manifest.md, config.md, descriptor.md), Docker
image manifest v2 schema 2, docker image specification v1.2 (manifest.json of an archive).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.errors import ArchiveError
from engine.types import ChainId, DiffId

if TYPE_CHECKING:
    from collections.abc import Iterable

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"

INDEX_MEDIA_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_MEDIA_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_MEDIA_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
LAYER_COMPRESSION = {
    # media type: compression as the name has it; a reader still looks at the first bytes.
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_FOREIGN_LAYER_GZIP: "gzip",
    _OCI_NONDISTRIBUTABLE: "none",
    f"{_OCI_NONDISTRIBUTABLE}+gzip": "gzip",
    f"{_OCI_NONDISTRIBUTABLE}+zstd": "zstd",
}
_OCI_NAMES = {
    # A manifest speaks one language: what Docker's calls its layers is said in OCI's words.
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD,
    DOCKER_FOREIGN_LAYER_GZIP: OCI_LAYER_GZIP,
}

REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name"
CONTAINERD_NAME_ANNOTATION = "io.containerd.image.name"
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"

MAXIMUM_MANIFEST_BYTES = 4 << 20
"""What registries must accept at least (distribution-spec), and all that we take."""
MAXIMUM_CONFIG_BYTES = 8 << 20
MAXIMUM_LAYERS = 500
"""Overlay's own limit (OVL_MAX_STACK)."""
MAXIMUM_HISTORY = 10_000
_MOST_COMMAS = 250_000


class Platform(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an image runs on; words of the Go language: `linux`, `amd64`, `v8`."""

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        words = (self.os or "unknown", self.architecture or "unknown", self.variant)
        return "/".join(word for word in words if word)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Points to content by digest."""

    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str = ""
    size: int = -1
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Index(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An image index or manifest list; `schema_version` is 2 in what we write."""

    schema_version: int = msgspec.field(default=0, name="schemaVersion")
    media_type: str = msgspec.field(default="", name="mediaType")
    manifests: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One image for one platform."""

    schema_version: int = msgspec.field(default=0, name="schemaVersion")
    media_type: str = msgspec.field(default="", name="mediaType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None


class LayoutMarker(msgspec.Struct, frozen=True, kw_only=True):
    """The file `oci-layout`."""

    image_layout_version: str = msgspec.field(default="1.0.0", name="imageLayoutVersion")


class DockerArchiveImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One element of a docker archive's manifest.json; paths are members of the archive."""

    config: str = ""
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


class Empty(msgspec.Struct, frozen=True):
    """The `{}` that stands behind each port and volume."""


class HealthCheckDocument(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="pascal"
):
    """HEALTHCHECK in Docker's config; durations are nanoseconds, 0 is the default."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ConfigSection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="pascal"):
    """`config` of an image's config: what its containers do."""

    user: str | None = None
    exposed_ports: dict[str, Empty | None] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    volumes: dict[str, Empty | None] | None = None
    working_dir: str | None = None
    labels: dict[str, str | None] | None = None
    stop_signal: str | None = None
    healthcheck: HealthCheckDocument | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    args_escaped: bool | None = None


class RootFsDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`rootfs`: `type` is `layers` in what we write."""

    type: str = ""
    diff_ids: tuple[str, ...] | None = None


class HistoryDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step of the history."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An image's config; its digest is the image id."""

    created: str | None = None
    author: str | None = None
    architecture: str = ""
    variant: str | None = None
    os: str = ""
    config: ConfigSection | None = None
    rootfs: RootFsDocument | None = None
    history: tuple[HistoryDocument, ...] | None = None

    @property
    def diff_ids(self) -> tuple[DiffId, ...]:
        """Of the layers, bottom first; checked by `decode_config`."""
        ids = self.rootfs.diff_ids if self.rootfs else None
        return tuple(DiffId(diff_id) for diff_id in ids or ())

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform(
            architecture=self.architecture, os=self.os or "linux", variant=self.variant or ""
        )


_Document = TypeVar("_Document")


def decode_index(content: bytes, path: str) -> Index:
    """Read an image index or manifest list; `path` names it in errors.

    Raises:
        ArchiveError: Not JSON, or not of this shape, or too large.
    """
    return _decode(content, Index, path, MAXIMUM_MANIFEST_BYTES)


def decode_manifest(content: bytes, path: str) -> Manifest:
    """Read a manifest; its config and layers are there, their digests and sizes well-formed.

    Raises:
        ArchiveError: Not JSON, not a manifest, schema 1, or with bad descriptors.
    """
    manifest = _decode(content, Manifest, path, MAXIMUM_MANIFEST_BYTES)
    if manifest.media_type.startswith(_DOCKER_SCHEMA_1) or manifest.schema_version == 1:
        raise ArchiveError(
            path,
            "it is a Docker image of schema 1",
            hint="Pull and save the image with a current tool, which writes schema 2",
        )
    if manifest.config is None:
        raise ArchiveError(path, "the manifest names no config")
    layers = manifest.layers or ()
    if len(layers) > MAXIMUM_LAYERS:
        raise ArchiveError(path, f"{len(layers)} layers are more than {MAXIMUM_LAYERS}")
    for descriptor in (manifest.config, *layers):
        check_descriptor(descriptor, path)
    return manifest


def decode_config(content: bytes, path: str) -> ImageDocument:
    """Read an image's config; its diff ids are well-formed.

    Raises:
        ArchiveError: Not JSON, not a config, or with bad diff ids.
    """
    document = _decode(content, ImageDocument, path, MAXIMUM_CONFIG_BYTES)
    if document.rootfs is None or document.rootfs.diff_ids is None:
        raise ArchiveError(path, "the config has no list of layers (rootfs.diff_ids)")
    if len(document.diff_ids) > MAXIMUM_LAYERS:
        raise ArchiveError(path, f"{len(document.diff_ids)} layers are more than {MAXIMUM_LAYERS}")
    if len(document.history or ()) > MAXIMUM_HISTORY:
        raise ArchiveError(path, f"the history has more than {MAXIMUM_HISTORY} steps")
    for diff_id in document.diff_ids:
        _check_digest(diff_id, path)
    return document


def decode_docker_manifest(content: bytes, path: str) -> tuple[DockerArchiveImage, ...]:
    """Read manifest.json of a docker archive.

    Raises:
        ArchiveError: Not JSON or not of this shape.
    """
    return _decode(content, tuple[DockerArchiveImage, ...], path, MAXIMUM_MANIFEST_BYTES)


def decode_layout_marker(content: bytes, path: str) -> LayoutMarker:
    """Read the file `oci-layout`.

    Raises:
        ArchiveError: Not JSON, or a version other than 1.
    """
    marker = _decode(content, LayoutMarker, path, MAXIMUM_MANIFEST_BYTES)
    if marker.image_layout_version.partition(".")[0] != "1":
        raise ArchiveError(path, f"OCI layout of version {marker.image_layout_version[:20]!r}")
    return marker


def encode_document(document: msgspec.Struct) -> bytes:
    """Write a document: compact, keys in the order of the specification's tables."""
    return msgspec.json.encode(document, order="deterministic")


def check_descriptor(descriptor: Descriptor, path: str) -> None:
    """Check what a descriptor says before it is followed.

    Raises:
        ArchiveError: Its digest or its size is malformed.
    """
    _check_digest(descriptor.digest, path)
    if descriptor.size < 0:
        raise ArchiveError(path, f"descriptor of {descriptor.digest} has no valid size")


def has_too_many_parts(content: bytes) -> bool:
    """Whether JSON would become many times larger in memory: `[{},{},{},…`."""
    return content.count(b",") > _MOST_COMMAS


def oci_layer_type(media_type: str) -> str:
    """What an OCI manifest calls a layer of this type."""
    return _OCI_NAMES.get(media_type, media_type)


def chain_ids(diff_ids: Iterable[DiffId]) -> tuple[ChainId, ...]:
    """The chain id of every layer, bottom first (config.md, "Layer ChainID")."""
    chain: list[ChainId] = []
    for diff_id in diff_ids:
        if chain:
            digest = hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest()
            chain.append(ChainId(f"sha256:{digest}"))
        else:
            chain.append(ChainId(diff_id))
    return tuple(chain)


# Every local time of what lies between has four digits for its year, as calendars want it.
_EARLIEST_SECONDS = -30_000_000_000  # the year 1019
_LATEST_SECONDS = 253_370_764_800  # the year 9999


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none, Go's zero time, or nonsense."""
    if not text or text.startswith("0001-"):
        return None
    try:
        moment = datetime.fromisoformat(text)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if _EARLIEST_SECONDS < seconds < _LATEST_SECONDS else None


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, as documents have it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _decode(content: bytes, shape: type[_Document], path: str, maximum_bytes: int) -> _Document:
    if len(content) > maximum_bytes:
        raise ArchiveError(path, f"the document is larger than {maximum_bytes} bytes")
    if has_too_many_parts(content):
        raise ArchiveError(path, "the document has more parts than any image's")
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ArchiveError(path, f"not a valid JSON document: {error}") from error


def _check_digest(digest: str, path: str) -> None:
    # Here and not by oci.digests: the error must name the archive.
    algorithm, _, digits = digest.partition(":")
    if algorithm == "sha256" and len(digits) == 64 and not set(digits) - _HEX_DIGITS:
        return
    raise ArchiveError(path, f"not a sha256 digest: {digest[:100]!r}")


_HEX_DIGITS = frozenset("0123456789abcdef")
