"""`--squash`: one layer in place of all that a build has made, as the last of its steps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from engine.build.keys import StepInputs
from engine.build.solver import StepResult
from engine.snapshots.squashing import SquashArguments

if TYPE_CHECKING:
    from engine.build.layers import LayerDraft, LayerStack, LayerWorkshop
    from engine.build.solver import StepContext
    from engine.types import ChainId


class PreparedSquash:
    """Layers that are to be one."""

    def __init__(
        self,
        workshop: LayerWorkshop,
        context: StepContext,
        layers: LayerStack,
        *,
        top: ChainId,
        uses_user_xattrs: bool,
    ) -> None:
        """Prepare; nothing happens yet.

        Args:
            workshop: Makes layers.
            context: Its stack is what the layer will stand on.
            layers: What it is made of, bottom first.
            top: Chain id of the last of them, which says what all of them are.
            uses_user_xattrs: Mark opaque directories by `user.` attributes.
        """
        self._workshop = workshop
        self._stack = context.stack
        self._layers = layers
        self._uses_user_xattrs = uses_user_xattrs
        self.inputs = StepInputs(kind="SQUASH", files=top)

    async def listed_inputs(self) -> StepInputs:
        """As PreparedStep: the layers that it is made of list their files."""
        return self.inputs

    def skip(self) -> None:
        """As PreparedStep: nothing waits for it."""

    def warm_up(self) -> None:
        """As PreparedStep: the process that seals does the work."""

    async def run(self, draft: LayerDraft) -> StepResult:
        """As PreparedStep."""
        directory = os.open(draft.layer_directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            async with self._workshop.places.reading():
                arguments = SquashArguments(
                    label="the layer of --squash",
                    lower_paths=tuple(layer.diff for layer in reversed(self._stack)),
                    squashed_paths=tuple(layer.diff for layer in self._layers),
                    uses_user_xattrs=self._uses_user_xattrs,
                    epoch_ns=self._workshop.epoch_ns,
                )
                await self._workshop.run_job(
                    "squash-layers", msgspec.json.encode(arguments), descriptors=(directory,)
                )
        finally:
            os.close(directory)
        return StepResult()
