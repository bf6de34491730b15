"""Whether the layers of a store are what their records say, several at a time in one worker."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.images.catalog import layer_directory
from engine.late_dataclasses import dataclass
from engine.operations import Progress
from engine.snapshots.verification import (
    VerifiedLayer,
    VerifyArguments,
    VerifyProgress,
    VerifyResult,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from engine.config import EngineConfig
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.store.image_records import LayerRecord

_LAYERS_A_WORKER = 64
"""A process takes longer to start than most layers to be read; one frame takes 128 descriptors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFinding:
    """What a layer is found to be.

    Attributes:
        is_missing: It has no directory.
        difference_count: How much is not as it should be; 0 of a layer that is whole.
        differences: The first of them, a sentence each.
        read_bytes: How much of its files was read.
    """

    is_missing: bool = False
    difference_count: int = 0
    differences: tuple[str, ...] = ()
    read_bytes: int = 0


class LayerVerifier:
    """Reads layers, and compares them with their records."""

    def __init__(
        self, *, config: EngineConfig, runner: JobRunner, progress: ProgressListener
    ) -> None:
        """For one store; `progress` hears which layer of how many is read."""
        self._config = config
        self._runner = runner
        self._progress = progress

    async def verify(
        self, layers: Sequence[LayerRecord]
    ) -> AsyncIterator[tuple[LayerRecord, LayerFinding]]:
        """Each layer, in this order, and what it is found to be.

        Raises:
            EngineError: The worker was killed, or cannot be had.
        """
        for first in range(0, len(layers), _LAYERS_A_WORKER):
            batch = layers[first : first + _LAYERS_A_WORKER]
            findings = await self._verify_batch(batch, first, len(layers))
            for layer, finding in zip(batch, findings, strict=True):
                yield layer, finding

    async def _verify_batch(
        self, layers: Sequence[LayerRecord], first: int, total: int
    ) -> list[LayerFinding]:
        findings: dict[int, LayerFinding] = {}
        descriptors: dict[int, int] = {}
        with contextlib.ExitStack() as stack:
            for position, layer in enumerate(layers):
                opened = _open(layer_directory(self._config, layer.chain_id))
                if isinstance(opened, LayerFinding):
                    findings[position] = opened
                else:
                    stack.callback(os.close, opened)
                    descriptors[position] = opened
            positions = tuple(descriptors)
            if positions:
                results = await self._run(
                    [layers[position] for position in positions],
                    tuple(descriptors.values()),
                    tuple(f"{first + position + 1} of {total}" for position in positions),
                )
                for position, result in zip(positions, results, strict=True):
                    findings[position] = _compared(layers[position], result)
        return [findings[position] for position in range(len(layers))]

    async def _run(
        self, layers: Sequence[LayerRecord], descriptors: tuple[int, ...], numbers: tuple[str, ...]
    ) -> list[VerifyResult]:
        def on_progress(message: bytes) -> None:
            told = msgspec.json.decode(message, type=VerifyProgress)
            self._progress(
                Progress(
                    step=f"Verifying layer {numbers[told.position]}",
                    done=told.done,
                    total=told.total or None,
                    unit="bytes",
                )
            )

        arguments = VerifyArguments(
            layers=tuple(
                VerifiedLayer(label=layer.chain_id[7:19], diff_id=layer.diff_id) for layer in layers
            )
        )
        answer = await self._runner.run_job(
            "verify-layers",
            msgspec.json.encode(arguments),
            descriptors=descriptors,
            on_progress=on_progress,
        )
        return msgspec.json.decode(answer, type=list[VerifyResult])


def _open(directory: os.PathLike[str]) -> int | LayerFinding:
    """A descriptor of a layer's directory, or what is wrong with it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(directory, flags)
    except FileNotFoundError:
        return LayerFinding(is_missing=True, difference_count=1)
    except OSError as error:
        text = f"its directory cannot be opened: {error.strerror}"
        return LayerFinding(difference_count=1, differences=(text,))


def _compared(layer: LayerRecord, result: VerifyResult) -> LayerFinding:
    is_recorded = (result.size_bytes, result.entry_count) == (layer.size_bytes, layer.entry_count)
    if not result.difference_count and not is_recorded:
        return LayerFinding(
            difference_count=1,
            differences=("its file list is not the one that was recorded",),
            read_bytes=result.read_bytes,
        )
    return LayerFinding(
        difference_count=result.difference_count,
        differences=result.differences,
        read_bytes=result.read_bytes,
    )
