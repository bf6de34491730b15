"""Removing containers, and sweeping up after those who died while they made or removed one.

The directory is renamed into the staging area first, so that nobody can start a container that is
half gone; if its files cannot be removed it is put back, as dead, with the reason.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.lifecycle import current_state, end_now, exclusively
from engine.containers.mounts import anonymous_volumes
from engine.containers.recovery import (
    group_paths,
    let_monitor_end,
    recover_container,
    remove_group,
    remove_leftover_groups,
)
from engine.containers.state_table import Operation, check
from engine.containers.states import (
    has_lost_monitor,
    hold_lock,
    monitor_lock,
    operation_lock,
    read_container_state,
    remove_run_directory,
    status_of,
    write_container_state,
)
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    EngineError,
    NotFoundError,
)
from engine.operations import carry_through
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord


async def remove_container(
    services: ContainerServices,
    record: ContainerRecord,
    *,
    is_forced: bool = False,
    removes_volumes: bool = False,
) -> None:
    """Remove a container with its writable layer and its log; forced: kill it first.

    Volumes that were made for it go too when asked for, or when it is one that is removed on
    exit; those that another container has as well stay.

    Once begun it is carried through: cancelling waits for the end.

    Raises:
        ContainerStateError: It runs, or somebody removes it already.
        EngineError: Its files cannot be removed; it is dead then.
    """
    operation = Operation.FORCE_REMOVE if is_forced else Operation.REMOVE
    async with exclusively(services, record) as fresh:
        state = await current_state(services, fresh)
        if status_of(state) is not ContainerStatus.REMOVING:
            # With the lock in hand, `removing` is what somebody who was killed left behind.
            check(operation, status_of(state), container_id=fresh.container_id, name=fresh.name)
        state = await end_now(services, fresh) if is_forced else state
        await carry_through(_remove(services, fresh, state, removes_volumes=removes_volumes))


async def _remove(
    services: ContainerServices,
    record: ContainerRecord,
    state: StateRecord,
    *,
    removes_volumes: bool = False,
) -> None:
    directory = services.config.container_directory(record.container_id)
    await let_monitor_end(services, record)
    async with services.staging.claim("remove") as trash:
        doomed = trash / record.container_id
        try:
            await services.in_thread(_move_away, services, record, state, str(doomed))
            await services.remove_tree(doomed)
        except (EngineError, OSError) as error:
            reason = f"unable to remove filesystem: {error}"
            with contextlib.suppress(OSError):
                os.rename(doomed, directory)
            with contextlib.suppress(EngineError):
                dead = replace(state, status=ContainerStatus.DEAD.value, error=reason)
                await services.in_thread(
                    write_container_state, services.config, record.container_id, dead
                )
            if isinstance(error, ContainerStateError):
                raise
            raise EngineError(
                f"container {record.name}: {reason}",
                hint=f"`lamella rm -f {record.name}` tries again",
            ) from error
    volumes: tuple[str, ...] = ()
    if removes_volumes or record.is_removed_on_exit:
        volumes = anonymous_volumes(record)
    if volumes:
        volumes = await services.table.delete_with_volumes(record.container_id, volumes)
    else:
        await services.table.delete(record.container_id)
    await services.in_thread(
        remove_run_directory, services.config.container_run_directory(record.container_id)
    )
    for name in volumes:
        await services.volumes.discard(name)
    # Last: who hears of it finds nothing left.
    services.tell("destroy", record)


def _move_away(
    services: ContainerServices, record: ContainerRecord, state: StateRecord, doomed: str
) -> None:
    directory = services.config.container_directory(record.container_id)
    with monitor_lock(services.config, record.container_id) as is_ours:
        if not is_ours:
            raise ContainerStateError(
                f'cannot remove container "{record.name}": container is running: stop the '
                "container before removing or force remove",
                container_id=record.container_id,
                status=ContainerStatus.RUNNING.value,
                operation=Operation.REMOVE.value,
            )
        remove_group(group_paths(services, record.container_id))
        with contextlib.suppress(FileNotFoundError):
            removing = replace(state, status=ContainerStatus.REMOVING.value)
            # A full disk must not keep anybody from making room.
            with contextlib.suppress(EngineError):
                write_container_state(services.config, record.container_id, removing)
            os.rename(directory, doomed)


async def remove_after_exit(services: ContainerServices, container_id: str) -> None:
    """Remove a container that asked to be removed when it has ended; for whoever sees the end.

    One that somebody holds stays; the last holder removes it.
    """
    record = await services.table.get(container_id)
    if record is None or not record.is_removed_on_exit:
        return
    state = await services.in_thread(read_container_state, services.config, container_id)
    if status_of(state) is not ContainerStatus.EXITED:
        return
    with contextlib.suppress(ContainerNotFoundError, ContainerStateError):
        async with exclusively(services, record) as fresh:
            state = await services.in_thread(read_container_state, services.config, container_id)
            if status_of(state) is not ContainerStatus.EXITED:
                return
            # Tried under the operation lock: of two holders who let go, the later one gets it.
            hold = await services.in_thread(hold_lock, services.config, container_id)
            if not hold.try_acquire():
                return
            try:
                await carry_through(_remove(services, fresh, state))
            finally:
                hold.release()


@contextlib.asynccontextmanager
async def hold_container(
    services: ContainerServices, record: ContainerRecord
) -> AsyncIterator[None]:
    """Keep a container from being removed on exit while the block lasts.

    Raises:
        ContainerNotFoundError: It was removed meanwhile.
    """
    lock = await services.in_thread(hold_lock, services.config, record.container_id)
    try:
        # Waits for nothing but a removal that is under way.
        await lock.acquire(is_shared=True)
    except NotFoundError:
        raise ContainerNotFoundError(record.name) from None
    try:
        if await services.table.get(record.container_id) is None:
            await services.in_thread(
                remove_run_directory, services.config.container_run_directory(record.container_id)
            )
            raise ContainerNotFoundError(record.name)
        yield
    finally:
        lock.release()
        # One that cannot be removed is dead, with a reason, for all to see. Who leaves a session
        # is cancelled, and whoever saw the end has passed by, as it was held.
        with contextlib.suppress(EngineError):
            await carry_through(remove_after_exit(services, record.container_id))


async def sweep_containers(services: ContainerServices) -> None:
    """Put right what ended processes left; safe beside other engines.

    Containers without a monitor are written down as exited, those to be removed on exit are
    removed, and what is half made or half removed goes away.

    Raises:
        EngineError: The store cannot be read.
    """
    records = {str(record.container_id): record for record in await services.table.list()}
    troubled = await services.in_thread(_find_troubled, services, tuple(records))
    for container_id, state in troubled:
        record = records[container_id]
        status = status_of(state)
        if status is ContainerStatus.REMOVING:
            await _finish_removal(services, record)
            continue
        if has_lost_monitor(services.config, container_id, state):
            await recover_container(services, record)
    for record in records.values():
        if record.is_removed_on_exit:
            await remove_after_exit(services, record.container_id)
    # A build has no record, and is known by its lock like a container.
    names = await services.in_thread(_list_names, str(services.config.run / "containers"))
    left = frozenset(name for name in names if _is_container_id(name))
    await remove_leftover_groups(services, frozenset(records) | left)
    await _sweep_directories(services, frozenset(records))


def _find_troubled(
    services: ContainerServices, container_ids: tuple[str, ...]
) -> list[tuple[str, StateRecord]]:
    found = []
    for container_id in container_ids:
        state = read_container_state(services.config, container_id)
        if status_of(state) is ContainerStatus.REMOVING or has_lost_monitor(
            services.config, container_id, state
        ):
            found.append((container_id, state))
    return found


async def _finish_removal(services: ContainerServices, record: ContainerRecord) -> None:
    lock = await services.in_thread(
        operation_lock, services.config, record.container_id, record.name
    )
    if not lock.try_acquire():
        return  # It is being removed by somebody who lives.
    lock.release()
    with contextlib.suppress(ContainerNotFoundError, ContainerStateError):
        await remove_container(services, record, is_forced=True)


async def _sweep_directories(services: ContainerServices, known: frozenset[str]) -> None:
    """Remove directories of containers that have no record; their maker holds a lock meanwhile."""
    config = services.config
    for parent in (config.root / "containers", config.run / "containers"):
        names = await services.in_thread(_list_names, str(parent))
        for name in names:
            if name in known or not _is_container_id(name):
                continue
            lock = await services.in_thread(operation_lock, config, name, name)
            if not lock.try_acquire():
                continue
            try:
                # Under the lock: it may have been finished since the records were read.
                if await services.table.get(name) is None:
                    await services.remove_tree(config.container_directory(name))
                    await services.in_thread(
                        remove_run_directory, config.container_run_directory(name)
                    )
            finally:
                lock.release()


def _list_names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _is_container_id(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")
