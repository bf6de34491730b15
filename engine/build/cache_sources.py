"""`--cache-from`: the layers of an image, in place of steps that would make them again.

An image says of its layers which instruction has made each, and no more. So a RUN is taken on its
word: the same words on the same layers, after the same instructions as far as they reach a program.
What COPY, ADD and WORKDIR make is made anyway, and compared: the same files, but for times, are the
image's layer, and what stands on that can be found in turn. Nothing of this is written down, so
that it serves no build which does not name the image. Who made it is trusted as the maker of a base
is: what its history calls `RUN make` may have come from anywhere, as with Docker's first builder.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.build.cache import CacheHit
from engine.build.steps import RunStep
from engine.errors import StoreError
from engine.images.catalog import layer_directory
from engine.late_dataclasses import dataclass
from engine.snapshots.base import INDEX_NAME
from engine.snapshots.index import is_same, read_index

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.build.images import BaseImage
    from engine.build.layers import BuildLayer
    from engine.build.plan import StagePlan
    from engine.build.steps import StageStep
    from engine.config import EngineConfig
    from engine.store.image_records import LayerRecord

_UNSEEN = (
    "ARG", "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "STOPSIGNAL", "VOLUME",
)  # fmt: skip
"""Instructions that no program of a step sees; the values of ARG are in the text of RUN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An image whose layers may be taken.

    Attributes:
        history: Instructions that a program sees, or that made a layer, each with its layer.
        layers: Bottom first.
    """

    history: tuple[tuple[str, LayerRecord | None], ...]
    layers: tuple[LayerRecord, ...]


class CacheSources:
    """The images that a build may take layers of."""

    def __init__(self, config: EngineConfig, images: Iterable[BaseImage]) -> None:
        """Take images of the store, which are kept from removal for as long as this is used."""
        self._config = config
        self._sources = tuple(_read(image) for image in images if image.record is not None)

    def find(self, stage: StagePlan, step: StageStep, parent: BuildLayer | None) -> CacheHit | None:
        """What a RUN has made in one of the images; None if none had it on the same layers."""
        if not self._sources or not isinstance(step, RunStep) or not _says_all(step):
            return None
        if parent is not None and not parent.is_in_place:
            # It was made just now, and what is new is in no image.
            return None
        own = _history_until(stage, step)
        parent_chain_id = None if parent is None else parent.known_chain_id
        for source in self._sources:
            if tuple(text for text, _layer in source.history[: len(own)]) != own:
                continue
            below = [layer for _text, layer in source.history[: len(own) - 1] if layer]
            if (below[-1].chain_id if below else None) != parent_chain_id:
                continue
            return CacheHit(layer=source.history[len(own) - 1][1])
        return None

    async def alike(self, layer: Path, parent: BuildLayer | None) -> LayerRecord | None:
        """The layer of an image that has the same files as one that was made, on the same layers.

        Args:
            layer: Directory of what was made.
            parent: What it stands on.
        """
        if not self._sources or (parent is not None and not parent.is_in_place):
            return None
        parent_chain_id = None if parent is None else parent.known_chain_id
        for source in self._sources:
            for record in source.layers:
                if record.parent_chain_id == parent_chain_id and await asyncio.to_thread(
                    _is_alike, layer, layer_directory(self._config, record.chain_id)
                ):
                    return record
        return None


def _read(image: BaseImage) -> _Source:
    assert image.record is not None
    layers = tuple(part.layer for part in image.record.layers)
    following = iter(layers)
    history = []
    for item in image.history:
        layer = None if item.empty_layer else next(following, None)
        text = item.created_by or ""
        if layer is not None or _is_seen(text):
            history.append((text, layer))
    return _Source(history=tuple(history), layers=layers)


def _history_until(stage: StagePlan, step: RunStep) -> tuple[str, ...]:
    """What a source must have said, up to a step of a stage."""
    count = len(stage.history) - len(stage.state.history) + step.origin.history + 1
    below = [(item.created_by or "", not item.empty_layer) for item in stage.base.history]
    own = [(item.created_by, item.makes_layer) for item in stage.history[:count]]
    return tuple(text for text, has_files in (*below, *own) if has_files or _is_seen(text))


def _is_seen(text: str) -> bool:
    return text.partition(" ")[0] not in _UNSEEN


def _says_all(step: RunStep) -> bool:
    """Whether the history has everything of a step that can make a difference to its files."""
    has_files = step.scripts or any(mount.kind == "bind" for mount in step.mounts)
    return not has_files and step.network == "default"


def _is_alike(made: Path, given: Path) -> bool:
    try:
        one, other = (read_index(str(layer / INDEX_NAME)) for layer in (made, given))
    except (StoreError, FileNotFoundError):
        return False
    first = [entry for entry in one.entries if entry.path]
    second = [entry for entry in other.entries if entry.path]
    return len(first) == len(second) and all(
        mine.path == its.path and mine.is_opaque == its.is_opaque and is_same(mine, its)
        for mine, its in zip(first, second, strict=True)
    )
