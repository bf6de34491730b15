"""Files of layers, and what a layer changes."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types.identity import ChangeKind, ContainerId, FileKind


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One path of a layer, marked with what it does to the layers below."""

    path: str
    """Relative, `/` between names, no leading slash; `surrogateescape` for odd bytes."""
    kind: FileKind
    mode: int
    """Permission bits with setuid, setgid and sticky (07777)."""
    user_id: int
    group_id: int
    size_bytes: int
    modified_at: float
    link_target: str
    """Of symbolic and hard links; else empty."""
    change: ChangeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTree:
    """The files of one layer (or of a stack of layers), sorted so that parents come first."""

    title: str
    entries: tuple[FileEntry, ...]
    size_bytes: int
    is_complete: bool = True
    """False when the entries were capped; `notice` then says at what."""
    notice: str = ""


MAXIMUM_VIEWED_BYTES = 1 << 20
"""What is read of a file that somebody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """A file of a layer, to look at."""

    path: str
    """As in FileEntry."""
    size_bytes: int
    """Of the whole file."""
    content: bytes
    """Its beginning: no more than MAXIMUM_VIEWED_BYTES. Holes are zeros."""

    @property
    def is_complete(self) -> bool:
        """Whether this is all of it."""
        return len(self.content) == self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """One path that differs between the writable layer and the image."""

    path: str
    """Relative, as in FileEntry."""
    change: ChangeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableLayer:
    """The state of a container's writable layer."""

    container_id: ContainerId
    size_bytes: int
    entry_count: int
