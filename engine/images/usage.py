"""What images occupy, with the layers that they share counted once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import ImageUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.store.image_records import LayerUse
    from engine.types import ImageSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesUsage:
    """What all images occupy together, and each of them.

    Attributes:
        images: Each; unpacked layers and the compressed ones that are kept.
        layers_bytes: Of all layers, each counted once.
        unused_layers_bytes: Of the layers that no container stands on.
        unused_blobs_bytes: Of the compressed layers that are kept for images without a container.
    """

    images: tuple[ImageUsage, ...]
    layers_bytes: int
    unused_layers_bytes: int
    unused_blobs_bytes: int


def usage_of_images(
    images: Iterable[ImageSummary], uses: Iterable[LayerUse], *, layers_bytes: int
) -> ImagesUsage:
    """Tell what is shared: a layer or a blob is, when more than one image has it.

    Args:
        images: Every image.
        uses: Which image has which layer.
        layers_bytes: Of all layers, also of those that only a container has.
    """
    layers, blobs = _Parts(), _Parts()
    for use in uses:
        layers.add(use.image_id, use.chain_id, use.size_bytes)
        if use.blob_digest is not None:
            blobs.add(use.image_id, use.blob_digest, use.blob_size_bytes)
    found: list[ImageUsage] = []
    used: list[str] = []
    for image in images:
        parts = [kind.shared_and_own(image.image_id) for kind in (layers, blobs)]
        shared, own = (sum(sizes) for sizes in zip(*parts, strict=True))
        found.append(ImageUsage(image=image, shared_bytes=shared, own_bytes=own))
        if image.container_count:
            used.append(image.image_id)
    return ImagesUsage(
        images=tuple(found),
        layers_bytes=layers_bytes,
        unused_layers_bytes=layers.bytes_besides(used),
        unused_blobs_bytes=blobs.bytes_besides(used),
    )


class _Parts:
    """Layers, or blobs: how large each is, and which image has which."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._of_images: dict[str, set[str]] = {}
        self._image_counts: Counter[str] = Counter()

    def add(self, image_id: str, digest: str, size_bytes: int) -> None:
        """Note that an image has one; the same twice counts once."""
        self._sizes[digest] = size_bytes
        of_image = self._of_images.setdefault(image_id, set())
        if digest not in of_image:
            of_image.add(digest)
            self._image_counts[digest] += 1

    def shared_and_own(self, image_id: str) -> tuple[int, int]:
        """Bytes that other images have as well, and bytes that only this one has."""
        shared = own = 0
        for digest in self._of_images.get(image_id, ()):
            if self._image_counts[digest] > 1:
                shared += self._sizes[digest]
            else:
                own += self._sizes[digest]
        return shared, own

    def bytes_besides(self, image_ids: Iterable[str]) -> int:
        """Bytes that none of some images has."""
        kept = set().union(*(self._of_images.get(image_id, ()) for image_id in image_ids))
        return sum(size for digest, size in self._sizes.items() if digest not in kept)
