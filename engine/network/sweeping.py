"""Which containers live, for all that they have on the host lives only as long; blocking.

A container's monitor holds its lock for its whole life, and what is added on the host for it is
added after the lock was taken. So what belongs to a container whose lock nobody holds is left over.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.errors import StoreError
from engine.runtime.state_file import read_state
from engine.store.locks import LockFile, is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.config import EngineConfig
    from engine.runtime.spec import NetworkSpec

MONITOR_LOCK_FILE = "lock"
_OPERATION_LOCK_FILE = "operation.lock"


def is_live(config: EngineConfig, container_id: str) -> bool:
    """Whether a container runs, or somebody is about to start it."""
    directory = config.container_run_directory(container_id)
    return is_locked(directory / MONITOR_LOCK_FILE) or is_locked(directory / _OPERATION_LOCK_FILE)


def live_networks(config: EngineConfig) -> dict[str, NetworkSpec]:
    """What containers that run have, by container id."""
    try:
        names = os.listdir(config.run / "containers")
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        if is_locked(config.container_run_directory(name) / MONITOR_LOCK_FILE):
            # One whose record is damaged, or that is just being started, has to do without.
            with contextlib.suppress(OSError, ValueError):
                state = read_state(str(config.container_directory(name)))
                if state.network.table:
                    found[name] = state.network
    return found


@contextlib.contextmanager
def held_dead(config: EngineConfig, container_id: str) -> Iterator[bool]:
    """Keep a container from being started while the block lasts; False if it lives."""
    directory = config.container_run_directory(container_id)
    lock = LockFile(directory / MONITOR_LOCK_FILE, what="the container's monitor")
    try:
        is_dead = lock.try_acquire()
    except StoreError:
        # It has no directory: it was removed.
        is_dead = not directory.exists()
    try:
        yield is_dead
    finally:
        lock.release()


@contextlib.contextmanager
def held_idle(config: EngineConfig, container_id: str) -> Iterator[bool]:
    """Let whoever wants to start a container wait while the block lasts; False if it lives.

    It lives as well for who is about to start it, and has noted this and that already.
    """
    directory = config.container_run_directory(container_id)
    lock = LockFile(directory / _OPERATION_LOCK_FILE, what="an operation on the container")
    try:
        is_idle = lock.try_acquire() and not is_locked(directory / MONITOR_LOCK_FILE)
    except StoreError:
        # It has no directory: it was removed.
        is_idle = not directory.exists()
    try:
        yield is_idle
    finally:
        lock.release()
