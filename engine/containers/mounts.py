"""A container's mounts: from what was asked for to what its record, its monitor and people see."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.mount_requests import (
    clean_target,
    read_tmpfs_options,
)
from engine.containers.states import LIVE_STATUSES, status_of
from engine.errors import InvalidInputError, StoreError
from engine.runtime.spec import MountSpec
from engine.snapshots.job_parts import DATA_NAME
from engine.types import MountPoint, MountRequest
from engine.volumes.library import WantedVolume
from engine.volumes.names import draw_volume_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerImage, ContainerServices
    from engine.store.volume_records import VolumeRecord
    from engine.types import ContainerRequest

_DEFAULT_PROPAGATION = "rprivate"


async def plan_mounts(
    services: ContainerServices, request: ContainerRequest, image: ContainerImage
) -> tuple[MountRequest, ...]:
    """Everything that a new container mounts, each path once, anonymous volumes with a name.

    What is asked for goes before what other containers have (`--volumes-from`), and both before
    the image's own volumes.

    Raises:
        InvalidInputError: A mount cannot work, or a source is not there.
        ContainerNotFoundError: There is no such container to take volumes from.
    """
    if not (request.mounts or request.volumes_from or image.config.volumes):
        return ()
    planned: dict[str, MountRequest] = {}
    for text in request.volumes_from:
        for mount in await _mounts_of(services, text):
            planned[mount.target] = mount
    for mount in request.mounts:
        target = clean_target(mount.target)
        planned[target] = _with_name(replace(mount, target=target))
    for path in image.config.volumes:
        target = clean_target(f"/{path}")
        if target != "/" and target not in planned:
            planned[target] = _with_name(MountRequest(kind="volume", source="", target=target))
    await services.in_thread(_check_sources, tuple(planned.values()))
    return tuple(planned.values())


def _with_name(mount: MountRequest) -> MountRequest:
    if mount.kind != "volume" or mount.source:
        return mount
    return replace(mount, source=draw_volume_name(), is_anonymous=True)


async def _mounts_of(services: ContainerServices, text: str) -> tuple[MountRequest, ...]:
    reference, _, mode = text.partition(":")
    if not reference:
        raise InvalidInputError(f"invalid volumes-from specification: '{text}'")
    if mode not in {"", "rw", "ro"}:
        raise InvalidInputError(f"invalid mode: {mode}", hint="Write ro or rw behind the container")
    record = await services.table.find(reference)
    return tuple(
        replace(
            mount,
            is_read_only=mount.is_read_only or mode == "ro",
            has_copy=False,
            is_inherited=True,
        )
        for mount in record.mounts
        if mount.kind != "tmpfs"
    )


def _check_sources(mounts: tuple[MountRequest, ...]) -> None:
    for mount in mounts:
        if mount.kind == "bind" and not mount.makes_source and not _exists(mount.source):
            raise InvalidInputError(
                'invalid mount config for type "bind": bind source path does not exist: '
                f"{mount.source}",
                hint="Make it first, or mount it with -v, which makes a missing directory",
            )


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Whether it can be used is found out by who mounts it, with the container's rights.
        return True
    return True


@contextlib.asynccontextmanager
async def prepare_volumes(
    services: ContainerServices, record: ContainerRecord
) -> AsyncIterator[tuple[VolumeRecord, ...]]:
    """Make and fill the volumes of a container whose record is written in the block.

    Yields:
        The records of those that are new, to be written with the container's.
    """
    wanted: dict[str, WantedVolume] = {}
    for mount in record.mounts:
        is_own = mount.kind == "volume" and not mount.is_inherited
        if is_own and mount.source not in wanted:
            has_copy = mount.has_copy and not mount.subpath
            wanted[mount.source] = WantedVolume(
                name=mount.source,
                is_anonymous=mount.is_anonymous,
                labels=mount.volume_labels,
                filled_from=mount.target if has_copy else "",
            )
    if not wanted:
        yield ()
        return

    async def is_any_live(container_ids: tuple[str, ...]) -> bool:
        states = await services.read_states(container_ids)
        return any(status_of(state) in LIVE_STATUSES and not is_lost for state, is_lost in states)

    layers = services.config.layers_directory
    async with services.volumes.prepare(
        tuple(wanted.values()),
        layer_paths=tuple(str(layers / chain.removeprefix("sha256:")) for chain in record.layers),
        is_any_live=is_any_live,
    ) as new_volumes:
        yield new_volumes


@contextlib.asynccontextmanager
async def hold_mounts(services: ContainerServices, record: ContainerRecord) -> AsyncIterator[None]:
    """Have everything that a container mounts in place while it is started in the block.

    Raises:
        StoreError: A directory of the host's that is to be made cannot be.
    """
    if not record.mounts:
        yield
        return
    await services.in_thread(_make_sources, record)
    async with services.volumes.keep(_volume_names(record)):
        yield


def _make_sources(record: ContainerRecord) -> None:
    for mount in record.mounts:
        if not mount.makes_source:
            continue
        try:
            # Docker's mode; who may write there is up to the umask of whoever asks.
            os.makedirs(mount.source, mode=0o755, exist_ok=True)
        except FileExistsError:
            continue  # a file, or whatever else is to be mounted
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(
                f"error while creating mount source path '{mount.source}': "
                f"mkdir {error.filename or mount.source}: {reason}",
                hint="Make the directory yourself, or mount another one",
            ) from error


def _volume_names(record: ContainerRecord) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mount.source for mount in record.mounts if mount.kind == "volume"))


def anonymous_volumes(record: ContainerRecord) -> tuple[str, ...]:
    """The volumes that go with a container when it is removed with its volumes."""
    return tuple(
        dict.fromkeys(
            mount.source for mount in record.mounts if mount.kind == "volume" and mount.is_anonymous
        )
    )


def mount_specs(config: EngineConfig, record: ContainerRecord) -> tuple[MountSpec, ...]:
    """What the monitor is told of a container's mounts."""
    return tuple(_mount_spec(config, mount) for mount in record.mounts)


def _mount_spec(config: EngineConfig, mount: MountRequest) -> MountSpec:
    if mount.kind == "tmpfs":
        settings = read_tmpfs_options(mount.tmpfs_options, is_read_only=mount.is_read_only)
        return MountSpec(
            kind="tmpfs",
            source="",
            target=mount.target,
            options=settings.options,
            attributes=settings.attributes,
        )
    is_volume = mount.kind == "volume"
    return MountSpec(
        kind="bind",
        source=_host_path(config, mount),
        target=mount.target,
        subpath=mount.subpath,
        is_read_only=mount.is_read_only,
        is_recursive=mount.recursion != "disabled",
        is_recursively_read_only=mount.recursion != "writable",
        propagation=mount.propagation or _DEFAULT_PROPAGATION,
        volume_name=mount.source if is_volume else "",
    )


def _host_path(config: EngineConfig, mount: MountRequest) -> str:
    match mount.kind:
        case "volume":
            return str(config.volume_directory(mount.source) / DATA_NAME)
        case "bind":
            return mount.source
        case _:
            return ""


def mount_points(config: EngineConfig, record: ContainerRecord) -> tuple[MountPoint, ...]:
    """A container's mounts with their paths on the host, parents first.

    For who copies files into or out of a container that does not run: a path below a `target` is
    in `source` (of a volume: in `subpath` below it), not in the writable layer. What is in there
    is hostile: resolve below a descriptor of it.
    """
    return tuple(
        MountPoint(
            kind=mount.kind,
            name=mount.source if mount.kind == "volume" else "",
            source=_host_path(config, mount),
            target=mount.target,
            subpath=mount.subpath,
            is_read_only=mount.is_read_only,
            propagation=(mount.propagation or _DEFAULT_PROPAGATION) if mount.kind == "bind" else "",
            options=mount.tmpfs_options,
        )
        for mount in sorted(record.mounts, key=lambda mount: mount.target.count("/"))
    )
