"""Blobs on their way here: `<root>/downloads/<digest's hex>/content`, with a lock beside each.

What has arrived of a blob outlives whoever fetched it, also a kill, and is gone on with. It is
content without a name: whoever unpacks it verifies the digest, and only then is it a blob.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from engine.oci.digests import digest_hex, is_digest
from engine.store.durability import make_directory, raise_store_error, write_all
from engine.store.locks import LockFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterable, Iterator
    from pathlib import Path

_CONTENT_NAME = "content"
_LOCK_NAME = "lock"


class DownloadArea:
    """The downloads of one store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.asynccontextmanager
    async def claim(self, digest: str, *, size_bytes: int) -> AsyncIterator[Download]:
        """Hold what has arrived of a blob; waits while somebody else fetches it.

        Args:
            digest: Of the blob.
            size_bytes: Of the whole blob; what is longer cannot be it, and is dropped.

        Raises:
            NoSpaceError: The disk is full.
        """
        lock = self._lock(digest)
        await asyncio.to_thread(make_directory, self._directory)
        await lock.acquire()
        try:
            path = lock.path.with_name(_CONTENT_NAME)
            download = await asyncio.to_thread(Download, path, size_bytes=size_bytes)
            try:
                yield download
            finally:
                download.close()
        finally:
            lock.release()

    def keep(self, digest: str, content: bytes) -> None:
        """Keep a small blob that has arrived whole, unless somebody else fetches it; blocking.

        Raises:
            NoSpaceError: The disk is full.
        """
        make_directory(self._directory)
        lock = self._lock(digest)
        if not lock.try_acquire():
            return
        try:
            path = lock.path.with_name(_CONTENT_NAME)
            with contextlib.closing(Download(path, size_bytes=len(content))) as download:
                download.clear()
                download.append(content)
        finally:
            lock.release()

    def read(self, digest: str, *, maximum_bytes: int) -> bytes:
        """What has arrived of a small blob, not verified; empty for nothing. Blocking."""
        path = self._lock(digest).path.with_name(_CONTENT_NAME)
        try:
            with path.open("rb") as file:
                return file.read(maximum_bytes)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise_store_error(error, path)

    def discard(self, digests: Iterable[str]) -> None:
        """Remove what has arrived of blobs that nobody has claimed; blocking."""
        for digest in digests:
            lock = self._lock(digest)
            if lock.path.parent.is_dir():
                self._remove(lock)

    def arrived_bytes(self, digests: Iterable[str]) -> int:
        """How much of some blobs has arrived; blocking."""
        found = 0
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                found += self._lock(digest).path.with_name(_CONTENT_NAME).stat().st_size
        return found

    def sweep(self, *, unused_seconds: float = 0, kept: Container[str] = ()) -> int:
        """Remove what nobody has claimed or added to for some time; blocking.

        Args:
            unused_seconds: For how long.
            kept: Digests that are passed over.

        Returns:
            The bytes freed.
        """
        freed_bytes = 0
        newest = time.time() - unused_seconds
        for digest in self._digests():
            if digest in kept:
                continue
            lock = self._lock(digest)
            content = lock.path.with_name(_CONTENT_NAME)
            try:
                status = content.stat()
            except FileNotFoundError:
                continue  # Somebody begins or ends with it now.
            if status.st_mtime <= newest and self._remove(lock):
                freed_bytes += status.st_size
        return freed_bytes

    def _lock(self, digest: str) -> LockFile:
        return LockFile(
            self._directory / digest_hex(digest) / _LOCK_NAME,
            what=f"Fetching {digest}",
            is_removed_with_directory=True,
        )

    def _digests(self) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if is_digest(digest := f"sha256:{entry.name}"):
                    yield digest

    def _remove(self, lock: LockFile) -> bool:
        if not lock.try_acquire():
            return False
        try:
            lock.path.with_name(_CONTENT_NAME).unlink(missing_ok=True)
            lock.path.unlink(missing_ok=True)
            # Whoever waits for the lock may be making it again.
            with contextlib.suppress(OSError):
                lock.path.parent.rmdir()
        except OSError as error:
            raise_store_error(error, lock.path)
        finally:
            lock.release()
        return True


class Download:
    """What has arrived of one blob; every method blocks, and may raise NoSpaceError."""

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            self.arrived_bytes = os.fstat(self._descriptor).st_size
            if self.arrived_bytes > size_bytes:
                self.clear()
        except OSError as error:
            raise_store_error(error, path)

    @property
    def is_whole(self) -> bool:
        """Whether every byte has arrived; not whether they are the right ones."""
        return self.arrived_bytes == self._size_bytes

    def append(self, chunk: bytes) -> None:
        """Add what comes next."""
        try:
            write_all(self._descriptor, chunk)
        except OSError as error:
            raise_store_error(error, self._path)
        self.arrived_bytes += len(chunk)

    def clear(self) -> None:
        """Begin again."""
        os.ftruncate(self._descriptor, 0)
        self.arrived_bytes = 0

    def link_to(self, path: Path) -> None:
        """Give the file a second name, which keeps it when the first one goes."""
        try:
            os.link(self._path, path, follow_symlinks=False)
        except OSError as error:
            raise_store_error(error, path)

    def close(self) -> None:
        """Let go of the file; without effect afterwards."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
