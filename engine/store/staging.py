"""Staging: where half-done work lives until it is renamed into place.

`<root>/staging/<name>/` holds a file `lock`, locked by the process that works there, and the
directory `work`. A crash frees the lock, and the next start of any engine sweeps what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from engine.errors import StoreError
from engine.linux.files import spread_subdirectories
from engine.operations import carry_through
from engine.store.durability import make_directory, raise_store_error
from engine.store.locks import LockFile, is_locked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class TreeRemover(Protocol):
    """Removes a directory tree whose files may belong to ids of a container."""

    async def __call__(self, path: Path, /) -> None:
        """Remove it with all it holds; a tree that is not there is no error."""


class StagingArea:
    """The staging directory of one store."""

    def __init__(self, directory: Path, *, remove_tree: TreeRemover) -> None:
        self._directory = directory
        self._remove_tree = remove_tree
        self._removals: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def claim(
        self, purpose: str, *, patience_seconds: float | None = None
    ) -> AsyncIterator[Path]:
        """Make a directory for one piece of work; it is removed at the end, whatever happens.

        Args:
            purpose: A word for people who look into the directory, such as `load`.
            patience_seconds: How long a cancellation waits for what is removed; the rest of it
                is done behind, and `finish` waits for that. None waits for everything.

        Yields:
            An empty directory, on the file system of the store.

        Raises:
            NoSpaceError: The disk is full.
        """
        claim, lock = await self._make(purpose)
        try:
            yield claim / "work"
        except asyncio.CancelledError:
            removal = asyncio.create_task(self._drop(claim, lock))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)
            await carry_through(_wait(removal, patience_seconds))
            raise
        except BaseException:
            # The lock goes last, or a sweep would join in.
            await carry_through(self._drop(claim, lock))
            raise
        await carry_through(self._drop(claim, lock))

    async def finish(self) -> None:
        """Wait for what is being removed; what cannot be is left to the next sweep."""
        if self._removals:
            await carry_through(asyncio.wait(tuple(self._removals)))

    def is_alive(self, holder: str) -> bool:
        """Whether a claim's holder works still; blocking.

        Args:
            holder: As `holder_of` gives it.
        """
        return is_locked(self._directory / holder / "lock")

    async def sweep(self) -> tuple[str, ...]:
        """Remove what crashed processes left; returns the names removed."""
        abandoned: list[tuple[Path, LockFile]] = []

        async def take() -> None:
            abandoned.extend(await asyncio.to_thread(self._take_abandoned))

        swept = []
        try:
            # A lock that was taken for nobody would keep everybody else from sweeping.
            await carry_through(take())
            for claim, lock in abandoned:
                await carry_through(self._drop(claim, lock))
                swept.append(claim.name)
        finally:
            for claim, lock in abandoned:
                # To lock what its holder was just removing has made it again: it goes even when
                # nobody waits for the others.
                _remove_shell(claim)
                lock.release()
        return tuple(swept)

    async def _drop(self, claim: Path, lock: LockFile) -> None:
        try:
            if not _remove_shell(claim):
                # The lock's file stays while there is something to remove: a sweep that found
                # none would make it again, and remove the same tree beside us.
                await self._remove_tree(claim / "work")
                _remove_shell(claim)
        finally:
            lock.release()

    async def _make(self, purpose: str) -> tuple[Path, LockFile]:
        await asyncio.to_thread(self._make_directory)
        claim = self._directory / f"{purpose}-{os.urandom(8).hex()}"
        lock = LockFile(claim / "lock")
        # Shared: makers go together, but no sweep between the directory and its lock.
        gate = LockFile(self._directory / ".gate")
        await gate.acquire(is_shared=True)
        try:
            # Two calls on a local directory: not worth a thread, and not to be cancelled between.
            (claim / "work").mkdir(mode=0o700, parents=True)
            lock.acquire_now()
        except OSError as error:
            raise_store_error(error, claim)
        finally:
            gate.release()
        return claim, lock

    def _make_directory(self) -> None:
        make_directory(self._directory)
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise_store_error(error, self._directory)
        try:
            # What is unpacked here is renamed as a whole, and stays where it lies on the disk.
            spread_subdirectories(descriptor)
        finally:
            os.close(descriptor)

    def _take_abandoned(self) -> list[tuple[Path, LockFile]]:
        if not self._directory.is_dir():
            return []
        gate = LockFile(self._directory / ".gate")
        if not gate.try_acquire():
            return []  # Somebody is making or sweeping: what is left waits for the next start.
        abandoned = []
        try:
            with os.scandir(self._directory) as entries:
                claims = [
                    self._directory / entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
            for claim in sorted(claims):
                lock = LockFile(claim / "lock")
                # Its holder may be done with it by now, and the directory gone.
                with contextlib.suppress(StoreError):
                    if lock.try_acquire():
                        abandoned.append((claim, lock))
        finally:
            gate.release()
        return abandoned


async def _wait(removal: asyncio.Task[None], seconds: float | None) -> None:
    await asyncio.wait((removal,), timeout=seconds)
    if removal.done() and (error := removal.exception()) is not None:
        raise error


def holder_of(work: Path) -> str:
    """The name of a claim, by the directory that it gave."""
    return work.parent.name


def _remove_shell(claim: Path) -> bool:
    """Remove a claim whose content has found its place; False if it has some left.

    The rest is ours and two entries large: no work for another process.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(claim / "work")
        (claim / "lock").unlink(missing_ok=True)
        os.rmdir(claim)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
