"""Writing what an archive has of a file into the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.snapshots.tar import TarEntry, TarReader


def write_all(descriptor: int, piece: bytes) -> None:
    """Write a whole piece at the descriptor's position."""
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def write_segments(descriptor: int, entry: TarEntry, reader: TarReader) -> None:
    """Write a sparse file's content where its map has it; what is between stays a hole."""
    segments = iter(entry.segments or ())
    left = 0
    for piece in reader.pieces():
        rest = piece
        while rest:
            while not left:
                offset, left = next(segments)
                os.lseek(descriptor, offset, os.SEEK_SET)
            part = rest[:left]
            write_all(descriptor, part)
            left -= len(part)
            rest = rest[len(part) :]
