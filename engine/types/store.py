"""What a check of the store finds."""

from __future__ import annotations

from enum import StrEnum

from engine.late_dataclasses import dataclass


class ProblemKind(StrEnum):
    """What a problem is about."""

    DATABASE = "database"
    IMAGE = "image"
    BLOB = "blob"
    LAYER = "layer"
    CONTAINER = "container"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProblem:
    """Something in the store that is not as it should be."""

    kind: ProblemKind
    subject: str
    """An id, a digest, a chain id or a path."""
    text: str
    """What is wrong, one sentence without a full stop."""
    details: tuple[str, ...] = ()
    """Of a layer: the first paths that differ."""
    image_names: tuple[str, ...] = ()
    """Of the images that have it; the short id of one without a name."""
    is_repaired: bool = False
    remedy: str = ""
    """What was done about it, or what a person can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheck:
    """What was looked at, and what was found."""

    image_count: int
    layer_count: int
    blob_count: int
    read_bytes: int
    problems: tuple[StoreProblem, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong any more."""
        return all(problem.is_repaired for problem in self.problems)
