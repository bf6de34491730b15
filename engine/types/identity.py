"""Names and words that everything else is made of."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

ImageId = NewType("ImageId", str)
"""`sha256:` and 64 hexadecimal digits: the digest of the image's config."""
ContainerId = NewType("ContainerId", str)
"""64 hexadecimal digits."""
Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""
DiffId = NewType("DiffId", str)
"""Digest of a layer's uncompressed tar (OCI image-spec, config.md)."""
ChainId = NewType("ChainId", str)
"""Digest of a layer and all below it (OCI image-spec, config.md)."""


class ContainerStatus(StrEnum):
    """Docker's container states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class FileKind(StrEnum):
    """What a path in a layer is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "fifo"
    WHITEOUT = "whiteout"


class ChangeKind(StrEnum):
    """What a layer does to a path of the layers below it."""

    UNCHANGED = "unchanged"
    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"


class OutputStream(StrEnum):
    """Where a log line came from."""

    STDOUT = "stdout"
    STDERR = "stderr"
