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
    from engine.runtime.spec import NetworkSpec, StateRecord

MONITOR_LOCK_FILE = "lock"
_OPERATION_LOCK_FILE = "operation.lock"
_LIVE = frozenset({"running", "paused", "restarting"})
"""Others whose monitor lives are being started, or have just ended."""


def is_live(config: EngineConfig, container_id: str) -> bool:
    """Whether a container runs, or somebody is about to start it."""
    directory = config.container_run_directory(container_id)
    return is_locked(directory / MONITOR_LOCK_FILE) or is_locked(directory / _OPERATION_LOCK_FILE)


def live_networks(config: EngineConfig) -> dict[str, NetworkSpec]:
    """What containers that run have, by container id."""
    # One whose record is damaged, or that is just being started, has to do without.
    return {
        container_id: state.network
        for container_id, state in _live_states(config)
        if state is not None and state.network.table
    }


def needs_localnet(config: EngineConfig, bridge: str) -> bool:
    """Whether the host's loopback leads to a container that lives by a bridge, or soon may."""
    return any(
        state is None
        or state.status not in _LIVE
        or any(one.has_localnet and one.bridge == bridge for one in state.network.interfaces)
        for _container_id, state in _live_states(config)
    )


def _live_states(config: EngineConfig) -> Iterator[tuple[str, StateRecord | None]]:
    """Containers whose monitor's lock is held, and what became of them; None if nobody can tell.

    Lanes of builds are none of them: they have no record, and publish nothing.
    """
    try:
        names = os.listdir(config.run / "containers")
    except FileNotFoundError:
        return
    for name in names:
        if not config.container_directory(name).exists():
            continue
        if is_locked(config.container_run_directory(name) / MONITOR_LOCK_FILE):
            try:
                state = read_state(str(config.container_directory(name)))
            except (OSError, ValueError):
                yield name, None
            else:
                yield name, state


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
