"""Carries what a build tells from the engine's thread to the interface's."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import BuildChanged, BuildOutput, BuildStepChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.types import BuildEvent

MAXIMUM_WAITING_BYTES = 1 << 19
"""Output that waits for the interface; a terminal that is slower than a step loses the oldest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildNews:
    """What a build has told since somebody last looked."""

    whole: BuildChanged | None
    """Before the steps."""
    steps: tuple[BuildStepChanged, ...]
    output: tuple[BuildOutput, ...]
    lost_bytes: Mapping[int, int]
    """By position of the step: output that nobody took in time."""


class BuildFunnel:
    """A build's listener: keeps the last state of each step, and output in order.

    Args:
        wake: Called on the engine's thread when there is something to take.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._whole: BuildChanged | None = None
        self._steps: dict[int, BuildStepChanged] = {}
        self._output: deque[BuildOutput] = deque()
        self._output_bytes = 0
        self._lost: Counter[int] = Counter()

    def __call__(self, event: BuildEvent, /) -> None:
        """Take note; what is superseded is forgotten."""
        with self._lock:
            if isinstance(event, BuildChanged):
                self._whole = event
                self._steps.clear()
            elif isinstance(event, BuildStepChanged):
                self._steps[event.step.position] = event
            else:
                self._add_output(event)
        self._wake()

    def _add_output(self, output: BuildOutput) -> None:
        self._output.append(output)
        self._output_bytes += len(output.data)
        while self._output_bytes > MAXIMUM_WAITING_BYTES and len(self._output) > 1:
            oldest = self._output.popleft()
            self._output_bytes -= len(oldest.data)
            self._lost[oldest.position] += len(oldest.data)

    def take(self) -> BuildNews:
        """Take everything that waits."""
        with self._lock:
            news = BuildNews(
                whole=self._whole,
                steps=tuple(self._steps.values()),
                output=tuple(self._output),
                lost_bytes=dict(self._lost),
            )
            self._whole = None
            self._steps.clear()
            self._output.clear()
            self._output_bytes = 0
            self._lost.clear()
        return news
