"""Containers: what is asked for, what there is, what they do."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types.identity import ChainId, ContainerId, ContainerStatus, ImageId, OutputStream
from engine.types.lifecycle import ContainerHealth, HealthCheck, RestartPolicy
from engine.types.mounts import MountPoint, MountRequest
from engine.types.networks import NetworkAttachment, NetworkOptions, PublishedPort, UserNetwork
from engine.types.options import ProcessOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits of one container; None is no limit."""

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    """Memory and swap together; -1 is no limit, None twice the memory."""
    memory_reservation_bytes: int | None = None
    """What it is left with when the host runs short of memory."""
    memory_swappiness: int | None = None
    """0 to 100: how readily the kernel swaps it out; cgroup v1 only."""
    cpu_count: float | None = None
    """Share of processor time in whole processors: 1.5 is one and a half."""
    cpu_period_microseconds: int | None = None
    cpu_quota_microseconds: int | None = None
    """Processor time in each period; `cpu_count` in other words, and not beside it."""
    cpu_shares: int | None = None
    """Weight against others when all want to run; 1024 is the usual one."""
    cpuset_cpus: str = ""
    """Processors that it may use, such as `0-2,4`; empty is every one."""
    cpuset_memory_nodes: str = ""
    """As above, of memory nodes."""
    block_weight: int | None = None
    """10 to 1000: share of the disks against others."""
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
    has_terminal: bool = False
    is_stdin_open: bool = False
    is_stdin_closed_with_session: bool = False
    """Its stdin ends when the last session leaves, as `run -i` has it without -d."""
    has_init: bool = False
    """Put a small init before the program that reaps and passes signals on."""
    restart_policy: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    """What differs from the image's health check; None takes that one."""
    mounts: tuple[MountRequest, ...] = ()
    volumes_from: tuple[str, ...] = ()
    """Containers whose mounts this one gets too: a reference, and `:ro` or `:rw` behind it."""
    options: ProcessOptions = ProcessOptions()
    network: NetworkOptions = NetworkOptions()


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
    """The kernel has killed one of its processes for want of memory, in this run or the last."""
    is_removed_on_exit: bool
    health: str = ""
    """`starting`, `healthy` or `unhealthy`; empty without a health check."""
    restart_count: int = 0
    """How often its restart policy has started it since a person did."""
    labels: tuple[tuple[str, str], ...] = ()
    mounts: tuple[MountRequest, ...] = ()
    has_terminal: bool = False
    """Its program has one; who attaches can type into it, if its stdin is open, too."""
    network_names: tuple[str, ...] = ()
    """The networks that it is in or is to be in; `host`, `none`, or `container:` and an id."""
    ports: tuple[PublishedPort, ...] = ()
    """Published now, with the host's ports that were drawn; empty while it does not run."""
    exposed_ports: tuple[str, ...] = ()
    """`80/tcp`: what image and request say it listens on, published or not."""


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
    has_init: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    next_start_at: float | None = None
    """When the restart policy starts it again; None unless it is restarting."""
    health_check: HealthCheck | None = None
    """How its health is asked for: image and request together."""
    health: ContainerHealth | None = None
    mounts: tuple[MountPoint, ...] = ()
    has_terminal: bool = False
    is_stdin_open: bool = False
    options: ProcessOptions = ProcessOptions()
    network: NetworkOptions = NetworkOptions()
    """As it was asked for."""
    attachments: tuple[NetworkAttachment, ...] = ()
    user_network: UserNetwork | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUpdate:
    """What is to change of a container that exists; None is left as it is.

    In the limits 0 takes a limit away.
    """

    limits: ResourceLimits = ResourceLimits()
    restart_policy: RestartPolicy | None = None


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
    """As psutil names it: `sleeping`, `running`, `zombie`."""
    command: str
    user_id: int = 0
    name: str = ""
    """Of the program, at most 15 bytes, as the kernel has it."""
    virtual_bytes: int = 0
    terminal: str = ""
    """`pts/0`; empty without one."""
    thread_count: int = 1
    nice: int = 0


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
