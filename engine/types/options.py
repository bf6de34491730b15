"""What a container's processes may do, beyond what its image says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """Everything that `run` takes about privileges, namespaces, devices and process attributes."""

    group_add: tuple[str, ...] = ()
    """Further groups, by name or number."""
