"""Spans of time as Go writes and reads them: `1h30m`, `1.5s`, `100ms`."""

from __future__ import annotations

import re
from decimal import Decimal

_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_LARGEST = 2**63 - 1


def nanoseconds(text: str) -> int | None:
    """Read a duration; None when it is none, or one that 64 bits do not hold."""
    unsigned = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if unsigned == "0":
        return 0
    if not re.fullmatch(f"(?:{_PART.pattern})+", unsigned):
        return None
    total = sum(
        int(Decimal(number) * _NANOSECONDS[unit]) for number, unit in _PART.findall(unsigned)
    )
    if total > _LARGEST:
        return None
    return -total if text.startswith("-") else total


def duration_text(duration_nanoseconds: int) -> str:
    """Write a duration as Go's time.Duration.String does: `1m30s`, `500ms`, `0s`."""
    sign = "-" if duration_nanoseconds < 0 else ""
    rest = abs(duration_nanoseconds)
    if not rest:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if rest < size * 1000:
            return f"{sign}{_decimal(rest, size)}{unit}"
    seconds_text = f"{_decimal(rest % (60 * 10**9), 10**9)}s"
    minutes = rest // (60 * 10**9)
    if not minutes:
        return sign + seconds_text
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{f'{hours}h' if hours else ''}{minutes}m{seconds_text}"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
