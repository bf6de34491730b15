"""Records that cross the engine's boundary: frozen, and free of behaviour beyond small look-ups.

Texts in these records come from images and containers and may hold anything; whoever draws them
sanitises them first. Paths inside an image are `str` decoded with `surrogateescape`, without a
leading slash. Sizes are bytes, times are seconds since the epoch (UTC) unless the name says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

ImageId = NewType("ImageId", str)
"""`sha256:` and 64 hexadecimal digits: the digest of the image's config."""
ContainerId = NewType("ContainerId", str)
"""64 hexadecimal digits."""
Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""
DiffId = NewType("DiffId", str)
"""Digest of a layer's uncompressed tar (OCI image-spec, config.md)."""
ChainId = NewType("ChainId", str)
"""Digest of a layer and all below it (OCI image-spec, config.md)."""


class ContainerStatus(StrEnum):
    """Docker's container states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class FileKind(StrEnum):
    """What a path in a layer is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "fifo"
    WHITEOUT = "whiteout"


class ChangeKind(StrEnum):
    """What a layer does to a path of the layers below it."""

    UNCHANGED = "unchanged"
    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"


class OutputStream(StrEnum):
    """Where a log line came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFeature:
    """One thing that the host gives or does not give.

    Attributes:
        name: Short, as the status line shows it: `overlay`, `cgroup v2`, `pause`.
        is_available: Whether it works here.
        detail: How it is had, or why it is not.
        remedy: What the person can do; empty when it is available.
    """

    name: str
    is_available: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What was found out about the host, once, at start."""

    is_root: bool
    kernel_release: str
    architecture: str
    """As images name it: `amd64`, `arm64`."""
    cgroup_mode: str
    """`v2`, `v1`, `hybrid` or `none`."""
    snapshotter: str
    """`overlay` or `copy`."""
    user_namespace: str
    """`host` for root, `range` (subordinate ids) or `single` (one id)."""
    features: tuple[HostFeature, ...]

    @property
    def warnings(self) -> tuple[HostFeature, ...]:
        """The features that are missing here, each with its remedy."""
        return tuple(feature for feature in self.features if not feature.is_available)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """One row of the image list; an image with two names is one record."""

    image_id: ImageId
    names: tuple[str, ...]
    """Familiar names with tag, such as `web:latest`; empty for a dangling image."""
    created_at: float | None
    size_bytes: int
    """Sum of its layers, unpacked."""
    layer_count: int
    container_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSummary:
    """One step of an image's history, oldest first; not every step made a layer."""

    position: int
    """0 is the bottom. Counts history steps, also the empty ones."""
    created_by: str
    created_at: float | None
    comment: str
    is_empty: bool
    """The step changed only the config; the fields below are None or 0."""
    diff_id: DiffId | None
    chain_id: ChainId | None
    size_bytes: int
    entry_count: int
    shared_image_count: int
    """How many images here have this layer (by chain id), this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """An image's HEALTHCHECK, as the config has it."""

    command: tuple[str, ...]
    interval_seconds: float
    timeout_seconds: float
    start_period_seconds: float
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says about the containers made of it (OCI image-spec, config.md)."""

    user: str = ""
    environment: tuple[str, ...] = ()
    """`NAME=value`, in order."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health_check: HealthCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetails:
    """Everything about one image."""

    summary: ImageSummary
    digest: Digest
    """Of the manifest."""
    operating_system: str
    architecture: str
    author: str
    config: ImageConfig
    layers: tuple[LayerSummary, ...]
    """Oldest first, empty steps included."""
    config_json: str
    """The config document, indented for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One path of a layer, marked with what it does to the layers below."""

    path: str
    """Relative, `/` between names, no leading slash; `surrogateescape` for odd bytes."""
    kind: FileKind
    mode: int
    """Permission bits with setuid, setgid and sticky (07777)."""
    user_id: int
    group_id: int
    size_bytes: int
    modified_at: float
    link_target: str
    """Of symbolic and hard links; else empty."""
    change: ChangeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTree:
    """The files of one layer (or of a stack of layers), sorted so that parents come first."""

    title: str
    entries: tuple[FileEntry, ...]
    size_bytes: int
    is_complete: bool = True
    """False when the entries were capped; `notice` then says at what."""
    notice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedImage:
    """One image that an archive held."""

    image_id: ImageId
    names: tuple[str, ...]
    was_present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImage:
    """What removing an image did."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    """Image id and chain ids that are gone."""
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits of one container; None is no limit."""

    memory_bytes: int | None = None
    cpu_count: float | None = None
    """Share of processor time in whole processors: 1.5 is one and a half."""
    pids: int | None = None
    """Most processes at once; in a request None is the default of 2048, and 0 or -1 no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """What a person asks for with `run` or `create`; None means: as the image says.

    `command` replaces the image's command; `entrypoint` its entrypoint (and clears the command).
    """

    image: str
    name: str | None = None
    """None draws a name such as `brave_lamport`."""
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    """`NAME=value`; added to the image's, the last one wins."""
    working_directory: str | None = None
    user: str | None = None
    hostname: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    limits: ResourceLimits = ResourceLimits()
    is_read_only: bool = False
    is_removed_on_exit: bool = False
    stop_signal: str | None = None
    stop_timeout_seconds: float | None = None
    """None is 10 seconds; -1 waits for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSummary:
    """One row of the container list."""

    container_id: ContainerId
    name: str
    image: str
    """The name that it was made from, or a short image id when that name is gone."""
    image_id: ImageId
    command: str
    created_at: float
    status: ContainerStatus
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    """None until it has ended once."""
    error: str
    """Why it ended or did not start, when that was not its own doing."""
    is_out_of_memory_killed: bool
    is_removed_on_exit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDetails:
    """Everything about one container."""

    summary: ContainerSummary
    process_id: int | None
    """Of its first process, as the host counts; None when it does not run."""
    arguments: tuple[str, ...]
    """The whole command: entrypoint and command."""
    environment: tuple[str, ...]
    working_directory: str
    user: str
    hostname: str
    labels: tuple[tuple[str, str], ...]
    limits: ResourceLimits
    is_read_only: bool
    stop_signal: str
    stop_timeout_seconds: float
    snapshotter: str
    chain_id: ChainId
    """Of the image's topmost layer."""
    cgroup: str
    """Path below the cgroup mount, empty when it has none."""
    log_path: str
    writable_layer_path: str
    warnings: tuple[str, ...]
    """What the host did not give, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedContainer:
    """A new container, with what the host could not give it."""

    container_id: ContainerId
    name: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a container ended."""

    exit_code: int
    """0-255; 128 and the signal's number after a signal."""
    is_out_of_memory_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats:
    """One sample of what a running container uses; None is what the host does not tell."""

    container_id: ContainerId
    sampled_at: float
    cpu_percent: float | None
    """Of one processor: 200 is two whole ones. 0 in the first sample."""
    memory_bytes: int | None
    """Without the page cache that can be dropped, as Docker counts."""
    memory_limit_bytes: int | None
    """None is no limit."""
    process_count: int | None
    network_received_bytes: int
    network_sent_bytes: int
    block_read_bytes: int | None
    block_written_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """One process of a container, for `top`."""

    process_id: int
    """As the host counts."""
    parent_process_id: int
    user: str
    """User id; name where the host knows it."""
    cpu_percent: float
    started_at: float
    cpu_seconds: float
    resident_bytes: int
    state: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a container's log, without its newline."""

    stream: OutputStream
    timestamp_ns: int
    text: bytes
    """Raw, as the container wrote it, at most 16 KiB a piece."""
    is_partial: bool
    """The line goes on in the next record of the same stream (it was longer than 16 KiB, or
    the container has not ended it yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """One path that differs between the writable layer and the image."""

    path: str
    """Relative, as in FileEntry."""
    change: ChangeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableLayer:
    """The state of a container's writable layer."""

    container_id: ContainerId
    size_bytes: int
    entry_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What the store occupies."""

    layers_bytes: int
    containers_bytes: int
    blobs_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.layers_bytes + self.containers_bytes + self.blobs_bytes
