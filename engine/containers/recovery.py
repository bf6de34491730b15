"""Writing down the end of containers whose monitor could not: it was killed, or the host was.

Whoever holds a monitor's lock may write in its place. The kernel has killed the container's
first process with the monitor; what else is left of the run is looked for by control group, and
by the process id if its start time is still the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.cgroups.groups import open_group
from engine.containers.mounts import mount_specs
from engine.containers.policies import restart_spec
from engine.containers.states import (
    LIVE_STATUSES,
    monitor_lock,
    open_monitor_lock,
    read_container_state,
    status_of,
    write_container_state,
)
from engine.errors import EngineError
from engine.linux.process import start_ticks
from engine.runtime.health import ended_health
from engine.runtime.spec import NetworkSpec
from engine.runtime.state_file import append_network_events, append_volume_events
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord

EXIT_CODE = 137
MONITOR_WAS_KILLED = "monitor was killed"
RESTART_WAS_LOST = "monitor was killed while it waited to restart the container"
HOST_WAS_RESTARTED = "host was restarted"
WRITTEN_DOWN_SECONDS = 10.0
"""How long the end of a run whose monitor was killed may take to be written down by others."""
_KILL_MILLISECONDS = 10_000


async def recover_container(services: ContainerServices, record: ContainerRecord) -> bool:
    """Write down the end of a container that is said to run but has no monitor.

    Safe beside other engines that do the same: one of them gets the lock.

    Returns:
        Whether this call wrote it down.

    Raises:
        StoreError: The record cannot be written.
    """
    found = await services.in_thread(_recover, services, record)
    if found is None:
        return False
    state, network = found
    if state.error == RESTART_WAS_LOST:
        return True  # Its end was told when it came to wait for its restart.
    lasted = max(0, state.finished_at_ns - state.started_at_ns) // 10**9
    path = str(services.config.events_path)
    append_network_events(path, "disconnect", container_id=record.container_id, network=network)
    append_volume_events(
        path,
        "unmount",
        container_id=record.container_id,
        mounts=mount_specs(services.config, record),
    )
    services.tell("die", record, exitCode=str(state.exit_code), execDuration=str(lasted))
    return True


def _recover(
    services: ContainerServices, record: ContainerRecord
) -> tuple[StateRecord, NetworkSpec] | None:
    """The state that was written, and what it had of networks; None if there was nothing to do."""
    config = services.config
    with monitor_lock(config, record.container_id) as is_ours:
        if not is_ours:
            return None
        # Under the lock: a monitor that just ended has written the truth already.
        state = read_container_state(config, record.container_id)
        if status_of(state) not in LIVE_STATUSES:
            return None
        is_from_earlier_boot = state.started_at_ns < _boot_time_ns()
        if not is_from_earlier_boot:
            _kill_first_process(state)
        remove_group(state.cgroup_paths)
        if state.network.table and not is_from_earlier_boot:
            services.attacher.forget(record.container_id)
        ended = replace(
            _ended(state, record, is_from_earlier_boot=is_from_earlier_boot),
            status=ContainerStatus.EXITED.value,
            process_id=0,
            process_start_ticks=0,
            monitor_process_id=0,
            monitor_start_ticks=0,
            next_start_at_ns=0,
            cgroup_paths=(),
            network=NetworkSpec(),
            health=ended_health(state.health),
        )
        write_container_state(config, record.container_id, ended)
        with contextlib.suppress(OSError):
            (config.container_run_directory(record.container_id) / "attach.sock").unlink()
        return ended, state.network


def _ended(
    state: StateRecord, record: ContainerRecord, *, is_from_earlier_boot: bool
) -> StateRecord:
    """How a run ended that nobody watched, and whether its restart policy wants another."""
    if status_of(state) is ContainerStatus.RESTARTING:
        return replace(state, error=RESTART_WAS_LOST, awaits_restart=not state.is_stopped_by_person)
    is_wanted = not state.is_stopped_by_person and restart_spec(record.restart_policy).wants(
        EXIT_CODE, restart_count=state.restart_count, is_stopped_by_person=False
    )
    return replace(
        state,
        finished_at_ns=time.time_ns(),
        exit_code=EXIT_CODE,
        error=HOST_WAS_RESTARTED if is_from_earlier_boot else MONITOR_WAS_KILLED,
        awaits_restart=is_wanted,
        restart_count=state.restart_count + is_wanted,
    )


async def let_monitor_end(
    services: ContainerServices, record: ContainerRecord, *, timeout_seconds: float | None = None
) -> None:
    """Wait until nobody holds a monitor's lock: neither the monitor nor who stands in for it.

    A monitor writes the end down before it lets go. One that was killed may have left an init
    half made, which has the lock until the kernel has ended it; then an engine takes the lock to
    write the end down.

    Raises:
        TimeoutError: Somebody still holds it.
    """
    lock = await services.in_thread(open_monitor_lock, services.config, record.container_id)
    async with asyncio.timeout(timeout_seconds):
        await lock.acquire()
    lock.release()


async def clean_after_lost_start(services: ContainerServices, record: ContainerRecord) -> None:
    """End what a monitor left that was killed while it started a container.

    For the holder of the operation lock: nobody else starts it meanwhile. Waits until the kernel
    has taken the monitor's lock from its half-made init too.
    """
    lock = await services.in_thread(open_monitor_lock, services.config, record.container_id)
    await lock.acquire()
    try:
        # A set-user-id program that runs already did not get the signal of the monitor's death.
        paths = await services.in_thread(group_paths, services, record.container_id)
        await services.in_thread(remove_group, paths)
        await services.in_thread(services.attacher.forget, record.container_id)
    finally:
        lock.release()
    await recover_container(services, record)


def remove_group(paths: tuple[str, ...]) -> None:
    """End what is left in a control group and remove it; for the holder of the monitor's lock.

    What cannot be removed now is found by the sweep of the next start. Blocking.
    """
    if not paths:
        return
    with contextlib.suppress(EngineError, OSError):
        group = open_group(paths)
        group.kill_all()
        group.destroy()


def group_paths(services: ContainerServices, container_id: str) -> tuple[str, ...]:
    """The directories that a container's control group has now; blocking."""
    paths = (f"{parent}/{container_id}" for parent in services.cgroups.directories)
    return tuple(path for path in paths if os.path.isdir(path))


async def remove_leftover_groups(
    services: ContainerServices, container_ids: frozenset[str]
) -> None:
    """Remove control groups of containers of this store that have no monitor.

    A monitor that is killed while it starts a container leaves one. Groups of other names are
    not touched: they may belong to another store.
    """
    await services.in_thread(_remove_leftover_groups, services, container_ids)


def _remove_leftover_groups(services: ContainerServices, container_ids: frozenset[str]) -> None:
    found: set[str] = set()
    for parent in services.cgroups.directories:
        with contextlib.suppress(OSError):
            found |= container_ids.intersection(os.listdir(parent))
    for container_id in found:
        with monitor_lock(services.config, container_id) as is_ours:
            if is_ours:
                remove_group(group_paths(services, container_id))


def _kill_first_process(state: StateRecord) -> None:
    if not state.process_id or not state.process_start_ticks:
        return
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(state.process_id)
        try:
            # Asked after the descriptor was opened: from here on it is the same process.
            if start_ticks(state.process_id) == state.process_start_ticks:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                # With it the kernel ends every process of its pid namespace.
                ended = select.poll()
                ended.register(pidfd, select.POLLIN)
                ended.poll(_KILL_MILLISECONDS)
        finally:
            os.close(pidfd)


def _boot_time_ns() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
