"""What is written to and read from archives."""

from __future__ import annotations

from enum import StrEnum

from engine.late_dataclasses import dataclass
from engine.types.identity import ImageId


class Compression(StrEnum):
    """How bytes are packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class ArchiveFormat(StrEnum):
    """What an image archive looks like; the words are Podman's."""

    DOCKER_ARCHIVE = "docker-archive"
    """A tar that Docker and everything else reads: an OCI layout with a manifest.json besides."""
    OCI_ARCHIVE = "oci-archive"
    """A tar of an OCI layout."""
    OCI_DIRECTORY = "oci-dir"
    """An OCI layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How images are written to an archive."""

    format: ArchiveFormat = ArchiveFormat.DOCKER_ARCHIVE
    layer_compression: Compression | None = None
    """None leaves layers as they are here: as they were pulled in OCI's formats, else plain."""
    archive_compression: Compression = Compression.NONE
    """Of the archive as a whole."""
    platform: str = ""
    """`linux/arm64`: what each image must be for; empty for whatever they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedArchive:
    """An archive that was written."""

    image_ids: tuple[ImageId, ...]
    """As the archive has them, in order."""
    layer_count: int
    """Each layer counted once."""
    size_bytes: int
    """Of the archive."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What the image looks like that a root filesystem is made into."""

    name: str | None = None
    """Repository with or without a tag; None leaves the image without a name."""
    message: str = ""
    """The history's comment; empty for Docker's own words."""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions that change the config, such as `CMD ["sh"]`."""
    platform: str = ""
    """`linux/arm64`; empty is this host's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedImage:
    """An image that was made of a root filesystem."""

    image_id: ImageId
    name: str | None
    """The familiar name with tag."""
    size_bytes: int
    """Unpacked."""
    entry_count: int
    warnings: tuple[str, ...] = ()
