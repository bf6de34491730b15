"""Reading what was selected, wherever it is."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.errors import BuildSourceChangedError
from engine.linux.files import open_directory, read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PIECE_BYTES = 1 << 20
_PRIVATE_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"user.lamella.overlay.", b"security.se")
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO))


class SourceRoots:
    """Where the files of the sources are; directories stay open from one file to the next."""

    def __init__(self, roots: Sequence[Sequence[int]]) -> None:
        """Take, for each tree, the descriptors of its layers; a context has one."""
        self._roots = roots
        self._known: tuple[int, int, bytes] | None = None
        self._directory = -1

    def open(self, root: int, layer: int, path: bytes) -> int:
        """Open a file for reading; it is never waited for, and no link is followed.

        Raises:
            BuildSourceChangedError: It is not what it was.
        """
        parent, _, name = path.rpartition(b"/")
        try:
            if self._known != (root, layer, parent):
                self.close()
                self._directory = open_directory(self._roots[root][layer], parent or b".")
                self._known = (root, layer, parent)
            return os.open(name, _READ_FLAGS, dir_fd=self._directory)
        except OSError as error:
            if error.errno in _REPLACED:
                raise BuildSourceChangedError(os.fsdecode(path)) from None
            raise

    def close(self) -> None:
        """Close what is open."""
        if self._directory >= 0:
            os.close(self._directory)
        self._directory, self._known = -1, None


def file_pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """What a descriptor gives, up to so many bytes."""
    while size and (piece := os.read(descriptor, min(size, _PIECE_BYTES))):
        size -= len(piece)
        yield piece


def public_attributes(descriptor: int) -> tuple[tuple[bytes, bytes], ...]:
    """The attributes of a file that a layer may have, sorted."""
    return tuple(
        one for one in read_attributes(descriptor) if not one[0].startswith(_PRIVATE_XATTRS)
    )
