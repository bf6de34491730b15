"""The lowest layer of every container: empty places for what is mounted into it.

It makes the mount points exist without their showing up in the writable layer.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.linux.files import rename_exclusively
from engine.linux.tree_removal import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

STUB_DIRECTORIES = (b"dev", b"proc", b"sys", b"etc")
STUB_FILES = (b"etc/hosts", b"etc/hostname", b"etc/resolv.conf")
STUB_PATHS = frozenset((*STUB_DIRECTORIES, *STUB_FILES))
# Part of the name: a layer that containers may use is never changed.
_VERSION = "1"


def stubs_path(root: Path) -> Path:
    """Where the stub layer of a store is."""
    return root / "stubs" / _VERSION


def make_stubs(root: Path) -> Path:
    """Make the stub layer unless it is there; blocking. Safe against others doing the same.

    Raises:
        OSError: The store cannot be written.
    """
    path = stubs_path(root)
    if path.is_dir():
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    name = f".{os.urandom(8).hex()}".encode()
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
        try:
            _fill(made)
        finally:
            os.close(made)
        try:
            rename_exclusively(parent, name, parent, _VERSION.encode())
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
    finally:
        remove_tree(parent, name)
        os.close(parent)
    return path


def _fill(directory: int) -> None:
    for path in STUB_DIRECTORIES:
        os.mkdir(path, dir_fd=directory)
        _set_mode(directory, path, os.O_RDONLY | os.O_DIRECTORY, 0o755)
    for path in STUB_FILES:
        _set_mode(directory, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.fchmod(directory, 0o755)
    os.fsync(directory)


def _set_mode(directory: int, path: bytes, flags: int, mode: int) -> None:
    """Open or make, and set the mode, which the umask would narrow."""
    descriptor = os.open(path, flags, mode, dir_fd=directory)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
