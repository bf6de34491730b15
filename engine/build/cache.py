"""The cache of a build: steps by their inputs and what they stand on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.build.keys import decode_inputs, step_key
from engine.build.why import compare, first_build, gone, parent_changed, unused
from engine.late_dataclasses import dataclass
from engine.store.build_records import BuildStepRecord
from engine.types import CacheOutcome, CacheVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.build.keys import StepInputs
    from engine.build.layers import BuildLayer
    from engine.images.catalog import StoreCatalog
    from engine.store.build_records import BuildRecords
    from engine.store.image_records import ImageRecords, LayerRecord
    from engine.types import ChainId


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHit:
    """What there is of a step already.

    Attributes:
        layer: None if the step adds nothing.
    """

    layer: LayerRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlace:
    """Where a step stands, for comparison with earlier builds.

    Attributes:
        place: Dockerfile, stage and number.
        text: The instruction.
    """

    place: str
    text: str


class BuildCache:
    """What earlier builds have left, for one build."""

    def __init__(self, records: BuildRecords, images: ImageRecords, catalog: StoreCatalog) -> None:
        """Look into a store; what is found is kept from removal by the catalog's claims."""
        self._records = records
        self._images = images
        self._catalog = catalog
        self._used: list[str] = []

    async def look(self, inputs_digest: str, parent: BuildLayer | None) -> CacheHit | None:
        """Find what the same step on the same files has made.

        Waits for the parent only if there is anything to hope for.

        Raises:
            EngineError: The parent could not be made.
        """
        if parent is not None and not parent.is_in_place:
            # It is being read for its diff id, and the next step could run meanwhile.
            if not await self._records.has_inputs(inputs_digest):
                return None
            await parent.chain_id()
        parent_chain_id = "" if parent is None else parent.known_chain_id
        record = await self._records.find_by_content(inputs_digest, parent_chain_id)
        if record is None:
            return None
        if record.is_empty or record.chain_id is None:
            self._used.append(record.step_key)
            return CacheHit(layer=None)
        if record.chain_id not in await self._catalog.find_layers((record.chain_id,)):
            return None
        layer = await self._images.find_layer(record.chain_id)
        if layer is None:
            return None
        self._used.append(record.step_key)
        return CacheHit(layer=layer)

    async def earlier_result(self, inputs_digest: str, parent: BuildLayer | None) -> ChainId | None:
        """The layer that the same step on the same files has made before; None for none."""
        parent_chain_id = "" if parent is None else await parent.chain_id()
        record = await self._records.find_by_content(inputs_digest, parent_chain_id)
        return None if record is None or record.is_empty else record.chain_id

    async def explain(
        self,
        inputs: StepInputs,
        parent: BuildLayer | None,
        where: StepPlace,
        *,
        is_used: bool = True,
    ) -> CacheVerdict:
        """Why a step has to be run."""
        if not is_used:
            return unused()
        nearest = await self._records.find_nearest(where.place, where.text)
        before = None if nearest is None else decode_inputs(nearest.inputs)
        if nearest is None or before is None:
            return first_build(where.text)
        known = parent is None or parent.is_in_place
        parent_chain_id = "" if parent is None or not known else parent.known_chain_id
        is_other_parent = not known or nearest.parent_chain_id != parent_chain_id
        if before.digest == inputs.digest and not is_other_parent:
            return gone()
        reason = parent_changed("what it stands on") if is_other_parent else None
        return compare(before, inputs, reason)

    async def record(
        self,
        inputs: StepInputs,
        where: StepPlace,
        *,
        parent_chain_id: ChainId | None,
        layer: LayerRecord | None,
        seconds: float,
    ) -> None:
        """Write down what a step has made; its layer, if any, has its place."""
        now = time.time()
        digest = inputs.digest
        chain_id = parent_chain_id if layer is None else layer.chain_id
        await self._records.insert(
            BuildStepRecord(
                step_key=step_key(parent_chain_id or "", digest),
                inputs_digest=digest,
                parent_chain_id=parent_chain_id or "",
                chain_id=chain_id,
                is_empty=layer is None,
                place=where.place,
                text=where.text,
                inputs=inputs.encode(),
                created_at=now,
                used_at=now,
                use_count=0,
                seconds=seconds,
            ),
            layer,
            holder=self._catalog.begin_claims(),
        )

    async def note_uses(self, *, synced: Iterable[ChainId] = ()) -> None:
        """Write down which entries have served this build, and what is on the disk now."""
        used, self._used = self._used, []
        await self._records.note_use(used, at=time.time(), synced=synced)


HIT = CacheVerdict(outcome=CacheOutcome.HIT)
