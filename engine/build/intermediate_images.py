"""Images without a name of what there was after each step: `images -a` shows them.

They are recorded when somebody first asks for them, as their documents, each on the disk for
certain, would take longer than most steps do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from engine.build.images import encode_image, read_base
from engine.oci.documents import RootFsDocument

if TYPE_CHECKING:
    from engine.build.builder import BuildServices
    from engine.build.images import BaseImage
    from engine.images.archive_documents import NewImage
    from engine.store.image_records import ImageRecord
    from engine.types import ChainId


async def record_intermediate_images(services: BuildServices) -> None:
    """Record an image for each layer that a build here has made and a named image stands on.

    Raises:
        EngineError: The store cannot be read or written.
    """
    records = services.images.records
    made = await services.records.made_layers()
    known = {image.image_id for image in await records.list_images()}
    seen: set[ChainId] = set()
    async with services.images.hold() as hold:
        for listed in await records.list_images():
            if not listed.names:
                continue
            record = await services.images.find(hold, listed.image_id)
            if record is None:
                continue
            wanted = [
                count
                for count, part in enumerate(record.layers[:-1], 1)
                if part.layer.chain_id in made and part.layer.chain_id not in seen
            ]
            seen.update(record.layers[count - 1].layer.chain_id for count in wanted)
            images = await asyncio.to_thread(_cut, services, record, wanted)
            new = tuple(image for image in images if image.image_id not in known)
            if new:
                await hold.catalog.keep(
                    [digest for one in new for digest in (one.image_id, one.manifest_digest)]
                )
                await hold.catalog.publish(new, ())


def _cut(services: BuildServices, record: ImageRecord, counts: list[int]) -> list[NewImage]:
    """An image up to some of its layers; blocking."""
    if not counts:
        return []
    whole = read_base(record.image_id, record, services.images.blobs)
    return [_until(whole, count) for count in counts]


def _until(whole: BaseImage, count: int) -> NewImage:
    document = whole.document
    history = []
    left = count
    for item in whole.history:
        if not left:
            break
        history.append(item)
        left -= not item.empty_layer
    cut = msgspec.structs.replace(
        document,
        created=history[-1].created,
        rootfs=RootFsDocument(type="layers", diff_ids=document.diff_ids[:count]),
        history=tuple(history),
    )
    return encode_image(cut, whole.layers[:count], names=())
