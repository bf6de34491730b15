"""Values of options: memory sizes, processors, times, signals' timeouts, variables."""

from __future__ import annotations

import re
import time

from engine.errors import InvalidInputError, LimitError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def memory_bytes(text: str | None) -> int | None:
    """Read `512m`, `1.5g`, `1024k`, `6291456`; 0 and -1 are no limit and give 0."""
    size = size_bytes("--memory", text)
    if not size or size == -1:
        return None if size is None else 0
    if size < 6 << 20:
        raise LimitError("--memory", text or "", "at least 6 MB (6m)")
    return size


def size_bytes(option: str, text: str | None) -> int | None:
    """Read a size as `memory_bytes` does, 0 included; -1 stays what it is.

    Raises:
        LimitError: It is no size.
    """
    if text is None:
        return None
    if text.strip() == "-1":
        return -1
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise LimitError(option, text, "a number with b, k, m or g, such as 512m")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


def cpu_count(text: str | None) -> float | None:
    """Read `1.5`; 0 is no limit."""
    if text is None:
        return None
    try:
        count = float(text)
    except ValueError:
        count = -1.0
    # Not a number compares false with everything, so ask for what is right.
    if not 0 <= count < 100_000:
        raise LimitError("--cpus", text, "a number of processors, such as 1.5")
    return count


def pids(text: str | None) -> int | None:
    """Read a number of processes; -1 and 0 are no limit, None is the engine's own default."""
    return None if text is None else whole_number("--pids-limit", text, smallest=-1)


def whole_number(option: str, text: str, *, smallest: int = 0) -> int:
    """Read a whole number.

    Raises:
        LimitError: It is no number, or smaller than the smallest.
    """
    try:
        number = int(text)
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise LimitError(option, text, f"a whole number, at least {smallest}")
    return number


def optional_number(option: str, text: str | None, *, smallest: int = 0) -> int | None:
    """Read a whole number as `whole_number` does; None when there is none."""
    return None if text is None else whole_number(option, text, smallest=smallest)


def timeout_seconds(option: str, text: str | None) -> float | None:
    """Read a timeout in seconds; -1 waits for ever, None is the container's own."""
    return None if text is None else float(whole_number(option, text, smallest=-1))


def duration_seconds(option: str, text: str) -> float:
    """Read a length of time as Docker takes it: `30s`, `1m30s`, `500ms`; `0` is none.

    Raises:
        InvalidInputError: It is none, or negative.
    """
    if text == "0":
        return 0.0
    if text.startswith("-") and re.fullmatch(rf"(?:{_DURATION.pattern})+", text[1:]):
        raise InvalidInputError(f"{option} cannot be negative")
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise LimitError(option, text, "a time such as 30s, 1m30s or 500ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def tail(text: str | None) -> int | None:
    """Read the number of lines of `--tail`; `all`, None and a negative number are all of them."""
    if text is None or text == "all":
        return None
    try:
        count = int(text)
    except ValueError:
        raise LimitError("--tail", text, "a number of lines, or all") from None
    return None if count < 0 else count


def moment_ns(option: str, text: str | None, *, now_ns: int | None = None) -> int | None:
    """Read a time: `10m` and `1h30m` are ago, else seconds since 1970 or RFC 3339."""
    if text is None:
        return None
    if re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        ago = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
        return (time.time_ns() if now_ns is None else now_ns) - int(ago * 1e9)
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    from datetime import datetime

    fraction_match = re.search(r"\.(\d{1,9})(?=Z|[+-]|$)", text)
    fraction = fraction_match[1] if fraction_match else ""
    whole = text.replace(f".{fraction}", "", 1) if fraction else text
    try:
        when = datetime.fromisoformat(whole)
        # A time without a zone is meant as the clock on this wall shows it.
        return int(when.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    except (ValueError, OverflowError, OSError):
        raise LimitError(
            option, text, "a time such as 10m, 2026-01-31T10:00:00 or seconds since 1970"
        ) from None


def environment(texts: tuple[str, ...], values: dict[str, str]) -> tuple[str, ...]:
    """Read `NAME=value`; a NAME alone takes its value from `values`, or is left out."""
    variables: list[str] = []
    for text in texts:
        name, has_value, _ = text.partition("=")
        if not name:
            raise InvalidInputError(f"invalid environment variable: {text!r}")
        if has_value:
            variables.append(text)
        elif name in values:
            variables.append(f"{name}={values[name]}")
    return tuple(variables)


def labels(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read `name=value`; a name alone has an empty value."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, _, value = text.partition("=")
        if not name:
            raise InvalidInputError(f"invalid label: {text!r}")
        pairs.append((name, value))
    return tuple(pairs)
