"""What the jobs share, and what crosses to jobs that commands ask for.

Who only asks need not load what does the work.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

DATA_NAME = "_data"
"""Of a volume's directory: its files."""


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


class FillArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Fill a volume from an image. Descriptors: the volume's directory, an empty staging one.

    Attributes:
        layer_paths: Layer directories (with `diff` and `index`), bottom first.
        path_hex: Where the volume is mounted in the container.
    """

    layer_paths: tuple[str, ...]
    path_hex: str
