"""What images occupy, with the layers that they share counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.types import ImageUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.store.image_records import LayerUse
    from engine.types import ChainId, ImageSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesUsage:
    """What all images occupy together, and each of them."""

    images: tuple[ImageUsage, ...]
    layers_bytes: int
    unused_layers_bytes: int


def usage_of_images(
    images: Iterable[ImageSummary], uses: Iterable[LayerUse], *, layers_bytes: int
) -> ImagesUsage:
    """Tell what is shared: a layer is, when more than one image has it.

    Args:
        images: Every image.
        uses: Which image has which layer.
        layers_bytes: Of all layers, also of those that only a container has.
    """
    sizes: dict[ChainId, int] = {}
    layers_of: dict[str, set[ChainId]] = {}
    for use in uses:
        sizes[use.chain_id] = use.size_bytes
        layers_of.setdefault(use.image_id, set()).add(use.chain_id)
    counts = Counter(chain_id for layers in layers_of.values() for chain_id in layers)
    found: list[ImageUsage] = []
    unused = set(sizes)
    for image in images:
        layers = layers_of.get(image.image_id, set())
        shared = sum(sizes[chain_id] for chain_id in layers if counts[chain_id] > 1)
        own = sum(sizes[chain_id] for chain_id in layers if counts[chain_id] == 1)
        found.append(ImageUsage(image=image, shared_bytes=shared, own_bytes=own))
        if image.container_count:
            unused -= layers
    return ImagesUsage(
        images=tuple(found),
        layers_bytes=layers_bytes,
        unused_layers_bytes=sum(sizes[chain_id] for chain_id in unused),
    )
