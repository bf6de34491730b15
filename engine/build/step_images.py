"""Images without a name of what there is after a step, to look around in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.build.images import FinishedStage, describe_image, scratch_base
from engine.build.layers import BuildLayer
from engine.build.steps import HistoryItem
from engine.errors import BuildNotFoundError
from engine.images.commits import sync_staging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.build.builder import BuildServices
    from engine.build.layers import LayerWorkshop
    from engine.build.solver import FailedStep
    from engine.images.building import BuildHold
    from engine.oci.documents import ConfigSection
    from engine.types import ChainId, ImageId


async def keep_failed_step(
    services: BuildServices, hold: BuildHold, workshop: LayerWorkshop, failed: FailedStep
) -> ImageId:
    """Make an image of what a failed step has written.

    Raises:
        EngineError: It cannot be read, or the disk is full.
    """
    for layer in failed.stack:
        await layer.chain_id()
    layers = [*failed.stack]
    has_changes = await workshop.settle(
        failed.draft,
        failed.stack,
        label=failed.text,
        started_at_ns=failed.result.started_at_ns,
        mounted_on=failed.result.mounted_on,
    )
    if has_changes:
        sealed = await workshop.digest(failed.draft, label=failed.text)
        layer = BuildLayer(failed.draft.layer_directory)
        async with services.images.lock.shared():
            parent = failed.stack[-1] if failed.stack else None
            record = await workshop.put_into_place(failed.draft, layer, parent, sealed)
            await hold.catalog.keep_placed(record)
        workshop.placed(layer, record.chain_id)
        layers.append(layer)
    return await publish_layers(services, hold, failed.config, layers, text=failed.text)


async def make_step_image(
    services: BuildServices, chain_id: ChainId | None, config: ConfigSection, *, text: str
) -> ImageId:
    """Make an image of the layers that a step has left.

    Raises:
        BuildNotFoundError: One of them was removed.
    """
    async with services.images.hold() as hold:
        layers: list[BuildLayer] = []
        if chain_id is not None:
            if chain_id not in await hold.catalog.find_layers((chain_id,)):
                raise BuildNotFoundError(f"the layer of {text} was removed")
            following: ChainId | None = chain_id
            while following is not None:
                record = await services.images.records.find_layer(following)
                if record is None:
                    raise BuildNotFoundError(f"the layer of {text} was removed")
                layers.insert(0, BuildLayer.of_store(services.images.config, record))
                following = record.parent_chain_id
        return await publish_layers(services, hold, config, layers, text=text)


async def publish_layers(
    services: BuildServices,
    hold: BuildHold,
    config: ConfigSection,
    layers: Sequence[BuildLayer],
    *,
    text: str,
) -> ImageId:
    """Record an image of layers that are in place."""
    stage = FinishedStage(
        base=scratch_base(),
        config=config,
        author="",
        history=tuple(HistoryItem(created_by=text, makes_layer=True) for _layer in layers),
        made_layer=(True,) * len(layers),
        layers=layers,
    )
    image = await asyncio.to_thread(describe_image, stage, names=(), labels=(), created_at=0.0)
    unsynced = await services.records.unsynced(layer.known_chain_id for layer in layers)
    if unsynced:
        await asyncio.to_thread(sync_staging, services.images.config.layers_directory)
    await hold.catalog.keep((image.image_id, image.manifest_digest))
    await hold.catalog.publish((image,), ())
    return image.image_id
