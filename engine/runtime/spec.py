"""What the monitor of a container is told, and what it writes down.

Engine, launcher and monitor share these records. On disk and on the wire they are JSON objects
with the field names below (`engine.runtime.records`); the engine reads them with msgspec, the
monitor, which has only the standard library, with that module.
"""

from __future__ import annotations

from dataclasses import field

from engine.cgroups.limits import CgroupSpec as CgroupSpec  # noqa: TC001 - read at run time
from engine.cgroups.limits import DeviceRule as DeviceRule
from engine.late_dataclasses import dataclass
from engine.runtime.health import HealthRecord, HealthSpec  # noqa: TC001 - read at run time
from engine.runtime.restart import RestartSpec

SPEC_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RootfsSpec:
    """How the root filesystem is put together.

    Attributes:
        kind: `overlay`, or `copy` (then `upper` is the whole tree and `lowers` is empty).
        lowers: Layer directories, topmost first; the last one holds stubs for mount points.
        upper: The writable layer's directory.
        work: Overlay's work directory, beside `upper`.
        mount_point: An empty directory that the root is attached to, inside the container's
            mount namespace only.
        uses_user_xattrs: Overlay marks are `user.overlay.*` (rootless) instead of `trusted.*`.
        is_read_only: The container may not write to its root.
        is_volatile: Of an overlay: nothing that is written is synced, whatever programs ask for;
            who keeps the writable layer syncs it, and its work directory is not used again.
    """

    kind: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    mount_point: str
    uses_user_xattrs: bool
    is_read_only: bool
    is_volatile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMount:
    """A file of the host's that is bound over a path of the container's (resolv.conf, hosts)."""

    source: str
    target: str
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSpec:
    """What a person mounts into a container.

    Attributes:
        kind: `bind`, which a volume is too, `tmpfs`, or `layers`: directories put together.
        source: Absolute path on the host; empty for a tmpfs.
        target: Absolute path in the container.
        subpath: Below the source, resolved inside it; empty for the source itself.
        is_recursive: With what is mounted below the source.
        is_recursively_read_only: Read-only is what is mounted below the source, too.
        propagation: `private`, `shared` or `slave`, with an `r` before it for all mounts below.
        options: Of a tmpfs: `size=64m`.
        attributes: Of a tmpfs: MOUNT_ATTR_* bits.
        volume_name: For events; empty if it is no volume.
        lowers: Of `layers`: topmost first.
        scratch: Of `layers`: an empty directory for what is written there; empty if nothing is.
        uses_user_xattrs: Of `layers`: as RootfsSpec.
    """

    kind: str
    source: str
    target: str
    subpath: str = ""
    is_read_only: bool = False
    is_recursive: bool = True
    is_recursively_read_only: bool = True
    propagation: str = "rprivate"
    options: tuple[str, ...] = ()
    attributes: int = 0
    volume_name: str = ""
    lowers: tuple[str, ...] = ()
    scratch: str = ""
    uses_user_xattrs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A device of the host's in the container.

    Attributes:
        host_path: Bound where no node can be made (rootless).
        path: Absolute, in the container.
        kind: `c` or `b`.
        major: Device number.
        minor: Device number.
        mode: Permission bits.
        uid: Owner on the host.
        gid: Group on the host.
        access: Letters of `rwm` that the control group lets through.
    """

    host_path: str
    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSpec:
    """Whose namespaces a container has: its own where nothing else is said.

    Attributes:
        pid: `private`, `host`, or the directory of the container whose namespace it joins.
        ipc: As above, or `none`: its own and without /dev/shm.
        uts: `private` or `host`.
        cgroup: `private` or `host`.
        network: `private`, `host`, or the directory of the container whose namespace it joins.
    """

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = "private"
    network: str = "private"

    @property
    def joins_ipc(self) -> bool:
        """Whether `ipc` is a container's directory."""
        return self.ipc.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSpec:
    """A link of a container to a bridge of the host's.

    Attributes:
        network_id: Of the network whose bridge it is.
        name: In the container: `eth0`.
        host_name: Of its other end.
        bridge: Name of the bridge.
        mac_address: `02:4c:0a:50:00:02`.
        ipv4_address: With its prefix; empty for none.
        ipv4_gateway: Where everything goes that leads nowhere else; empty if not this way.
        ipv6_address: As above.
        ipv6_gateway: As above.
        mtu: Bytes; 0 is the kernel's choice.
        is_guarded: It may send as itself only.
        is_isolated: It hears nothing from the others on the bridge.
        is_hairpin: The bridge sends back to it what came from it.
        has_localnet: Its bridge takes what the host sends from 127.0.0.0/8 (route_localnet).
        network_name: As people called it when the container was put into it.
    """

    network_id: str
    name: str
    host_name: str
    bridge: str
    mac_address: str
    ipv4_address: str = ""
    ipv4_gateway: str = ""
    ipv6_address: str = ""
    ipv6_gateway: str = ""
    mtu: int = 0
    is_guarded: bool = True
    is_isolated: bool = False
    is_hairpin: bool = False
    has_localnet: bool = False
    network_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A port of the host's that leads to a container's.

    Attributes:
        host_address: Empty for every one of the host's.
        host_port: A number, which is drawn by then.
        container_port: Where it leads.
        protocol: `tcp`, `udp` or `sctp`.
        ipv4_target: The container's address; empty if it has none that this leads to.
        ipv6_target: As above.
    """

    host_address: str
    host_port: int
    container_port: int
    protocol: str
    ipv4_target: str = ""
    ipv6_target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What a container has besides its loopback device.

    Attributes:
        table: Name of the tables of rules on the host; empty if there is nothing of it there.
        user_network: Path of the program that is an ordinary user's way out; empty for none.
        has_user_ipv6: That leads out by IPv6 as well.
        is_served_inside: What comes to published ports is carried on from within the container's
            namespace, as nothing of the host leads into it.
        has_names: A resolver of its own answers for the members of its networks.
    """

    table: str = ""
    interfaces: tuple[InterfaceSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    user_network: str = ""
    has_user_ipv6: bool = False
    is_served_inside: bool = False
    has_names: bool = False

    @property
    def needs_server(self) -> bool:
        """Whether there is something for a network server to do."""
        return self.has_names or bool(self.ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimitSpec:
    """One limit of setrlimit(2); -1 is no limit."""

    number: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """The container's first program.

    Attributes:
        arguments: Whole command line, at least one word.
        environment: `NAME=value`, complete but for HOME, which init adds if it is missing.
        working_directory: Absolute; made if missing.
        user: As typed or as the image says: `name`, `uid`, `name:group`, `uid:gid`, or empty.
        capabilities: Numbers of the bounding, permitted and effective set.
        has_no_new_privileges: Set no_new_privs before exec.
        umask: Octal 0022 by default.
        seccomp_filter: Base64 of struct sock_filter[]; empty loads none.
        has_init: Process 1 is a small init of ours (`engine.runtime.reaper`), its child the
            program.
        has_terminal: Its standard streams are a terminal.
        groups: Further groups, by name or number.
        resource_limits: Set before its privileges are given up.
        oom_score_adjustment: -1000 to 1000.
    """

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    user: str
    capabilities: tuple[int, ...]
    has_no_new_privileges: bool
    umask: int
    seccomp_filter: str
    has_init: bool = False
    has_terminal: bool = False
    groups: tuple[str, ...] = ()
    resource_limits: tuple[ResourceLimitSpec, ...] = ()
    oom_score_adjustment: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpec:
    """Where the output goes and when it is rotated.

    Attributes:
        path: The current file; older ones have `.1`, `.2` and so on behind it.
        file_bytes: A file that grows past this is rotated.
        file_count: Files kept, the current one included.
    """

    path: str
    file_bytes: int
    file_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that a monitor needs to know of its container.

    Attributes:
        is_stdin_open: Its stdin takes what sessions write; otherwise it is at its end.
        is_stdin_closed_with_session: Its stdin ends with the first session.
        terminal_size: Columns and rows to begin with.
    """

    version: int
    container_id: str
    name: str
    image: str
    container_directory: str
    run_directory: str
    events_path: str
    hostname: str
    is_rootless: bool
    rootfs: RootfsSpec
    process: ProcessSpec
    cgroup: CgroupSpec
    log: LogSpec
    file_mounts: tuple[FileMount, ...]
    masked_paths: tuple[str, ...]
    read_only_paths: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...]
    shared_memory_bytes: int
    stop_signal: int
    stop_timeout_seconds: float
    restart: RestartSpec = field(default_factory=RestartSpec)
    health: HealthSpec | None = None
    labels: tuple[tuple[str, str], ...] = ()
    """For its events."""
    mounts: tuple[MountSpec, ...] = ()
    is_stdin_open: bool = False
    is_stdin_closed_with_session: bool = False
    terminal_size: tuple[int, int] = (80, 24)
    namespaces: NamespaceSpec = field(default_factory=NamespaceSpec)
    devices: tuple[DeviceSpec, ...] = ()
    is_privileged: bool = False
    """/sys and the control groups can be written to."""
    warnings: tuple[str, ...] = ()
    """What the host cannot give in full, found before the start."""
    network: NetworkSpec = field(default_factory=NetworkSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """Another program in a container that runs; what is not said here is as the container's.

    Attributes:
        exec_id: 64 hexadecimal digits.
        arguments: Whole command line, at least one word.
        environment: As in ProcessSpec.
        working_directory: As in ProcessSpec, but it must exist.
        user: As in ProcessSpec.
        has_terminal: As in ProcessSpec.
        is_stdin_open: Its stdin takes what the session writes.
        is_detached: It has no session; its output goes nowhere.
        is_privileged: It has all capabilities that there are, and no seccomp filter.
        terminal_size: Columns and rows to begin with.
    """

    exec_id: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    user: str
    has_terminal: bool = False
    is_stdin_open: bool = False
    is_detached: bool = False
    is_privileged: bool = False
    terminal_size: tuple[int, int] = (80, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """state.json: what became of a container. Written only by who holds the container's lock.

    Attributes:
        status: A `ContainerStatus` value.
        process_id: Of the container's first process in the launcher's pid namespace; 0 if none.
        process_start_ticks: Field 22 of its /proc stat: tells it from a later one of that id.
        monitor_process_id: Of the monitor; 0 if none.
        monitor_start_ticks: As above.
        started_at_ns: Nanoseconds since the epoch, 0 for never.
        finished_at_ns: As above.
        exit_code: Of the last run; -1 while there is none.
        is_out_of_memory_killed: The kernel killed a process of this run for want of memory.
        error: Why it did not start, or ended otherwise than by itself.
        cgroup_paths: Absolute directories that hold its processes.
        warnings: What could not be had for this run.
        boot_id: Of the kernel that ran when it was last started, or a start was tried.
        restart_count: Starts by the restart policy since the last one by a person.
        next_start_at_ns: When it is restarting: as above; else 0.
        is_stopped_by_person: The last run was ended by stop or kill.
        awaits_restart: It lost its monitor, and its restart policy wants a start that nobody
            has made yet.
        health: None without a health check.
        network: What it had in its last run.
    """

    version: int = SPEC_VERSION
    status: str = "created"
    process_id: int = 0
    process_start_ticks: int = 0
    monitor_process_id: int = 0
    monitor_start_ticks: int = 0
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = -1
    is_out_of_memory_killed: bool = False
    error: str = ""
    cgroup_paths: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    boot_id: str = ""
    restart_count: int = 0
    next_start_at_ns: int = 0
    is_stopped_by_person: bool = False
    awaits_restart: bool = False
    health: HealthRecord | None = None
    network: NetworkSpec = field(default_factory=NetworkSpec)
