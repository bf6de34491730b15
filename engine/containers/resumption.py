"""Starting again what nobody is left to start: after a reboot, or when a monitor was killed.

A container's monitor follows its restart policy for as long as both live. What it leaves undone
is taken up by the next engine that is opened, as dockerd does when it starts (moby
daemon/daemon.go, restore), or at once by one that is open.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from engine.containers.lifecycle import start_exclusively
from engine.containers.policies import restart_spec
from engine.containers.state_table import Operation
from engine.containers.states import operation_lock, read_container_state, status_of
from engine.errors import EngineError, MonitorLostError, NotFoundError
from engine.runtime.state_file import read_boot_id
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord

_MOST_AT_ONCE = 8
_MOST_ATTEMPTS = 3


def is_to_be_resumed(record: ContainerRecord, state: StateRecord, *, boot_id: str) -> bool:
    """Whether a container's restart policy wants a start that nobody makes.

    One that `always` is started again is so after a reboot even if a person had stopped it; one
    that could not be started is not tried again before the next reboot.
    """
    if status_of(state) is not ContainerStatus.EXITED or not state.started_at_ns:
        return False
    if state.awaits_restart:
        return True
    if state.boot_id == boot_id:
        return False
    return restart_spec(record.restart_policy).wants(
        state.exit_code,
        restart_count=state.restart_count,
        is_stopped_by_person=state.is_stopped_by_person,
    )


async def resume_containers(services: ContainerServices) -> None:
    """Start everything that is to be resumed; what cannot be started says why in its state.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = [
        record.container_id
        for record in await services.table.list()
        if record.restart_policy.name != "no"
    ]
    at_once = asyncio.Semaphore(_MOST_AT_ONCE)

    async def resume(container_id: str) -> None:
        async with at_once:
            with contextlib.suppress(EngineError):
                await resume_container(services, container_id)

    async with asyncio.TaskGroup() as tasks:
        for container_id in wanted:
            tasks.create_task(resume(container_id))


async def resume_container(services: ContainerServices, container_id: str) -> None:
    """Start a container if it is to be resumed; safe beside other engines that do the same.

    Raises:
        StartError: Its program cannot be started.
        EngineError: Something else is in the way.
    """
    record = await services.table.get(container_id)
    if record is None or record.restart_policy.name == "no":
        return
    boot_id = await services.in_thread(read_boot_id)
    state = await services.in_thread(read_container_state, services.config, container_id)
    if not is_to_be_resumed(record, state, boot_id=boot_id):
        return
    lock = operation_lock(services.config, container_id, record.name, is_of_record=True)
    try:
        # Whoever holds it starts, renames or removes the container, and sees to it. Not in a
        # thread: who is cancelled meanwhile would not know that it has the lock.
        if not lock.try_acquire():
            return
    except NotFoundError:
        return
    try:
        await _resume(services, record, boot_id)
    finally:
        lock.release()


async def _resume(services: ContainerServices, record: ContainerRecord, boot_id: str) -> None:
    container_id = record.container_id
    for attempt in range(_MOST_ATTEMPTS):
        # Under the lock: it may have been started or changed meanwhile.
        state = await services.in_thread(read_container_state, services.config, container_id)
        fresh = await services.table.get(container_id)
        if fresh is None or not is_to_be_resumed(fresh, state, boot_id=boot_id):
            return
        try:
            await start_exclusively(services, fresh, Operation.START)
        except MonitorLostError:
            # This monitor was killed as well, and what it was to start still waits.
            if attempt == _MOST_ATTEMPTS - 1:
                raise
        else:
            return
