"""Namespaces that a container shares: with the host, or with another container."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.process_options import HOST, JOIN
from engine.containers.states import LIVE_STATUSES, read_container_state, status_of
from engine.errors import ContainerNotFoundError, ContainerStateError, InvalidInputError
from engine.runtime.spec import NamespaceSpec
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.types import ProcessOptions

_SHAREABLE = ("shareable", HOST)


async def resolve_joined(services: ContainerServices, options: ProcessOptions) -> ProcessOptions:
    """Put ids in the place of names, which may be given to others later.

    Raises:
        ContainerNotFoundError: There is no such container.
        AmbiguousReferenceError: The beginning of an id matches several.
    """
    for field in ("pid_mode", "ipc_mode"):
        mode: str = getattr(options, field)
        if mode.startswith(JOIN):
            found = await services.table.find(mode.removeprefix(JOIN))
            options = (
                replace(options, pid_mode=f"{JOIN}{found.container_id}")
                if field == "pid_mode"
                else replace(options, ipc_mode=f"{JOIN}{found.container_id}")
            )
    return options


async def check_joined(services: ContainerServices, record: ContainerRecord) -> None:
    """Refuse a start if a container whose namespace is to be joined does not run.

    Raises:
        ContainerNotFoundError: It was removed.
        ContainerStateError: It does not run; the texts are Docker's.
        InvalidInputError: It does not share what is to be joined.
    """
    options = record.options
    for mode in (options.pid_mode, options.ipc_mode, record.network.mode):
        if mode.startswith(JOIN):
            await _check_runs(services, mode.removeprefix(JOIN))
    if options.ipc_mode.startswith(JOIN):
        other = await services.table.get(options.ipc_mode.removeprefix(JOIN))
        if other is not None and not _shares_ipc(other.options.ipc_mode):
            raise InvalidInputError(
                f"container {other.container_id}: non-shareable IPC (hint: use IpcMode:shareable "
                "for the donor container)",
                hint=f"Run {other.name} with --ipc shareable",
            )


def _shares_ipc(mode: str) -> bool:
    return mode in _SHAREABLE or mode.startswith(JOIN)


async def _check_runs(services: ContainerServices, container_id: str) -> None:
    other = await services.table.get(container_id)
    if other is None:
        raise ContainerNotFoundError(container_id)
    state = await services.in_thread(read_container_state, services.config, container_id)
    status = status_of(state)
    if status is ContainerStatus.RESTARTING:
        raise ContainerStateError(
            f"Container {container_id} is restarting, wait until the container is running",
            container_id=container_id,
            status=status.value,
            operation="join",
        )
    if status not in LIVE_STATUSES:
        raise ContainerStateError(
            f"container {container_id} is not running",
            container_id=container_id,
            status=status.value,
            operation="join",
            hint=f"`lamella start {other.name}` starts the one whose namespace is to be joined",
        )


def namespace_spec(options: ProcessOptions, config: EngineConfig) -> NamespaceSpec:
    """What the monitor is told of the namespaces."""

    def whose(mode: str) -> str:
        if mode.startswith(JOIN):
            return str(config.container_directory(mode.removeprefix(JOIN)))
        return mode if mode in {HOST, "none"} else "private"

    return NamespaceSpec(
        pid=whose(options.pid_mode),
        ipc=whose(options.ipc_mode),
        uts=whose(options.uts_mode),
        cgroup=whose(options.cgroup_namespace_mode),
    )
