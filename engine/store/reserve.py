"""Space that is kept back, so that room can be made when the disk is full.

SQLite cannot even open its database on a disk without a free block: the files beside it (WAL and
shared memory) are made anew by whoever comes first. A file that holds nothing is given up then.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_NAME = "reserve"
_RESERVE_BYTES = 1 << 20
_PLENTY_BYTES = 8 * _RESERVE_BYTES
_FULL_BYTES = 1 << 16


def is_full(directory: Path) -> bool:
    """Whether a file system has next to no space for us; blocking."""
    return _free_bytes(directory) < _FULL_BYTES


def keep_reserve(directory: Path) -> None:
    """Make the reserve if it is missing and there is plenty of space; blocking."""
    path = directory / RESERVE_NAME
    with contextlib.suppress(OSError):
        if path.exists() or _free_bytes(directory) < _PLENTY_BYTES:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
        finally:
            os.close(descriptor)


def give_up_reserve(directory: Path) -> bool:
    """Free the reserve; False if there was none. Blocking."""
    try:
        (directory / RESERVE_NAME).unlink()
    except OSError:
        return False
    return True


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
