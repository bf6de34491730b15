"""Records that cross the engine's boundary: frozen, and free of behaviour beyond small look-ups.

Texts in these records come from images and containers and may hold anything; whoever draws them
sanitises them first. Paths inside an image are `str` decoded with `surrogateescape`, without a
leading slash. Sizes are bytes, times are seconds since the epoch (UTC) unless the name says more.

A record is loaded when it is first used: a command needs few of them, and making a class takes its
time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deferred import deferred_names

if TYPE_CHECKING:
    from engine.types.archives import (
        ArchiveFormat,
        Compression,
        ImportedImage,
        ImportRequest,
        SavedArchive,
        SaveOptions,
    )
    from engine.types.containers import (
        ContainerDetails,
        ContainerRequest,
        ContainerStats,
        ContainerSummary,
        ContainerUpdate,
        CreatedContainer,
        ExitStatus,
        LogLine,
        ProcessInfo,
        ResourceLimits,
    )
    from engine.types.copies import CommitRequest, CommittedImage, CopyOptions, CopyResult
    from engine.types.files import (
        MAXIMUM_VIEWED_BYTES,
        FileContent,
        FileEntry,
        FileTree,
        LayerChange,
        WritableLayer,
    )
    from engine.types.host import HostFeature, HostReport
    from engine.types.identity import (
        ChainId,
        ChangeKind,
        ContainerId,
        ContainerStatus,
        DiffId,
        Digest,
        FileKind,
        ImageId,
        OutputStream,
    )
    from engine.types.images import (
        ImageConfig,
        ImageDetails,
        ImageSummary,
        LayerSummary,
        LoadedImage,
        RemovedImage,
    )
    from engine.types.labels import matches_labels
    from engine.types.lifecycle import ContainerHealth, HealthCheck, HealthProbe, RestartPolicy
    from engine.types.mounts import MountPoint, MountRequest
    from engine.types.options import DeviceRequest, ProcessOptions, Ulimit
    from engine.types.registry import (
        FoundImage,
        LayerTransfer,
        LoginResult,
        PulledImage,
        PushedImage,
        RemoteImage,
        RemoteLayer,
        TransferListener,
        TransferStatus,
        ignore_transfers,
    )
    from engine.types.sessions import ExecRequest, SessionOutput, TerminalSize
    from engine.types.store import ProblemKind, StoreCheck, StoreProblem
    from engine.types.system import (
        ContainerUsage,
        DiskUsage,
        DiskUsageDetails,
        ImageUsage,
        PrunedContainers,
        PruneFilter,
        VolumeUsage,
    )
    from engine.types.volumes import PrunedVolumes, VolumeSummary
else:
    __getattr__ = deferred_names(
        __name__,
        {
            "engine.types.archives": (
                "ArchiveFormat",
                "Compression",
                "ImportRequest",
                "ImportedImage",
                "SaveOptions",
                "SavedArchive",
            ),
            "engine.types.containers": (
                "ContainerDetails",
                "ContainerRequest",
                "ContainerStats",
                "ContainerSummary",
                "ContainerUpdate",
                "CreatedContainer",
                "ExitStatus",
                "LogLine",
                "ProcessInfo",
                "ResourceLimits",
            ),
            "engine.types.copies": ("CommitRequest", "CommittedImage", "CopyOptions", "CopyResult"),
            "engine.types.files": (
                "MAXIMUM_VIEWED_BYTES",
                "FileContent",
                "FileEntry",
                "FileTree",
                "LayerChange",
                "WritableLayer",
            ),
            "engine.types.host": ("HostFeature", "HostReport"),
            "engine.types.identity": (
                "ChainId",
                "ChangeKind",
                "ContainerId",
                "ContainerStatus",
                "DiffId",
                "Digest",
                "FileKind",
                "ImageId",
                "OutputStream",
            ),
            "engine.types.images": (
                "ImageConfig",
                "ImageDetails",
                "ImageSummary",
                "LayerSummary",
                "LoadedImage",
                "RemovedImage",
            ),
            "engine.types.labels": ("matches_labels",),
            "engine.types.lifecycle": (
                "ContainerHealth",
                "HealthCheck",
                "HealthProbe",
                "RestartPolicy",
            ),
            "engine.types.mounts": ("MountPoint", "MountRequest"),
            "engine.types.options": ("DeviceRequest", "ProcessOptions", "Ulimit"),
            "engine.types.registry": (
                "FoundImage",
                "LayerTransfer",
                "LoginResult",
                "PulledImage",
                "PushedImage",
                "RemoteImage",
                "RemoteLayer",
                "TransferListener",
                "TransferStatus",
                "ignore_transfers",
            ),
            "engine.types.sessions": ("ExecRequest", "SessionOutput", "TerminalSize"),
            "engine.types.store": ("ProblemKind", "StoreCheck", "StoreProblem"),
            "engine.types.system": (
                "ContainerUsage",
                "DiskUsage",
                "DiskUsageDetails",
                "ImageUsage",
                "PrunedContainers",
                "PruneFilter",
                "VolumeUsage",
            ),
            "engine.types.volumes": ("PrunedVolumes", "VolumeSummary"),
        },
    )

__all__ = [
    "MAXIMUM_VIEWED_BYTES",
    "ArchiveFormat",
    "ChainId",
    "ChangeKind",
    "CommitRequest",
    "CommittedImage",
    "Compression",
    "ContainerDetails",
    "ContainerHealth",
    "ContainerId",
    "ContainerRequest",
    "ContainerStats",
    "ContainerStatus",
    "ContainerSummary",
    "ContainerUpdate",
    "ContainerUsage",
    "CopyOptions",
    "CopyResult",
    "CreatedContainer",
    "DeviceRequest",
    "DiffId",
    "Digest",
    "DiskUsage",
    "DiskUsageDetails",
    "ExecRequest",
    "ExitStatus",
    "FileContent",
    "FileEntry",
    "FileKind",
    "FileTree",
    "FoundImage",
    "HealthCheck",
    "HealthProbe",
    "HostFeature",
    "HostReport",
    "ImageConfig",
    "ImageDetails",
    "ImageId",
    "ImageSummary",
    "ImageUsage",
    "ImportRequest",
    "ImportedImage",
    "LayerChange",
    "LayerSummary",
    "LayerTransfer",
    "LoadedImage",
    "LogLine",
    "LoginResult",
    "MountPoint",
    "MountRequest",
    "OutputStream",
    "ProblemKind",
    "ProcessInfo",
    "ProcessOptions",
    "PruneFilter",
    "PrunedContainers",
    "PrunedVolumes",
    "PulledImage",
    "PushedImage",
    "RemoteImage",
    "RemoteLayer",
    "RemovedImage",
    "ResourceLimits",
    "RestartPolicy",
    "SaveOptions",
    "SavedArchive",
    "SessionOutput",
    "StoreCheck",
    "StoreProblem",
    "TerminalSize",
    "TransferListener",
    "TransferStatus",
    "Ulimit",
    "VolumeSummary",
    "VolumeUsage",
    "WritableLayer",
    "ignore_transfers",
    "matches_labels",
]
