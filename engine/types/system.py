"""The store as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types.labels import matches_labels

if TYPE_CHECKING:
    from engine.types.containers import ContainerSummary
    from engine.types.identity import ContainerId
    from engine.types.images import ImageSummary
    from engine.types.volumes import VolumeSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What the store occupies."""

    layers_bytes: int
    containers_bytes: int
    blobs_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.layers_bytes + self.containers_bytes + self.blobs_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUsage:
    """What one image occupies: what others have too, and what only it has.

    Unpacked layers, and the compressed ones that are kept.
    """

    image: ImageSummary
    shared_bytes: int
    own_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """What one container's writable layer occupies."""

    container: ContainerSummary
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUsage:
    """What one volume's files occupy."""

    volume: VolumeSummary
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsageDetails:
    """What everything in the store occupies, one by one."""

    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    layers_bytes: int
    """Of all layers, each counted once."""
    unused_layers_bytes: int
    """Of the layers that no container stands on."""
    blobs_bytes: int
    """Of documents, and of the compressed layers that are kept."""
    unused_blobs_bytes: int = 0
    """Of the compressed layers of images that have no container."""

    @property
    def images_bytes(self) -> int:
        """All that images occupy."""
        return self.layers_bytes + self.blobs_bytes

    @property
    def reclaimable_images_bytes(self) -> int:
        """What a prune of all images without a container would free."""
        return self.unused_layers_bytes + self.unused_blobs_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneFilter:
    """Which of the things that nobody uses a prune means.

    Attributes:
        created_before: Only those made before this time; None is all.
        label_filters: `key` or `key=value`, all of them; with a `!` the label must be missing.
    """

    created_before: float | None = None
    label_filters: tuple[str, ...] = ()

    def means(self, *, created_at: float, labels: tuple[tuple[str, str], ...]) -> bool:
        """Whether it means a thing that was made then and has these labels."""
        is_old = self.created_before is None or created_at < self.created_before
        return is_old and matches_labels(labels, self.label_filters)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedContainers:
    """What a prune removed."""

    container_ids: tuple[ContainerId, ...]
    freed_bytes: int
