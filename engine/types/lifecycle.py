"""What becomes of a container when it ends, how its health is known, and what can be changed."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a container that has ended is started again.

    Attributes:
        name: `no`, `always`, `unless-stopped` or `on-failure`.
        maximum_retry_count: Of `on-failure`; 0 is no limit.
    """

    name: str = "no"
    maximum_retry_count: int = 0

    def __str__(self) -> str:
        """As `--restart` takes it."""
        count = self.maximum_retry_count
        return f"{self.name}:{count}" if count else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How a container's health is asked for.

    In a request, what is left out (the defaults here) is as the image says, or else Docker's
    default; elsewhere everything is filled in.
    """

    command: tuple[str, ...] = ()
    """`CMD` and words, `CMD-SHELL` and a line for the shell, or `NONE`."""
    interval_seconds: float = 0.0
    timeout_seconds: float = 0.0
    start_period_seconds: float = 0.0
    start_interval_seconds: float = 0.0
    """Between probes within the start period, until the first success."""
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe:
    """One run of a health check's command."""

    started_at: float
    finished_at: float
    exit_code: int
    """0 is healthy; -1 took too long or could not be started."""
    output: str
    """The first 4096 bytes, as the command wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHealth:
    """What is known of a container's health."""

    status: str
    """`starting`, `healthy` or `unhealthy`."""
    failing_streak: int
    """Failures in a row that counted."""
    probes: tuple[HealthProbe, ...]
    """The last five, the newest last."""
