"""What `RUN --mount=type=cache` keeps from build to build."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Protocol

from engine.build.run_mounts import absolute_target
from engine.build.run_step import OwnedPath
from engine.errors import SyscallError
from engine.late_dataclasses import dataclass
from engine.store.locks import LockFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from engine.build.mounts import RunMount
    from engine.build.steps import RunStep

_DIRECTORY = "build-caches"
_DATA, _NAME, _LOCK = "data", "name", "lock"
_NEW = "new"
"""What becomes `data` when it has its look."""
_MOST_PRIVATE = 100


class OwnerGiver(Protocol):
    """Gives what was made to whom it belongs."""

    async def __call__(self, owned: tuple[OwnedPath, ...], /) -> tuple[str, ...]:
        """Do it; returns what could not be had, as sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCaches:
    """The caches of a step.

    Attributes:
        paths: By their number among its mounts.
    """

    paths: Mapping[int, Path]
    warnings: tuple[str, ...]


class CacheMounts:
    """The caches of one store.

    Each has a directory with `data`, `name` and `lock`. A build that has it holds the lock: shared
    by `sharing=shared`, alone by `locked`; with `private` the first one that nobody has is taken.
    """

    def __init__(self, root: Path, give: OwnerGiver) -> None:
        """Use those of a store."""
        self._root = root / _DIRECTORY
        self._give = give

    @contextlib.asynccontextmanager
    async def hold(self, step: RunStep) -> AsyncIterator[HeldCaches]:
        """Have the caches of a step for a block, by their number among its mounts.

        Waits for who has a locked one alone.

        Raises:
            StoreError: The store cannot be written.
        """
        async with contextlib.AsyncExitStack() as stack:
            paths: dict[int, Path] = {}
            # In one order for everybody: two steps with two caches must not wait for each other.
            wanted = sorted(
                (
                    (mount.identifier or absolute_target(step, mount.target), number, mount)
                    for number, mount in enumerate(step.mounts)
                    if mount.kind == "cache"
                ),
                key=lambda one: one[:2],
            )
            held: dict[str, Path] = {}
            warnings: list[str] = []
            for identity, number, mount in wanted:
                if identity not in held:
                    held[identity] = await self._take(stack, identity, mount, warnings)
                paths[number] = held[identity]
            yield HeldCaches(paths=paths, warnings=tuple(warnings))

    async def _take(
        self,
        stack: contextlib.AsyncExitStack,
        identity: str,
        mount: RunMount,
        warnings: list[str],
    ) -> Path:
        sharing = mount.sharing or "shared"
        for attempt in range(_MOST_PRIVATE):
            name = identity if attempt == 0 else f"{identity} {attempt}"
            directory = self._root / hashlib.sha256(name.encode()).hexdigest()
            await asyncio.to_thread(_make, directory, name)
            lock = LockFile(directory / _LOCK, what=f"The cache {identity}")
            if not (directory / _DATA).exists():
                # Whoever comes meanwhile waits until it has its look.
                await lock.acquire()
                try:
                    warnings += await self._make_data(directory / _DATA, identity, mount)
                finally:
                    lock.release()
            if sharing == "private":
                if not lock.try_acquire():
                    continue
            else:
                await lock.acquire(is_shared=sharing == "shared")
            stack.callback(lock.release)
            return directory / _DATA
        raise SyscallError("find a cache that nobody has", 11, identity)

    async def _make_data(self, data: Path, identity: str, mount: RunMount) -> tuple[str, ...]:
        """Make the directory unless it is there; its look is that of who makes it first."""
        new = data.with_name(_NEW)
        if not await asyncio.to_thread(_make_new, data, new, mount):
            return ()
        told: tuple[str, ...] = ()
        if mount.user or mount.group:
            told = await self._give(
                (
                    OwnedPath(
                        path=new,
                        user_id=mount.user or 0,
                        group_id=mount.group or 0,
                        what=f"cache {identity}",
                    ),
                )
            )
        await asyncio.to_thread(new.rename, data)
        return told


def _make(directory: Path, name: str) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / _NAME).write_text(name, encoding="utf-8", errors="surrogateescape")
        os.utime(directory)
    except OSError as error:
        raise SyscallError("make a cache", error.errno or 0, str(directory)) from error


def _make_new(data: Path, new: Path, mount: RunMount) -> bool:
    """Make what becomes the directory, unless that is there; what a killed build left goes."""
    try:
        if data.exists():
            return False
        with contextlib.suppress(FileNotFoundError):
            new.rmdir()
        new.mkdir(mode=0o755)
        new.chmod(0o755 if mount.mode is None else mount.mode)
    except OSError as error:
        raise SyscallError("make a cache", error.errno or 0, str(data)) from error
    return True


def list_caches(root: Path) -> list[tuple[str, Path]]:
    """Every cache of a store with its name; blocking."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(root / _DIRECTORY):
            with contextlib.suppress(OSError):
                directory = root / _DIRECTORY / entry.name
                name = (directory / _NAME).read_text(encoding="utf-8", errors="surrogateescape")
                found.append((name, directory))
    return sorted(found)
