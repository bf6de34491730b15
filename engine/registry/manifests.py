"""Manifests and indexes of a registry: read with suspicion, kept byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import ArchiveError, DigestMismatchError
from engine.late_dataclasses import dataclass
from engine.oci.digests import digest_of, is_digest
from engine.oci.documents import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_MEDIA_TYPES,
    MANIFEST_MEDIA_TYPES,
    MAXIMUM_CONFIG_BYTES,
    MAXIMUM_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    check_descriptor,
    decode_config,
    decode_index,
    decode_manifest,
)
from engine.oci.platforms import (
    MOST_PLATFORMS,
    choose_manifests,
    platform_mismatch,
    platform_rank,
)

if TYPE_CHECKING:
    from engine.oci.documents import Descriptor, Manifest, Platform
    from engine.oci.reference import Reference
    from engine.registry.transport import Answer
    from engine.types import Digest

ACCEPTED_MANIFESTS = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_DEEPEST = 3
_MOST_UNSAID = 8
_MOST_FOLLOWED = 100


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What tells a manifest from an index, whatever they are called."""

    schema_version: int = msgspec.field(default=0, name="schemaVersion")
    media_type: str = msgspec.field(default="", name="mediaType")
    manifests: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="fsLayers")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDocument:
    """A manifest or an index.

    Attributes:
        media_type: Which of the two, and whose words.
        digest: Of the content; verified where it was known before.
        content: As the registry has it, byte for byte.
    """

    media_type: str
    digest: Digest
    content: bytes

    @property
    def is_index(self) -> bool:
        """It leads to manifests."""
        return self.media_type in INDEX_MEDIA_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenManifest:
    """The manifest for a platform, and how it was come to.

    Attributes:
        named: What the name leads to: the manifest itself, or an index.
        document: The manifest.
        manifest: The same, taken apart.
        platforms: What the index has images for; empty where there is none.
    """

    named: RemoteDocument
    document: RemoteDocument
    manifest: Manifest
    platforms: tuple[str, ...] = ()


class KnownManifests(Protocol):
    """Manifests that need not be asked for."""

    def __call__(self, digest: str, /) -> bytes | None:
        """The one with a digest, if it is here; blocking."""


class ManifestSource(Protocol):
    """What choosing needs of a client."""

    def get_manifest(self, name: Reference, *, tag_or_digest: str) -> RemoteDocument:
        """Get a manifest or an index."""

    def get_small_blob(
        self, name: Reference, descriptor: Descriptor, *, maximum_bytes: int
    ) -> bytes:
        """Get a config."""


def read_document(
    name: Reference, tag_or_digest: str, answer: Answer, content: bytes | None
) -> RemoteDocument:
    """Take a manifest or an index from an answer.

    Args:
        name: Whose repository answered.
        tag_or_digest: What was asked for.
        answer: Its headers count.
        content: Its body; None for one that was too large to be read.

    Raises:
        ArchiveError: It is neither, or too large.
        DigestMismatchError: It is another one than was asked for, or than the registry says.
    """
    label = f"{name.familiar_repository}{'@' if is_digest(tag_or_digest) else ':'}{tag_or_digest}"
    if content is None:
        raise ArchiveError(label, f"the manifest is larger than {MAXIMUM_MANIFEST_BYTES} bytes")
    digest = digest_of(content)
    said = answer.header("Docker-Content-Digest")
    for expected in (tag_or_digest, said):
        if is_digest(expected) and expected != digest:
            raise DigestMismatchError(label, expected=expected, actual=digest)
    stated = answer.header("Content-Type").partition(";")[0].strip().lower()
    return RemoteDocument(
        media_type=media_type_of(content, stated, label), digest=digest, content=content
    )


def media_type_of(content: bytes, stated: str, label: str) -> str:
    """What a document is; two answers to that are refused (CVE-2021-41190).

    Args:
        content: The document.
        stated: What it is called outside of itself.
        label: Names it in errors.

    Raises:
        ArchiveError: Neither manifest nor index, both, or of schema 1.
    """
    try:
        shape = msgspec.json.decode(content, type=_Shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveError(label, f"not a valid JSON document: {error}") from error
    called = shape.media_type or stated
    if called.startswith(_SCHEMA_1) or stated.startswith(_SCHEMA_1) or shape.schema_version == 1:
        raise ArchiveError(
            label,
            "it is a Docker image of schema 1, which is not supported",
            hint="Whoever made the image can push it again with a current tool",
        )
    is_index = _has(shape.manifests)
    is_manifest = _has(shape.config) or _has(shape.layers)
    if is_index == is_manifest or _has(shape.fs_layers):
        raise ArchiveError(label, "it is neither an image's manifest nor an index of such")
    family = INDEX_MEDIA_TYPES if is_index else MANIFEST_MEDIA_TYPES
    if (
        shape.media_type
        and stated in INDEX_MEDIA_TYPES | MANIFEST_MEDIA_TYPES
        and (shape.media_type != stated)
    ):
        raise ArchiveError(
            label, f"it is called {stated} and calls itself {shape.media_type[:100]}"
        )
    if called in family:
        return called
    if called in INDEX_MEDIA_TYPES | MANIFEST_MEDIA_TYPES:
        raise ArchiveError(label, f"it is called {called} and is something else")
    if shape.media_type:
        raise ArchiveError(label, f"it is of a kind that is not known: {shape.media_type[:100]}")
    # Some registries answer with application/json.
    return OCI_INDEX if is_index else OCI_MANIFEST


def _has(part: msgspec.Raw) -> bool:
    return bytes(part) not in {b"", b"null"}


def choose_manifest(
    source: ManifestSource,
    name: Reference,
    platform: Platform,
    known: KnownManifests | None = None,
) -> ChosenManifest:
    """Follow a name to the manifest for a platform; as RegistryClient.choose."""
    wanted = name.digest or name.tag or "latest"
    named = source.get_manifest(name, tag_or_digest=wanted)
    found = _descend(_Followed(source, known), name, named, platform, depth=0)
    if found is None:
        raise platform_mismatch(name.familiar_name, _platforms_of(named, name), platform)
    return ChosenManifest(
        named=named,
        document=found,
        manifest=decode_manifest(found.content, name.familiar_name),
        platforms=_platforms_of(named, name),
    )


class _Followed:
    """A source that is asked only so often: indexes may lead to indexes by the thousand."""

    def __init__(self, source: ManifestSource, known: KnownManifests | None) -> None:
        self._source = source
        self._known = known
        self._left = _MOST_FOLLOWED
        self.get_small_blob = source.get_small_blob

    def get_manifest(self, name: Reference, *, tag_or_digest: str) -> RemoteDocument:
        """As ManifestSource."""
        self._left -= 1
        if self._left < 0:
            raise ArchiveError(
                name.familiar_name, f"its indexes lead to more than {_MOST_FOLLOWED} manifests"
            )
        # An index leads by digest, and what has the digest is what the registry would give.
        content = self._known(tag_or_digest) if self._known is not None else None
        if content is not None and (digest := digest_of(content)) == tag_or_digest:
            label = f"{name.familiar_repository}@{digest}"
            return RemoteDocument(
                media_type=media_type_of(content, "", label), digest=digest, content=content
            )
        return self._source.get_manifest(name, tag_or_digest=tag_or_digest)


def _descend(
    source: ManifestSource,
    name: Reference,
    document: RemoteDocument,
    platform: Platform,
    *,
    depth: int,
) -> RemoteDocument | None:
    if not document.is_index:
        return document
    if depth == _DEEPEST:
        raise ArchiveError(name.familiar_name, f"more than {_DEEPEST} indexes lead to each other")
    index = decode_index(document.content, name.familiar_name)
    unsaid = 0
    for descriptor in choose_manifests(index.manifests or (), platform):
        check_descriptor(descriptor, name.familiar_name)
        is_said = descriptor.platform is not None and bool(descriptor.platform.architecture)
        if descriptor.media_type not in INDEX_MEDIA_TYPES | MANIFEST_MEDIA_TYPES:
            continue
        if not is_said:
            unsaid += 1
            if unsaid > _MOST_UNSAID:
                break
        found = source.get_manifest(name, tag_or_digest=descriptor.digest)
        below = _descend(source, name, found, platform, depth=depth + 1)
        if below is not None and (is_said or _runs_on(source, name, below, platform)):
            return below
    return None


def _runs_on(
    source: ManifestSource, name: Reference, document: RemoteDocument, platform: Platform
) -> bool:
    """Whether an image that its index says nothing of is for a platform, by its config."""
    manifest = decode_manifest(document.content, name.familiar_name)
    if manifest.config is None:
        return False
    content = source.get_small_blob(name, manifest.config, maximum_bytes=MAXIMUM_CONFIG_BYTES)
    config = decode_config(content, name.familiar_name)
    return platform_rank(config.platform, platform) is not None


def _platforms_of(document: RemoteDocument, name: Reference) -> tuple[str, ...]:
    """What an index says that it has images for; nothing of a manifest."""
    if not document.is_index:
        return ()
    index = decode_index(document.content, name.familiar_name)
    known = [str(entry.platform) for entry in index.manifests or () if entry.platform is not None]
    said = [text for text in dict.fromkeys(known) if not text.startswith("unknown")]
    return tuple(said[:MOST_PLATFORMS])
