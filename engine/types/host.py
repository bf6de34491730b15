"""What the host gives."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFeature:
    """One thing that the host gives or does not give.

    Attributes:
        name: Short, as the status line shows it: `overlay`, `cgroup v2`, `pause`.
        is_available: Whether it works here.
        detail: How it is had, or why it is not.
        remedy: What the person can do; empty when it is available.
    """

    name: str
    is_available: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What was found out about the host, once, at start."""

    is_root: bool
    kernel_release: str
    architecture: str
    """As images name it: `amd64`, `arm64`."""
    cgroup_mode: str
    """`v2`, `v1`, `hybrid` or `none`."""
    snapshotter: str
    """`overlay` or `copy`."""
    user_namespace: str
    """`host` for root, `range` (subordinate ids) or `single` (one id)."""
    features: tuple[HostFeature, ...]

    @property
    def warnings(self) -> tuple[HostFeature, ...]:
        """The features that are missing here, each with its remedy."""
        return tuple(feature for feature in self.features if not feature.is_available)
