"""Lanes for builds: networks, files and isolation as containers have them, without a record."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.build.lanes import LaneRequest, OpenLane
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
from engine.linux.capabilities import capability_number
from engine.network.attaching import WantedNetwork
from engine.network.naming import own_addresses
from engine.operations import carry_through
from engine.runtime.build_lane import NO_ROOT
from engine.runtime.isolation import (
    DEFAULT_SHARED_MEMORY_BYTES,
    DEFAULT_UMASK,
    default_sysctls,
)
from engine.runtime.name_sockets import RESOLVER_ADDRESS
from engine.runtime.namespaces import HOST
from engine.runtime.spec import (
    SPEC_VERSION,
    ContainerSpec,
    LogSpec,
    NamespaceSpec,
    ProcessSpec,
)
from engine.snapshots.stubs import make_stubs
from engine.types import NetworkOptions, ProcessOptions, ResourceLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.containers.services import ContainerServices
    from engine.network.attaching import HeldNetwork
    from engine.runtime.supervisor import Supervisor
    from engine.store.network_records import NetworkRecords
    from engine.types import HostReport

HOSTNAME = "buildkitsandbox"
"""What Docker's builder calls every machine that a step sees."""
_LOOPBACK = ("127.0.0.1",)
_MAKES_DEVICES = frozenset((capability_number("MKNOD"),))
"""Steps have it besides what containers have, as with Docker's builder: what they make is the
image. The lane takes it away where a step could open such a node."""


class BuildLanes:
    """Makes lanes with what the engine has."""

    def __init__(
        self,
        services: ContainerServices,
        supervisor: Supervisor,
        leases: NetworkRecords,
        report: HostReport,
    ) -> None:
        self._services = services
        self._report = report
        self._supervisor = supervisor
        self._leases = leases

    @contextlib.asynccontextmanager
    async def __call__(self, request: LaneRequest) -> AsyncIterator[OpenLane]:
        """As LaneMaker."""
        services = self._services
        lane_id = os.urandom(32).hex()
        run_directory = services.config.container_run_directory(lane_id)
        # Held while it lives, so that nobody takes what belongs to it for left over.
        lock = operation_lock(services.config, lane_id, "a build")
        await lock.acquire()
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(self._forget, lane_id)
                yield await self._open(request, lane_id, run_directory, stack)
        finally:
            lock.release()
            await services.in_thread(remove_run_directory, run_directory)

    async def _open(
        self,
        request: LaneRequest,
        lane_id: str,
        run_directory: Path,
        stack: contextlib.AsyncExitStack,
    ) -> OpenLane:
        services = self._services
        mode = "" if request.network == "default" else request.network
        network = NetworkOptions(mode=mode, extra_hosts=request.extra_hosts)
        options = ProcessOptions(ulimits=request.ulimits)
        held = await stack.enter_async_context(
            services.attacher.hold(
                WantedNetwork(container_id=lane_id, options=network, names=(HOSTNAME,))
            )
        )
        told, stub_layer = await services.in_thread(
            self._write_files, request.directory, network, held
        )
        available = available_capabilities(is_rootless=services.is_rootless)
        capabilities = resolve_capabilities(options, available)
        if not services.is_rootless:
            capabilities |= _MAKES_DEVICES & available
        masked, read_only = hidden_paths(options)
        sysctls = default_sysctls(is_rootless=services.is_rootless)
        lane = await self._supervisor.open_lane(
            ContainerSpec(
                version=SPEC_VERSION,
                container_id=lane_id,
                name="build",
                image="",
                container_directory="",
                run_directory=str(run_directory),
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
                file_mounts=network_file_mounts(request.directory, is_read_only=False),
                masked_paths=masked,
                read_only_paths=read_only,
                # They would be the host's.
                sysctls=() if held.namespace == HOST else sysctls,
                shared_memory_bytes=request.shared_memory_bytes or DEFAULT_SHARED_MEMORY_BYTES,
                stop_signal=signal.SIGKILL,
                stop_timeout_seconds=0,
                namespaces=NamespaceSpec(network=held.namespace),
                network=held.spec,
            )
        )
        stack.push_async_callback(lane.close)
        return OpenLane(
            lane_id=lane_id,
            lane=lane,
            is_rootless=services.is_rootless,
            stub_layer=stub_layer,
            warnings=(*held.warnings, *told, *attribute_warnings(options)),
            limitations=_limitations(self._report),
        )

    def _write_files(
        self, directory: Path, options: NetworkOptions, held: HeldNetwork
    ) -> tuple[tuple[str, ...], str]:
        write_network_files(directory, hostname=HOSTNAME, name=HOSTNAME)
        told = renew_network_files(directory, options, _place(held))
        return told, str(make_stubs(self._services.config.root))

    async def _forget(self, lane_id: str) -> None:
        """Take back what it had on the host, and its group if it was killed."""
        services = self._services
        await carry_through(asyncio.to_thread(_remove_group, services, lane_id))
        await carry_through(asyncio.to_thread(services.attacher.forget, lane_id))
        await carry_through(self._leases.release_all(lane_id))


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
