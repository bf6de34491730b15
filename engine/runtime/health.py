"""What probes make of a container's health, and when the next one is due.

The rules are Docker's (moby daemon/health.go): exit code 0 is healthy at once, as many failures
in a row as there are retries are unhealthy, and failures before the end of the start period do
not count as long as none has succeeded. Times are counted from the end of the probe before.
"""

from __future__ import annotations

from dataclasses import replace

from engine.late_dataclasses import dataclass

STARTING = "starting"
HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
MOST_OUTPUT_BYTES = 4096
MOST_RESULTS = 5
TIMED_OUT = -1
"""Exit code of a probe that took too long, or could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """How health is asked for; every value is filled in.

    Attributes:
        arguments: The probe's whole command line.
        interval_seconds: Between the end of a probe and the next one.
        timeout_seconds: After which a probe is killed and has failed.
        start_period_seconds: From the start, in which failures do not count.
        start_interval_seconds: Takes the place of the interval within the start period, until
            the first success.
        retries: So many failures in a row are unhealthy.
    """

    arguments: tuple[str, ...]
    interval_seconds: float
    timeout_seconds: float
    start_period_seconds: float
    start_interval_seconds: float
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One probe; what it wrote may hold anything."""

    started_at_ns: int
    finished_at_ns: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRecord:
    """What is known of a container's health; in its state.json.

    Attributes:
        status: STARTING, HEALTHY or UNHEALTHY.
        failing_streak: Failures in a row that counted.
        results: The newest last, MOST_RESULTS at most.
    """

    status: str = STARTING
    failing_streak: int = 0
    results: tuple[ProbeResult, ...] = ()


def seconds_until_probe(
    spec: HealthSpec, health: HealthRecord, since_start_seconds: float
) -> float:
    """How long after a probe, or the start, the next one is due."""
    if health.status == STARTING and since_start_seconds < spec.start_period_seconds:
        return spec.start_interval_seconds
    return spec.interval_seconds


def judge(
    spec: HealthSpec, health: HealthRecord, result: ProbeResult, *, started_at_ns: int
) -> HealthRecord:
    """What a probe's result makes of the health of a container that was started then."""
    health = replace(health, results=(*health.results, result)[-MOST_RESULTS:])
    if result.exit_code == 0:
        return replace(health, status=HEALTHY, failing_streak=0)
    since_start_seconds = (result.started_at_ns - started_at_ns) / 1e9
    if health.status == STARTING and since_start_seconds < spec.start_period_seconds:
        return health
    streak = health.failing_streak + 1
    status = UNHEALTHY if streak >= spec.retries else health.status
    return replace(health, status=status, failing_streak=streak)


def ended_health(health: HealthRecord | None) -> HealthRecord | None:
    """What is left of a container's health when it has ended: Docker calls that unhealthy."""
    return None if health is None else replace(health, status=UNHEALTHY)


def read_output(data: bytes) -> str:
    """The text of a probe's output, cut to what is kept, with a word that it was cut."""
    text = data[:MOST_OUTPUT_BYTES].decode("utf-8", "replace")
    return f"{text}..." if len(data) > MOST_OUTPUT_BYTES else text
