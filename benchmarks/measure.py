"""Interleaved pairs, medians and ratios: noise of the machine meets both sides alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field

Timed = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        value: Our median.
        unit: Of both.
        spread: Our 95th percentile, or None for a single figure.
        peer: Who else was measured, or empty.
        peer_value: The peer's median.
        is_better_when_lower: Which way the ratio goes; it is above 1 when we are better.
        note: What must be known to read it.
    """

    what: str
    value: float
    unit: str
    spread: float | None = None
    peer: str = ""
    peer_value: float | None = None
    is_better_when_lower: bool = True
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if self.peer_value is None or not self.value or not self.peer_value:
            return None
        ratio = self.peer_value / self.value
        return ratio if self.is_better_when_lower else 1 / ratio

    def as_record(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio}


@dataclass
class Result:
    """What one row brought."""

    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


async def interleave(
    sides: dict[str, Timed], *, rounds: int, has_warmed_up: bool = False
) -> dict[str, list[float]]:
    """Measure every side once a round, in turns, after one round that does not count."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(has_warmed_up, rounds + 1):
        for name, side in sides.items():
            value = await side()
            if number:
                samples[name].append(value)
    return samples


def compare(
    what: str,
    samples: dict[str, list[float]],
    *,
    ours: str = "lamella",
    unit: str = "ms",
    scale: float = 1000.0,
    is_better_when_lower: bool = True,
    note: str = "",
) -> list[Figure]:
    """Make a line for each peer, or one alone when there is none."""
    own = [value * scale for value in samples[ours]]
    median = statistics.median(own)
    spread = sorted(own)[min(len(own) - 1, int(len(own) * 0.95))] if len(own) > 4 else None
    peers = [name for name in samples if name != ours]
    if not peers:
        return [Figure(what, median, unit, spread, note=note)]
    return [
        Figure(
            what,
            median,
            unit,
            spread,
            peer,
            statistics.median(samples[peer]) * scale,
            is_better_when_lower,
            note,
        )
        for peer in peers
    ]


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun


def table(figures: Iterable[Figure]) -> str:
    """Write the figures as a table that reads as Markdown too."""
    heads = ("what", "lamella", "p95", "peer", "peer's", "ratio", "note")
    rows = [heads, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.what,
        f"{figure.value:.4g} {figure.unit}",
        "" if figure.spread is None else f"{figure.spread:.4g}",
        figure.peer,
        "" if figure.peer_value is None else f"{figure.peer_value:.4g} {figure.unit}",
        "" if figure.ratio is None else f"{figure.ratio:.1f}x",
        figure.note,
    )
