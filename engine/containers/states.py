"""Reading what state a container is in, and whether its monitor lives. All of it blocks."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.runtime.spec import StateRecord
from engine.runtime.state_file import read_state, write_state
from engine.store.durability import raise_store_error
from engine.store.locks import LockFile, is_locked
from engine.types import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.config import EngineConfig

LOCK_FILE = "lock"
"""Held by the monitor for as long as it lives."""
OPERATION_LOCK_FILE = "operation.lock"
HOLD_LOCK_FILE = "hold.lock"
"""Shared by those who keep a container from being removed when it has ended."""
LIVE_STATUSES = frozenset(
    {ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING}
)


def status_of(state: StateRecord) -> ContainerStatus:
    """The status as an enumeration; a word from a newer version reads as dead."""
    try:
        return ContainerStatus(state.status)
    except ValueError:
        return ContainerStatus.DEAD


def is_restarted_by_policy(state: StateRecord) -> bool:
    """Whether the end of a run was not the container's: its restart policy has it go on."""
    status = status_of(state)
    return status is ContainerStatus.RESTARTING or (
        status in LIVE_STATUSES and state.restart_count > 0
    )


def read_container_state(config: EngineConfig, container_id: str) -> StateRecord:
    """Read a container's state.json.

    A container whose directory is gone is being removed; one whose record is damaged is dead.
    """
    directory = config.container_directory(container_id)
    try:
        state = read_state(str(directory))
    except (ValueError, OSError) as error:
        return StateRecord(status=ContainerStatus.DEAD, error=f"state.json is damaged: {error}")
    if not state.started_at_ns and not directory.exists():
        return replace(state, status=ContainerStatus.REMOVING)
    return state


def has_lost_monitor(config: EngineConfig, container_id: str, state: StateRecord) -> bool:
    """Whether a container is said to run, but nobody holds its lock.

    True may be out of date: a monitor writes the end down and then lets go. Read the state again
    under the lock before acting on it.
    """
    return status_of(state) in LIVE_STATUSES and not is_locked(
        config.container_run_directory(container_id) / LOCK_FILE
    )


def read_watched_state(config: EngineConfig, container_id: str) -> tuple[StateRecord, bool]:
    """Read a container's state, and whether it lost its monitor."""
    state = read_container_state(config, container_id)
    if not has_lost_monitor(config, container_id, state):
        return state, False
    # It may have ended between the two looks, or begun to.
    state = read_container_state(config, container_id)
    return state, has_lost_monitor(config, container_id, state)


def write_container_state(config: EngineConfig, container_id: str, state: StateRecord) -> None:
    """Replace state.json; for the holder of the container's lock.

    Raises:
        NoSpaceError: The disk is full.
        StoreError: It cannot be written.
    """
    directory = config.container_directory(container_id)
    try:
        write_state(str(directory), state, is_durable=True)
    except OSError as error:
        raise_store_error(error, directory)


@contextlib.contextmanager
def monitor_lock(config: EngineConfig, container_id: str) -> Iterator[bool]:
    """Stand in for the monitor while the block lasts; False if one lives."""
    lock = open_monitor_lock(config, container_id)
    is_ours = lock.try_acquire()
    try:
        yield is_ours
    finally:
        lock.release()


def open_monitor_lock(config: EngineConfig, container_id: str) -> LockFile:
    """The lock that a monitor holds for as long as it lives; not yet taken."""
    directory = config.container_run_directory(container_id)
    return LockFile(
        directory / LOCK_FILE, what="the container's monitor", is_removed_with_directory=True
    )


def operation_lock(
    config: EngineConfig, container_id: str, name: str, *, is_of_record: bool = False
) -> LockFile:
    """The lock of those who start, rename or remove a container; not yet taken.

    With `is_of_record` taking it raises NotFoundError once the container's directory has gone, so
    that who waited for a removal leaves no trace of the container.
    """
    directory = config.container_run_directory(container_id)
    return LockFile(
        directory / OPERATION_LOCK_FILE,
        what=f"An operation on container {name}",
        is_removed_with_directory=True,
        owner=config.container_directory(container_id) if is_of_record else None,
    )


def hold_lock(config: EngineConfig, container_id: str) -> LockFile:
    """The lock of those who still need a container that has ended; not yet taken.

    Taking it raises NotFoundError once the container has gone.
    """
    return LockFile(
        config.container_run_directory(container_id) / HOLD_LOCK_FILE,
        what=f"Holding container {container_id[:12]}",
        is_removed_with_directory=True,
        owner=config.container_directory(container_id),
    )


def remove_run_directory(directory: Path) -> None:
    """Remove sockets and locks of a container that is gone, as far as that goes.

    Of a build it may hold secrets as well, if that was killed.
    """
    with contextlib.suppress(OSError):
        for entry in directory.iterdir():
            with contextlib.suppress(OSError):
                if entry.is_dir() and not entry.is_symlink():
                    import shutil  # of builds only: it takes two milliseconds

                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
        directory.rmdir()
