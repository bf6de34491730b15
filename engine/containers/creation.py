"""Making containers: the directory is complete before it has its name, the record comes last."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.attributes import attribute_warnings
from engine.containers.limits import check_cpusets, effective_limits, limit_warnings
from engine.containers.mounts import plan_mounts, prepare_volumes
from engine.containers.names import draw_container_id, draw_container_name
from engine.containers.namespaces import resolve_joined
from engine.containers.network_files import write_network_files
from engine.containers.networking import resolve_attachments
from engine.containers.policies import health_warnings, merge_health
from engine.containers.process_options import check_host
from engine.containers.record import ContainerRecord
from engine.containers.request import check_request, merge_process
from engine.containers.states import operation_lock, remove_run_directory
from engine.errors import InvalidInputError, NameInUseError
from engine.network.attachments import JOIN, expand_exposed, network_warnings
from engine.operations import carry_through
from engine.runtime.spec import StateRecord
from engine.runtime.state_file import write_state
from engine.store.durability import raise_store_error
from engine.types import ContainerId, CreatedContainer, ProcessOptions

if TYPE_CHECKING:
    from pathlib import Path

    from engine.containers.services import ContainerImage, ContainerServices
    from engine.store.volume_records import VolumeRecord
    from engine.types import ContainerRequest, ImageConfig, MountRequest, ResourceLimits

_MOST_DRAWS = 12


async def create_container(
    services: ContainerServices, request: ContainerRequest
) -> CreatedContainer:
    """Make a container without starting it; cancelling or failing leaves nothing.

    Raises:
        InvalidInputError: The request cannot work.
        ImageNotFoundError: There is no such image.
        NameInUseError: Another container has the name.
        ContainerNotFoundError: There is no such container to take volumes from.
    """
    check_request(request)
    if request.limits.cpuset_cpus or request.limits.cpuset_memory_nodes:
        await services.in_thread(check_cpusets, request.limits)
    warnings: tuple[str, ...] = ()
    if request.options != ProcessOptions():
        options = await resolve_joined(services, request.options)
        request = replace(request, options=options)
        warnings = await services.in_thread(_check_options, services, options)
    if request.network.attachments or request.network.mode:
        network = await resolve_attachments(services, request.network)
        request = replace(request, network=network)
        if network.mode.startswith(JOIN):
            # It is found under the other container's name, by itself as well.
            owner = await services.table.find(network.mode.removeprefix(JOIN))
            request = replace(request, hostname=owner.hostname)
    async with services.hold_image(request.image) as image:
        mounts = await plan_mounts(services, request, image)
        record = _new_record(services, request, image, mounts)
        record = replace(record, warnings=(*record.warnings, *warnings))
        await carry_through(_create(services, record, has_drawn_name=not request.name))
    made = await services.table.get(record.container_id)
    return CreatedContainer(
        container_id=record.container_id,
        name=made.name if made else record.name,
        warnings=record.warnings,
    )


def _check_options(services: ContainerServices, options: ProcessOptions) -> tuple[str, ...]:
    """Refuse what cannot be had here; returns what can be had in part only."""
    check_host(
        options,
        is_rootless=services.is_rootless,
        has_cgroup=bool(services.cgroups.parent),
        has_seccomp=services.has_seccomp,
    )
    return attribute_warnings(options)


async def _create(
    services: ContainerServices, record: ContainerRecord, *, has_drawn_name: bool
) -> None:
    directory = services.config.container_directory(record.container_id)
    run_directory = services.config.container_run_directory(record.container_id)
    lock = await services.in_thread(
        operation_lock, services.config, record.container_id, record.name
    )
    # Held until the record is there: a sweep takes a directory without either for left over.
    await lock.acquire()
    try:
        async with services.staging.claim("create") as staged:
            await services.in_thread(_write_files, record, staged)
            await services.rootfs.prepare(record, staged)
            await services.in_thread(_put_in_place, staged, directory)
        try:
            async with prepare_volumes(services, record) as new_volumes:
                record = await _insert(services, record, new_volumes, has_drawn_name=has_drawn_name)
        except BaseException:
            await services.remove_tree(directory)
            raise
    except BaseException:
        await services.in_thread(remove_run_directory, run_directory)
        raise
    finally:
        lock.release()
    services.tell("create", record)


async def _insert(
    services: ContainerServices,
    record: ContainerRecord,
    new_volumes: tuple[VolumeRecord, ...],
    *,
    has_drawn_name: bool,
) -> ContainerRecord:
    for attempt in range(_MOST_DRAWS):
        try:
            await services.table.insert(record, new_volumes=new_volumes)
        except NameInUseError:
            if not has_drawn_name or attempt == _MOST_DRAWS - 1:
                raise
            record = replace(record, name=draw_container_name(attempt + 1))
        else:
            return record
    raise AssertionError("the loop returns or raises")


def _new_record(
    services: ContainerServices,
    request: ContainerRequest,
    image: ContainerImage,
    mounts: tuple[MountRequest, ...],
) -> ContainerRecord:
    container_id = ContainerId(draw_container_id())
    process = merge_process(image.config, request, container_id=container_id)
    labels = dict(image.config.labels) | dict(request.labels)
    return ContainerRecord(
        container_id=container_id,
        name=request.name or draw_container_name(),
        image=image.name,
        image_id=image.image_id,
        layers=image.layers,
        created_at_ns=time.time_ns(),
        arguments=process.arguments,
        entrypoint_count=process.entrypoint_count,
        environment=process.environment,
        working_directory=process.working_directory,
        user=process.user,
        hostname=process.hostname,
        labels=tuple(labels.items()),
        limits=_limits(services, request.limits),
        is_read_only=request.is_read_only,
        is_removed_on_exit=request.is_removed_on_exit,
        stop_signal=process.stop_signal,
        stop_timeout_seconds=process.stop_timeout_seconds,
        snapshotter=services.snapshotter,
        warnings=(
            *limit_warnings(request.limits, services.cgroups.missing_limits),
            *health_warnings(image.config, request),
            *network_warnings(request.network),
        ),
        has_terminal=request.has_terminal,
        is_stdin_open=request.is_stdin_open,
        is_stdin_closed_with_session=request.is_stdin_closed_with_session,
        options=request.options,
        has_init=request.has_init,
        restart_policy=request.restart_policy,
        health=merge_health(image.config, request),
        mounts=mounts,
        network=request.network,
        exposed_ports=_exposed_ports(image.config, request),
    )


def _exposed_ports(config: ImageConfig, request: ContainerRequest) -> tuple[str, ...]:
    """What a container listens on, as image and request say it; each port once."""
    found: dict[str, None] = {}
    for text in config.exposed_ports:
        # An image made by a careless tool may have entries that are no ports.
        with contextlib.suppress(InvalidInputError):
            found |= dict.fromkeys(f"{port}/{kind}" for port, kind in expand_exposed(text))
    for text in request.network.exposed_ports:
        found |= dict.fromkeys(f"{port}/{kind}" for port, kind in expand_exposed(text))
    return tuple(found)


def _limits(services: ContainerServices, asked: ResourceLimits) -> ResourceLimits:
    limits = effective_limits(asked)
    if asked.pids is None and "pids" in services.cgroups.missing_limits:
        # A default that the host cannot give is not worth a warning at each start.
        return replace(limits, pids=None)
    return limits


def _write_files(record: ContainerRecord, directory: Path) -> None:
    try:
        (directory / "rootfs").mkdir(mode=0o755, exist_ok=True)
        write_network_files(directory, hostname=record.hostname, name=record.name)
        write_state(str(directory), StateRecord(), is_durable=True)
    except OSError as error:
        raise_store_error(error, directory)


def _put_in_place(staged: Path, directory: Path) -> None:
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(staged, directory)
    except OSError as error:
        raise_store_error(error, directory)
