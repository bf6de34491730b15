"""What the engine's thread tells the interface, and the message that announces it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from textual.message import Message

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.events import Event
    from engine.operations import Progress
    from engine.types import (
        ContainerStats,
        ContainerSummary,
        DiskUsage,
        HostReport,
        ImageSummary,
        LayerTransfer,
        WritableLayer,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOpened:
    """The store is open."""

    host: HostReport


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFailed:
    """The engine did not open, or its thread ended; nothing works until it is opened again."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesChanged:
    """The whole image list, newest first."""

    images: tuple[ImageSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersChanged:
    """The whole container list, newest first."""

    containers: tuple[ContainerSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumesTouched:
    """Something happened to volumes, or to who uses them: a list of them is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworksTouched:
    """Something happened to networks, or to who is in them: a list of them is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageChanged:
    """What the store occupies."""

    usage: DiskUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsSampled:
    """One sample of each container that the interface asked to watch."""

    samples: tuple[ContainerStats, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableLayerMeasured:
    """The writable layer of the container that the interface asked to measure."""

    layer: WritableLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvent:
    """The newest event of one container."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationProgress:
    """How far a long call has come."""

    operation_id: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far one layer of a pull or push has come."""

    operation_id: int
    position: int
    """Of the layer, in the order in which they were first told of."""
    transfer: LayerTransfer


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTold:
    """A build of this application has told something; its funnel has it."""

    key: str
    """Of the build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFailed:
    """Reading the state failed; what is shown may be old."""

    message: str
    hint: str


EngineState: TypeAlias = (
    EngineOpened
    | EngineFailed
    | ImagesChanged
    | ContainersChanged
    | VolumesTouched
    | NetworksTouched
    | UsageChanged
    | StatsSampled
    | WritableLayerMeasured
    | ContainerEvent
    | OperationProgress
    | TransferProgress
    | BuildTold
    | WatchFailed
)


class StateArrived(Message):
    """Newer state waits in the bridge; drain it."""
