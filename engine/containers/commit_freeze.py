"""A running container is frozen while a commit reads its files.

Who does that holds `commit.lock` and says in it that the freeze is a commit's: when it is killed,
the next one, or the next start of an engine, lets the container go on.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.containers.lifecycle import pause_container, unpause_container
from engine.errors import ContainerStateError, EngineError, FeatureUnavailableError
from engine.operations import carry_through
from engine.store.locks import LockFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices

COMMIT_LOCK_FILE = "commit.lock"
_FROZEN = b"frozen\n"


def _commit_lock(services: ContainerServices, container_id: str) -> LockFile:
    return LockFile(
        services.config.container_run_directory(container_id) / COMMIT_LOCK_FILE,
        what="A commit of the container",
        is_removed_with_directory=True,
        owner=services.config.container_directory(container_id),
    )


@contextlib.asynccontextmanager
async def frozen_for_commit(
    services: ContainerServices, record: ContainerRecord
) -> AsyncIterator[tuple[str, ...]]:
    """Freeze a running container while the block lasts; yields why it could not be, if so."""
    lock = await services.in_thread(_commit_lock, services, record.container_id)
    await lock.acquire()
    try:
        warnings: tuple[str, ...] = ()
        is_frozen = False
        try:
            await carry_through(_freeze(services, record, lock))
            is_frozen = True
        except FeatureUnavailableError as error:
            warnings = (
                f"the container was not paused while its files were read: {error.reason}; "
                "what it wrote meanwhile may be there by halves",
            )
        except ContainerStateError:
            pass  # it has ended by itself, or somebody paused it: either way it stands still
        try:
            yield warnings
        finally:
            if is_frozen:
                await carry_through(_thaw(services, record, lock))
    finally:
        lock.release()


async def _freeze(services: ContainerServices, record: ContainerRecord, lock: LockFile) -> None:
    # Said first: whoever finds the word and no lock knows that nobody will thaw it.
    await services.in_thread(_mark, lock, _FROZEN)
    try:
        await pause_container(services, record)
    except BaseException:
        await services.in_thread(_mark, lock, b"")
        raise


async def _thaw(services: ContainerServices, record: ContainerRecord, lock: LockFile) -> None:
    with contextlib.suppress(ContainerStateError):
        # It may have been killed, or unpaused by somebody.
        await unpause_container(services, record)
    await services.in_thread(_mark, lock, b"")


def _mark(lock: LockFile, word: bytes) -> None:
    descriptor = os.open(lock.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, word)
    finally:
        os.close(descriptor)


async def thaw_after_lost_commits(services: ContainerServices) -> None:
    """Let containers go on that a killed commit had frozen; safe beside commits that live."""
    for record in await services.table.list():
        path = services.config.container_run_directory(record.container_id) / COMMIT_LOCK_FILE
        if await services.in_thread(_is_marked, str(path)):
            with contextlib.suppress(EngineError):
                await _thaw_if_lost(services, record)


async def _thaw_if_lost(services: ContainerServices, record: ContainerRecord) -> None:
    lock = await services.in_thread(_commit_lock, services, record.container_id)
    if not lock.try_acquire():
        return
    try:
        if await services.in_thread(_is_marked, str(lock.path)):
            await carry_through(_thaw(services, record, lock))
    finally:
        lock.release()


def _is_marked(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
