"""What the jobs share: how they tell progress, and how they write a layer's index.

Arguments and results of jobs that most commands ask for are here too: who only asks need not load
what does the work.
"""

from __future__ import annotations

import os
from typing import Protocol

import msgspec

from engine.snapshots.index import INDEX_NAME, LayerIndex, encode_index


class Reporter(Protocol):
    """Sends progress to who asked for the job."""

    def __call__(self, progress: bytes, /) -> None:
        """Send one message; blocking."""


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come; `total` 0 is not known."""

    done: int
    total: int


class TreeSize(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory tree holds."""

    size_bytes: int
    entry_count: int


class CopyArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Copy the merged tree of layers. Descriptor: an empty directory.

    Attributes:
        layer_paths: Layer directories (with `diff` and `index`), bottom first.
    """

    layer_paths: tuple[str, ...]


class PrepareArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Give a new `upper` directory the root's look. Descriptor: `upper`.

    Attributes:
        lower_path: `diff` of the image's topmost layer.
    """

    lower_path: str


def write_index(directory: int, index: LayerIndex) -> None:
    """Write the index of a layer into its directory (descriptor); nothing is synced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(INDEX_NAME.encode(), flags, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(encode_index(index))
