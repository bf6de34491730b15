"""How things reach the disk: content under a staging name, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Never

from engine.errors import NoSpaceError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def raise_store_error(error: OSError, path: Path) -> Never:
    """Turn an OSError on a path of the store into NoSpaceError or StoreError."""
    if error.errno in _NO_SPACE:
        raise NoSpaceError(str(path)) from error
    raise StoreError(
        f"{path}: {error.strerror or error}",
        hint="Check that the store's directory is writable and its disk healthy",
    ) from error


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Make a directory and its parents if missing; blocking.

    Raises:
        NoSpaceError: The disk is full.
        StoreError: It cannot be made, or something else has its name.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise_store_error(error, path)


def sync_directory(path: Path) -> None:
    """Make renames and removals in a directory durable; blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_record(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a small file as a whole: temporary file, fsync, rename, sync of the directory.

    Blocking. Readers see the old content or the new one. The temporary name carries the process
    id, so that two writers do not tread on each other; the last one wins.

    Raises:
        NoSpaceError: The disk is full; the old content stays.
        StoreError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode
        )
        try:
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise_store_error(error, path)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write everything, however often the kernel takes less; blocking.

    Raises:
        OSError: As os.write.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
