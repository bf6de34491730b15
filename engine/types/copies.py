"""What is made of a container, and what is copied into it and out of it."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types.identity import ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """What the image that a container is turned into looks like."""

    name: str | None = None
    """Repository with or without a tag; None leaves the image without a name."""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions that change the config, such as `ENV A=1`."""
    is_pausing: bool = True
    """Freeze a running container while its files are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedImage:
    """An image that was made of a container."""

    image_id: ImageId
    name: str | None
    """The familiar name with tag."""
    size_bytes: int
    """Of the new layer, unpacked."""
    entry_count: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How files are copied."""

    keeps_owners: bool = False
    """Keep user, group, set-user-id bits and attributes; else who receives the files owns them."""
    is_following_link: bool = False
    """Copy what the source leads to when it is a symbolic link, under the link's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What was copied."""

    size_bytes: int
    """Of the files' contents; of the archive where one was written or read."""
    entry_count: int
    warnings: tuple[str, ...] = ()
