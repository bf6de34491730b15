"""What a pull needs of a registry, and an image as a registry describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from engine.errors import ArchiveError
from engine.images.archive_documents import LayerBlob, LayerIdentity
from engine.late_dataclasses import dataclass
from engine.oci.documents import (
    CONFIG_MEDIA_TYPES,
    LAYER_COMPRESSION,
    MAXIMUM_CONFIG_BYTES,
    Descriptor,
    ImageDocument,
    Platform,
    chain_ids,
    decode_config,
)
from engine.oci.platforms import platform_mismatch, platform_rank
from engine.types import Digest, ImageId

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from engine.oci.reference import Reference
    from engine.registry.manifests import ChosenManifest, KnownManifests


class BlobStream(Protocol):
    """A blob while it is read; every method blocks."""

    def read(self, size: int, /) -> bytes:
        """At least one byte; empty at the end."""

    def __enter__(self) -> Self:
        """Read it within the block."""

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
        /,
    ) -> None:
        """Let go of the connection."""


class ImageSource(Protocol):
    """A registry to pull from. Every method blocks, and raises RegistryErrors."""

    def choose(
        self, name: Reference, platform: Platform, /, *, known: KnownManifests | None = None
    ) -> ChosenManifest:
        """The manifest for a platform, through indexes; those that are known are not asked for."""

    def get_small_blob(
        self, name: Reference, descriptor: Descriptor, /, *, maximum_bytes: int
    ) -> bytes:
        """A whole blob, verified."""

    def open_blob(
        self,
        name: Reference,
        descriptor: Descriptor,
        /,
        *,
        offset: int = 0,
        on_retry: Callable[[float], None] | None = None,
    ) -> BlobStream:
        """A blob from an offset; a lost connection is made again and gone on with.

        `on_retry` is told of the seconds of each wait for that.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the registry warned of."""

    def close(self) -> None:
        """Close the connections."""

    def cancel(self) -> None:
        """End whatever blocks, for good, with CancelledRead; from any thread."""


class BlobReader(Protocol):
    """The bytes of a blob, once."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, at least one; empty at the end."""

    def close(self) -> None:
        """Let go of what is behind it."""


class BlobContent(Protocol):
    """A blob that can be read from the beginning as often as a connection breaks."""

    @property
    def size(self) -> int | None:
        """Its length."""

    def open(self) -> BlobReader:
        """Begin; each time the same bytes."""


class ImageTarget(Protocol):
    """A registry to push to. Every method blocks, and raises RegistryErrors."""

    def has_blob(self, name: Reference, digest: str, /) -> bool:
        """Whether the repository has a blob."""

    def mount_blob(self, name: Reference, digest: str, /, *, source_repository: str) -> bool:
        """Have the repository take a blob from another one; False if that does not work."""

    def upload_blob(
        self,
        name: Reference,
        source: BlobContent,
        /,
        *,
        digest: Digest | None = None,
        on_bytes: Callable[[int], None],
        on_retry: Callable[[float], None] | None = None,
    ) -> Digest:
        """Give the repository a blob; `on_bytes` is told how much was sent so far."""

    def put_manifest(
        self, name: Reference, /, *, tag_or_digest: str, media_type: str, content: bytes
    ) -> Digest:
        """Give the repository a manifest, whose blobs it has."""

    def cancel(self) -> None:
        """End whatever blocks, for good, with CancelledRead; from any thread."""

    def close(self) -> None:
        """Close the connections."""


class ImageRegistry(ImageSource, ImageTarget, Protocol):
    """A registry to pull from and to push to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLayer(LayerIdentity):
    """A layer that a registry has."""

    blob: LayerBlob
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInRegistry:
    """An image that a registry has; both documents byte for byte.

    Attributes:
        named_digest: Of what the name leads to: the manifest, or an index above it.
        layers: Bottom first.
        platforms: What there is to choose from under the name.
    """

    name: Reference
    named_digest: Digest
    manifest_digest: Digest
    manifest: bytes
    image_id: ImageId
    config: bytes
    document: ImageDocument
    layers: tuple[PullLayer, ...]
    platforms: tuple[str, ...]


class ConfigGetter(Protocol):
    """Gives the config of an image."""

    def __call__(self, name: Reference, descriptor: Descriptor, /, *, maximum_bytes: int) -> bytes:
        """The whole blob, verified; blocking."""


def read_image(
    source: ImageSource,
    name: Reference,
    platform: Platform,
    *,
    get_config: ConfigGetter | None = None,
    known: KnownManifests | None = None,
) -> ImageInRegistry:
    """Fetch what describes an image; blocking.

    Args:
        source: The registry.
        name: Of the image.
        platform: Whose manifest is taken of an index.
        get_config: Knows where a config may be besides.
        known: Has manifests that an index may lead to.

    Raises:
        RegistryError: The registry does not have it, or does not give it.
        ArchiveError: It is no image that can be used here.
        PlatformMismatchError: There is none for the platform.
    """
    label = name.familiar_name
    remote = source.choose(name, platform, known=known)
    config = remote.manifest.config
    if config is None:
        raise ArchiveError(label, "the manifest names no config")
    if config.media_type not in CONFIG_MEDIA_TYPES:
        raise ArchiveError(
            label,
            f"it is no image but {config.media_type[:100] or 'something without a type'}",
            hint="Charts, signatures and other artifacts in registries cannot be run",
        )
    get = get_config or source.get_small_blob
    content = get(name, config, maximum_bytes=MAXIMUM_CONFIG_BYTES)
    document = decode_config(content, label)
    if platform_rank(document.platform, platform) is None:
        raise platform_mismatch(label, (str(document.platform),), platform)
    return ImageInRegistry(
        name=name,
        named_digest=remote.named.digest,
        manifest_digest=remote.document.digest,
        manifest=remote.document.content,
        image_id=ImageId(config.digest),
        config=content,
        document=document,
        layers=_layers(label, remote.manifest.layers or (), document),
        platforms=remote.platforms or (str(document.platform),),
    )


def _layers(
    label: str, descriptors: tuple[Descriptor, ...], document: ImageDocument
) -> tuple[PullLayer, ...]:
    diff_ids = document.diff_ids
    if len(diff_ids) != len(descriptors):
        raise ArchiveError(
            label,
            f"its manifest has {len(descriptors)} layers and its config {len(diff_ids)}",
        )
    sizes: dict[str, int] = {}
    for descriptor in descriptors:
        if descriptor.media_type not in LAYER_COMPRESSION:
            raise ArchiveError(
                label, f"a layer has a type that is not known: {descriptor.media_type[:100]!r}"
            )
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ArchiveError(label, f"blob {descriptor.digest} has two sizes")
    return tuple(
        PullLayer(
            diff_id=diff_id,
            chain_id=chain_id,
            blob=LayerBlob(
                digest=Digest(descriptor.digest),
                media_type=descriptor.media_type,
                size_bytes=descriptor.size,
            ),
            descriptor=descriptor,
        )
        for diff_id, chain_id, descriptor in zip(
            diff_ids, chain_ids(diff_ids), descriptors, strict=True
        )
    )
