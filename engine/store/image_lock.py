"""The image lock: what is in place and recorded, and what is deleted, is decided under it.

Shared by who claims, and by who puts layers and blobs into place with their records; exclusive
for who decides that something is needed no more and takes it out of its place. Nobody holds it
while bytes are moved: downloads, unpacking and the removal of trees happen without it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.store.locks import LockFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


class ImageLock:
    """The lock of one store's images, `<root>/images.lock`."""

    def __init__(self, root: Path) -> None:
        """Touches nothing."""
        self._path = root / "images.lock"

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold it with others like this one; waits for a collector."""
        async with self._held(is_shared=True):
            yield

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold it alone; waits for everybody."""
        async with self._held(is_shared=False):
            yield

    @contextlib.contextmanager
    def exclusive_now(self) -> Iterator[bool]:
        """Hold it alone if nobody has it; yields whether."""
        lock = self._lock()
        has_lock = lock.try_acquire()
        try:
            yield has_lock
        finally:
            lock.release()

    @contextlib.asynccontextmanager
    async def _held(self, *, is_shared: bool) -> AsyncIterator[None]:
        lock = self._lock()
        await lock.acquire(is_shared=is_shared)
        try:
            yield
        finally:
            lock.release()

    def _lock(self) -> LockFile:
        return LockFile(self._path, what="Adding or removing images")
