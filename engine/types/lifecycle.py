"""What becomes of a container when it ends, and how its health is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a container that has ended is started again.

    Attributes:
        name: `no`, `always`, `unless-stopped` or `on-failure`.
        maximum_retry_count: Of `on-failure`; 0 is no limit.
    """

    name: str = "no"
    maximum_retry_count: int = 0
