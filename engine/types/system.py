"""The store as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What the store occupies."""

    layers_bytes: int
    containers_bytes: int
    blobs_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything together."""
        return self.layers_bytes + self.containers_bytes + self.blobs_bytes
