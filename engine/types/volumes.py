"""Volumes, as lists show them."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSummary:
    """One volume.

    Attributes:
        mount_point: The directory with its files, on the host.
        is_anonymous: It was made for one container, without a name of its own.
        container_names: Who uses it, running or not.
    """

    name: str
    created_at: float
    labels: tuple[tuple[str, str], ...]
    mount_point: str
    is_anonymous: bool
    container_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedVolumes:
    """What a prune removed."""

    names: tuple[str, ...]
    freed_bytes: int
