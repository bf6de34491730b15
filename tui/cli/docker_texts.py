"""Times, ages and sizes in Docker's words, for the fields of `--format`.

The rules are those of docker/go-units: `HumanDuration`, `HumanSize` and `BytesSize`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.types import ContainerSummary

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_HOUR, _DAY = 3600, 86_400


def duration(seconds: float) -> str:
    """`Less than a second`, `5 seconds`, `About a minute`, `3 hours`, `2 weeks`."""
    whole = int(seconds)
    if whole < 60:
        return "Less than a second" if whole < 1 else _count(whole, "second")
    if whole < _HOUR:
        minutes = whole // 60
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < limit * 24:
            return f"{hours // 24 // length} {unit}"
    return f"{int(seconds / _DAY / 365)} years"


def _count(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def ago(since: float | None, *, now: float) -> str:
    """`2 minutes ago`; `N/A` for a time that is not known."""
    return "N/A" if since is None else f"{duration(now - since)} ago"


def moment(since: float | None) -> str:
    """`2026-01-31 10:00:00 +0000 UTC`, by the clock of this place."""
    if since is None:
        return "N/A"
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(since))


def rfc3339(seconds: float | None) -> str:
    """`2026-01-31T10:00:00.123456789Z`; Go's zero time for one that has not been."""
    if seconds is None:
        return "0001-01-01T00:00:00Z"
    whole = int(seconds)
    nanoseconds = f"{int(round(seconds - whole, 9) * 1e9):09}".rstrip("0")
    fraction = f".{nanoseconds}" if nanoseconds else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def size(size_bytes: int, *, digits: int = 3) -> str:
    """`12.3kB`, `117MB`."""
    return _scaled(size_bytes, 1000.0, _DECIMAL, digits)


def binary_size(size_bytes: int) -> str:
    """`1.5GiB`, `6.105MiB`."""
    return _scaled(size_bytes, 1024.0, _BINARY, 4)


def _scaled(size_bytes: int, base: float, units: tuple[str, ...], digits: int) -> str:
    value, index = float(size_bytes), 0
    while value >= base and index < len(units) - 1:
        value /= base
        index += 1
    return f"{value:.{digits}g}{units[index]}" if value < 1000 else f"{value:.0f}{units[index]}"


def status(container: ContainerSummary, *, now: float) -> str:
    """`Up 2 minutes (Paused)`, `Exited (0) 3 hours ago`, `Created`."""
    up = duration(now - (container.started_at or now))
    match container.status:
        case ContainerStatus.RUNNING:
            health = {"": "", "starting": " (health: starting)"}.get(
                container.health, f" ({container.health})"
            )
            return f"Up {up}{health}"
        case ContainerStatus.PAUSED:
            return f"Up {up} (Paused)"
        case ContainerStatus.RESTARTING:
            ended = ago(container.finished_at, now=now)
            return f"Restarting ({container.exit_code or 0}) {ended}"
        case ContainerStatus.REMOVING:
            return "Removal In Progress"
        case ContainerStatus.EXITED:
            return f"Exited ({container.exit_code}) {ago(container.finished_at, now=now)}"
        case ContainerStatus.CREATED | ContainerStatus.DEAD:
            return container.status.value.capitalize()


def labels(pairs: tuple[tuple[str, str], ...]) -> str:
    """`a=1,b=2`, sorted."""
    return ",".join(f"{name}={value}" for name, value in sorted(pairs))
