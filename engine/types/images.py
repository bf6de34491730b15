"""Images and their layers."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types.identity import ChainId, DiffId, Digest, ImageId
from engine.types.lifecycle import HealthCheck

FIRST_IMAGES_AT = 1_363_132_800.0
"""13 March 2013. An image that says it is older has a time that was fixed, to be the same anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """One row of the image list; an image with two names is one record."""

    image_id: ImageId
    names: tuple[str, ...]
    """Familiar names with tag, such as `web:latest`; empty for a dangling image."""
    created_at: float | None
    size_bytes: int
    """Sum of its layers, unpacked."""
    layer_count: int
    container_count: int
    digest: Digest | None = None
    """Of the manifest."""
    labels: tuple[tuple[str, str], ...] = ()
    is_intermediate: bool = False
    """It has no name, and another image stands on all of its layers."""
    platform: str = ""
    """`linux/amd64`, as its config says."""
    kept_bytes: int = 0
    """Of its compressed layers that are kept besides."""
    added_at: float = 0.0
    """When it came into this store."""

    @property
    def made_at(self) -> float:
        """When it was made; of a reproducible one, which does not say, when it came here."""
        created_at = self.created_at or 0.0
        return created_at if created_at >= FIRST_IMAGES_AT else self.added_at


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSummary:
    """One step of an image's history, oldest first; not every step made a layer."""

    position: int
    """0 is the bottom. Counts history steps, also the empty ones."""
    created_by: str
    created_at: float | None
    comment: str
    is_empty: bool
    """The step changed only the config; the fields below are None or 0."""
    diff_id: DiffId | None
    chain_id: ChainId | None
    size_bytes: int
    entry_count: int
    shared_image_count: int
    """How many images here have this layer (by chain id), this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says about the containers made of it (OCI image-spec, config.md)."""

    user: str = ""
    environment: tuple[str, ...] = ()
    """`NAME=value`, in order."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health_check: HealthCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetails:
    """Everything about one image."""

    summary: ImageSummary
    digest: Digest
    """Of the manifest."""
    operating_system: str
    architecture: str
    author: str
    config: ImageConfig
    layers: tuple[LayerSummary, ...]
    """Oldest first, empty steps included."""
    config_json: str
    """The config document, indented for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedImage:
    """One image that an archive held."""

    image_id: ImageId
    names: tuple[str, ...]
    was_present: bool
    warnings: tuple[str, ...] = ()
    """What the host could not make as its new layers have it, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImage:
    """What removing an image did."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    """Image id and chain ids that are gone."""
    freed_bytes: int
