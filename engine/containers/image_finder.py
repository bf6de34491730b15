"""From what a person calls an image to what a container needs to know of it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Protocol

from engine.containers.services import ContainerImage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from engine.types import ImageDetails

_SHORT_ID_DIGITS = 12
_ID_BEGINNING = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")


class ImageInspector(Protocol):
    """Looks images up, and keeps them while they are needed."""

    def keep_layers(self) -> AbstractAsyncContextManager[None]:
        """Keep every image and layer that is found in the block until it ends."""

    async def inspect(self, reference: str) -> ImageDetails:
        """Find one by name, digest, id or the beginning of its id.

        Raises:
            ImageNotFoundError: There is none.
        """


@contextlib.asynccontextmanager
async def hold_container_image(
    images: ImageInspector, reference: str
) -> AsyncIterator[ContainerImage]:
    """Find the image that a container is to be made of; its layers stay while the block lasts.

    Raises:
        ImageNotFoundError: There is none.
    """
    async with images.keep_layers():
        details = await images.inspect(reference)
        yield ContainerImage(
            image_id=details.summary.image_id,
            name=_name_of(details, reference),
            config=details.config,
            layers=tuple(layer.chain_id for layer in details.layers if layer.chain_id is not None),
        )


def _name_of(details: ImageDetails, reference: str) -> str:
    """The name that was meant; for an id a name if the image has just one, else a short id."""
    names = details.summary.names
    for name in (reference, f"{reference}:latest"):
        if name in names:
            return name
    is_id = _ID_BEGINNING.fullmatch(reference) is not None
    if names and (not is_id or len(names) == 1):
        return names[0]
    return details.summary.image_id.removeprefix("sha256:")[:_SHORT_ID_DIGITS]
