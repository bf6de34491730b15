"""Blobs: content named by its digest. Everything here blocks; call it from a worker thread."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Self

from engine.errors import DigestMismatchError, InvalidInputError, StoreError
from engine.oci.digests import digest_hex, digest_of
from engine.store.durability import make_directory, raise_store_error, sync_directory, write_all
from engine.types import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


class BlobStore:
    """The directory `blobs/sha256`, in which a file's name is the digest of its content."""

    def __init__(self, directory: Path) -> None:
        """Use `<directory>/sha256`, which is made when first written to."""
        self._directory = directory / "sha256"

    def path(self, digest: str) -> Path:
        """Where a blob is or would be.

        Raises:
            InvalidInputError: Not a sha256 digest.
        """
        return self._directory / digest_hex(digest)

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def size_bytes(self, digest: str) -> int:
        """Size of a blob; 0 when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def open(self, digest: str) -> int:
        """Open a blob for reading and return the descriptor, which the caller closes.

        Raises:
            StoreError: The blob is missing, or cannot be opened.
        """
        path = self.path(digest)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise _missing(digest) from error
        except OSError as error:
            raise_store_error(error, path)

    def read(self, digest: str, *, maximum_bytes: int) -> bytes:
        """Read a small blob whole (a manifest, a config) and check it against its name.

        Raises:
            StoreError: It is missing or larger than `maximum_bytes`.
            DigestMismatchError: The file was damaged.
        """
        descriptor = self.open(digest)
        with open(descriptor, "rb") as file:
            content = file.read(maximum_bytes + 1)
        if len(content) > maximum_bytes:
            raise StoreError(f"blob {digest} is larger than {maximum_bytes} bytes")
        actual = digest_of(content)
        if actual != digest:
            raise DigestMismatchError(str(self.path(digest)), expected=digest, actual=actual)
        return content

    def writer(self, staging: Path) -> BlobWriter:
        """Begin a new blob in a staging directory on the same file system.

        Raises:
            NoSpaceError: The disk is full.
        """
        return BlobWriter(self, staging)

    def add(self, content: bytes, staging: Path) -> Digest:
        """Store bytes at hand and return their digest."""
        with self.writer(staging) as writer:
            writer.write(content)
            return writer.commit()

    def adopt(self, path: Path, digest: Digest) -> None:
        """Rename a complete, verified and synced file of the same file system into place.

        Raises:
            StoreError: It cannot be renamed.
        """
        target = self.path(digest)
        make_directory(self._directory)
        try:
            path.rename(target)
            sync_directory(self._directory)
        except OSError as error:
            raise_store_error(error, target)

    def remove(self, digest: str) -> int:
        """Remove a blob and return the bytes freed; 0 when it was not here."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise_store_error(error, path)
        return size

    def digests(self) -> Iterator[Digest]:
        """Every blob that is here, in no order; other names in the directory are passed over."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                digest = f"sha256:{entry.name}"
                with contextlib.suppress(InvalidInputError):
                    digest_hex(digest)
                    yield Digest(digest)

    def total_bytes(self) -> int:
        """What all blobs occupy."""
        return sum(self.size_bytes(digest) for digest in self.digests())


class BlobWriter:
    """Takes a blob's content piece by piece; leaving the block without commit drops it."""

    def __init__(self, store: BlobStore, staging: Path) -> None:
        self._store = store
        self._path = staging / f"blob-{os.urandom(8).hex()}"
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        try:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise_store_error(error, self._path)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._size_bytes

    def write(self, chunk: bytes | memoryview) -> None:
        """Add to the content.

        Raises:
            NoSpaceError: The disk is full.
        """
        self._hash.update(chunk)
        self._size_bytes += len(chunk)
        try:
            write_all(self._descriptor, chunk)
        except OSError as error:
            raise_store_error(error, self._path)

    def commit(self, expected: Digest | None = None) -> Digest:
        """Sync, verify and rename the blob into place.

        Raises:
            DigestMismatchError: The content is not what `expected` names; nothing is stored.
        """
        actual = Digest(f"sha256:{self._hash.hexdigest()}")
        if expected is not None and actual != expected:
            raise DigestMismatchError(expected, expected=expected, actual=actual)
        if self._store.has(actual):
            self.close()
            return actual
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise_store_error(error, self._path)
        self._store.adopt(self._path, actual)
        self.close()
        return actual

    def close(self) -> None:
        """Drop what was not committed; without effect afterwards."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _missing(digest: str) -> StoreError:
    return StoreError(
        f"blob {digest} is missing from the store",
        hint="Remove the image and load it again",
    )
