"""Volumes, and what is mounted into containers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """One mount of a container, as `-v`, `--mount` or `--tmpfs` asks for it.

    Attributes:
        kind: `bind`, `volume` or `tmpfs`.
        source: A path of the host, a volume's name, or empty for an anonymous volume.
        target: Absolute path in the container.
    """

    kind: str
    source: str
    target: str
    is_read_only: bool = False
