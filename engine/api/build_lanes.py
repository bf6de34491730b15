"""Lanes for builds: networks, files and isolation as containers have them, without a record.

To open one takes as long as a step, so one is opened after a build for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.build.idle import IDLE_SECONDS
from engine.build.lanes import LaneRequest, OpenLane
from engine.build.spares import SpareKeeper
from engine.containers.attributes import attribute_warnings, resource_limits
from engine.containers.limits import cgroup_spec, effective_limits
from engine.containers.network_files import (
    ContainerPlace,
    network_file_mounts,
    renew_network_files,
    write_network_files,
)
from engine.containers.network_following import spoken_for
from engine.containers.privileges import (
    available_capabilities,
    hidden_paths,
    resolve_capabilities,
    seccomp_filter,
)
from engine.containers.recovery import group_paths, remove_group
from engine.containers.states import operation_lock, remove_run_directory
from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from engine.linux.capabilities import capability_number
from engine.network.attaching import WantedNetwork
from engine.network.naming import own_addresses
from engine.network.rootless import find_user_network
from engine.operations import carry_through
from engine.runtime.build_lane import NO_ROOT
from engine.runtime.isolation import (
    DEFAULT_SHARED_MEMORY_BYTES,
    DEFAULT_UMASK,
    default_sysctls,
)
from engine.runtime.name_sockets import RESOLVER_ADDRESS
from engine.runtime.namespaces import HOST, PRIVATE
from engine.runtime.spec import (
    SPEC_VERSION,
    ContainerSpec,
    LogSpec,
    NamespaceSpec,
    NetworkSpec,
    ProcessSpec,
)
from engine.snapshots.stubs import make_stubs
from engine.types import NetworkOptions, ProcessOptions, ResourceLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.containers.services import ContainerServices
    from engine.network.attaching import HeldNetwork
    from engine.runtime.lane_client import StepLane
    from engine.runtime.supervisor import Supervisor
    from engine.store.network_records import NetworkRecords
    from engine.types import HostReport, Ulimit

HOSTNAME = "buildkitsandbox"
"""What Docker's builder calls every machine that a step sees."""
_LOOPBACK = ("127.0.0.1",)
_MAKES_DEVICES = frozenset((capability_number("MKNOD"),))
"""Steps have it besides what containers have, as with Docker's builder: what they make is the
image. The lane takes it away where a step could open such a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LaneKind:
    """What a lane is born with; everything else it is told when a build has it."""

    has_host_network: bool
    ulimits: tuple[Ulimit, ...]
    shared_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lane:
    """A lane, and what ends with it.

    Attributes:
        held: All of it.
        network: What it has besides from the time when it is attached; ends after the lane.
    """

    kind: _LaneKind
    lane_id: str
    lane: StepLane
    stub_layer: str
    held: contextlib.AsyncExitStack
    network: contextlib.AsyncExitStack

    async def end(self) -> None:
        """End it; nothing of it is left."""
        await self.held.aclose()


class BuildLanes:
    """Makes lanes with what the engine has, and one ahead of the build that may want it.

    No build has used that one, and it has no network yet.
    """

    def __init__(
        self,
        services: ContainerServices,
        supervisor: Supervisor,
        leases: NetworkRecords,
        report: HostReport,
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Make none yet.

        Args:
            services: What containers have.
            supervisor: Starts them.
            leases: Of networks.
            report: What the host lacks.
            idle_seconds: How long one waits for a build.
        """
        self._services = services
        self._report = report
        self._supervisor = supervisor
        self._leases = leases
        self._spare = SpareKeeper(self._open, _Lane.end, idle_seconds=idle_seconds)

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """As LaneMaker."""
        return self._spare.in_use()

    async def close(self) -> None:
        """End the one that waits, and make no other; builds that go on have theirs."""
        await self._spare.close()

    @contextlib.asynccontextmanager
    async def __call__(self, request: LaneRequest) -> AsyncIterator[OpenLane]:
        """As LaneMaker."""
        kind = _LaneKind(
            has_host_network=request.network == HOST,
            ulimits=request.ulimits,
            shared_memory_bytes=request.shared_memory_bytes or DEFAULT_SHARED_MEMORY_BYTES,
        )

        def serves(lane: _Lane) -> bool:
            return lane.kind == kind and not lane.lane.has_ended

        lane = await self._spare.take(kind, serves)
        is_spare = lane is not None
        lane = lane or await self._open(kind)
        try:
            try:
                opened = await self._attach(lane, request)
            except EngineError:
                if not is_spare:
                    raise
                # Something of it was killed meanwhile, perhaps.
                await carry_through(lane.end())
                lane = await self._open(kind)
                opened = await self._attach(lane, request)
            yield opened
        finally:
            await carry_through(lane.end())

    async def _open(self, kind: _LaneKind) -> _Lane:
        """Make one that leads nowhere.

        Raises:
            EngineError: The host does not give what it needs.
        """
        services = self._services
        lane_id = os.urandom(32).hex()
        run_directory = services.config.container_run_directory(lane_id)
        held = contextlib.AsyncExitStack()
        try:
            held.push_async_callback(services.in_thread, remove_run_directory, run_directory)
            # Held while it lives, so that nobody takes what belongs to it for left over.
            lock = operation_lock(services.config, lane_id, "a build")
            await lock.acquire()
            held.callback(lock.release)
            # If it was killed.
            held.push_async_callback(services.in_thread, _remove_group, services, lane_id)
            network = await held.enter_async_context(contextlib.AsyncExitStack())
            stub_layer, spec = await services.in_thread(self._prepare, kind, lane_id)
            lane = await self._supervisor.open_lane(spec)
        except BaseException:
            await carry_through(held.aclose())
            raise
        held.push_async_callback(lane.close)
        return _Lane(
            kind=kind,
            lane_id=lane_id,
            lane=lane,
            stub_layer=stub_layer,
            held=held,
            network=network,
        )

    def _prepare(self, kind: _LaneKind, lane_id: str) -> tuple[str, ContainerSpec]:
        services = self._services
        options = ProcessOptions(ulimits=kind.ulimits)
        available = available_capabilities(is_rootless=services.is_rootless)
        capabilities = resolve_capabilities(options, available)
        if not services.is_rootless:
            capabilities |= _MAKES_DEVICES & available
        masked, read_only = hidden_paths(options)
        sysctls = default_sysctls(is_rootless=services.is_rootless)
        spec = ContainerSpec(
            version=SPEC_VERSION,
            container_id=lane_id,
            name="build",
            image="",
            container_directory="",
            run_directory=str(services.config.container_run_directory(lane_id)),
            events_path="",
            hostname=HOSTNAME,
            is_rootless=services.is_rootless,
            rootfs=NO_ROOT,
            process=ProcessSpec(
                arguments=(),
                environment=(),
                working_directory="",
                user="",
                capabilities=tuple(sorted(capabilities)),
                has_no_new_privileges=False,
                umask=DEFAULT_UMASK,
                seccomp_filter=(
                    seccomp_filter(options, capabilities) if services.has_seccomp else ""
                ),
                resource_limits=resource_limits(options),
            ),
            cgroup=cgroup_spec(
                effective_limits(ResourceLimits()),
                name=lane_id,
                mode=services.cgroups.mode,
                parent=services.cgroups.parent,
            ),
            log=LogSpec(path="", file_bytes=0, file_count=0),
            file_mounts=(),
            masked_paths=masked,
            read_only_paths=read_only,
            # They would be the host's.
            sysctls=() if kind.has_host_network else sysctls,
            shared_memory_bytes=kind.shared_memory_bytes,
            stop_signal=signal.SIGKILL,
            stop_timeout_seconds=0,
            namespaces=NamespaceSpec(network=HOST if kind.has_host_network else PRIVATE),
            network=NetworkSpec(
                user_network=find_user_network().program if services.is_rootless else ""
            ),
        )
        return str(make_stubs(services.config.root)), spec

    async def _attach(self, lane: _Lane, request: LaneRequest) -> OpenLane:
        """Give one what a build wants.

        Raises:
            EngineError: The host does not give it.
        """
        services = self._services
        mode = "" if request.network == "default" else request.network
        options = NetworkOptions(mode=mode, extra_hosts=request.extra_hosts)
        lane.network.push_async_callback(self._forget_network, lane.lane_id)
        held = await lane.network.enter_async_context(
            services.attacher.hold(
                WantedNetwork(container_id=lane.lane_id, options=options, names=(HOSTNAME,))
            )
        )
        if held.spec != NetworkSpec():
            await lane.lane.attach(held.spec)
        told = await services.in_thread(_write_files, request.directory, options, held)
        return OpenLane(
            lane_id=lane.lane_id,
            lane=lane.lane,
            is_rootless=services.is_rootless,
            stub_layer=lane.stub_layer,
            file_mounts=network_file_mounts(request.directory, is_read_only=False),
            warnings=(
                *held.warnings,
                *told,
                *attribute_warnings(ProcessOptions(ulimits=request.ulimits)),
            ),
            limitations=_limitations(self._report),
        )

    async def _forget_network(self, lane_id: str) -> None:
        """Take back what it had on the host."""
        await asyncio.to_thread(self._services.attacher.forget, lane_id)
        await self._leases.release_all(lane_id)


def _write_files(directory: Path, options: NetworkOptions, held: HeldNetwork) -> tuple[str, ...]:
    write_network_files(directory, hostname=HOSTNAME, name=HOSTNAME)
    return renew_network_files(directory, options, _place(held))


def _remove_group(services: ContainerServices, lane_id: str) -> None:
    remove_group(group_paths(services, lane_id))


def _limitations(report: HostReport) -> tuple[str, ...]:
    if report.user_namespace != "single":
        return ()
    return (
        "programs have one user id here, root's: they cannot become other users nor give files to "
        "them (`lamella info` says what is missing)",
    )


def _place(held: HeldNetwork) -> ContainerPlace:
    network = held.spec
    if network.user_network:
        # Nobody would answer there: a lane has no monitor.
        return replace(spoken_for((HOSTNAME,), network), resolver="")
    gateways = tuple(
        gateway
        for one in network.interfaces
        for gateway in (one.ipv4_gateway, one.ipv6_gateway)
        if gateway
    )
    return ContainerPlace(
        names=(HOSTNAME,),
        addresses=own_addresses(network.interfaces),
        gateways=_LOOPBACK if held.namespace == HOST else gateways,
        resolver=RESOLVER_ADDRESS if network.has_names else "",
    )
