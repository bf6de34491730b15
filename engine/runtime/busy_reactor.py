"""The reactor of a process that has many connections: epoll(7), and deadlines in a heap.

One with a handful of descriptors is better off with poll(2), which needs no descriptor and no
state in the kernel.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import time
from typing import TYPE_CHECKING

from engine.runtime.reactor import Deadline, Reactor

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_EVENTS = 256
_FEW = 256


class BusyReactor(Reactor):
    """As a Reactor, whose cost of an event does not grow with what is watched."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._most_kept = _FEW

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()

    def expect(self, descriptor: int, events: int) -> None:
        """Change the events that are waited for; with none not even a hang-up is told."""
        if not events:
            self._unregister(descriptor)
            return
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def _unregister(self, descriptor: int) -> None:
        # One that was expected to do nothing is not registered.
        with contextlib.suppress(FileNotFoundError):
            self._epoll.unregister(descriptor)

    def _await_events(self, milliseconds: float | None) -> list[tuple[int, int]]:
        seconds = None if milliseconds is None else milliseconds / 1000
        return self._epoll.poll(seconds, _MOST_EVENTS)

    def after(self, seconds: float, action: Callable[[], None]) -> Deadline:
        """Do something when so many seconds have passed."""
        deadline = Deadline(time.monotonic() + seconds, action)
        self._count += 1
        heapq.heappush(self._heap, (deadline.moment, self._count, deadline))
        if len(self._heap) > self._most_kept:
            self._forget_cancelled()
        return deadline

    def _forget_cancelled(self) -> None:
        """Keep no more of them than of others: who has a say in it could make any number."""
        self._heap = [entry for entry in self._heap if entry[2].is_pending]
        heapq.heapify(self._heap)
        self._most_kept = 2 * len(self._heap) + _FEW

    def _milliseconds_left(self) -> float | None:
        while self._heap and not self._heap[0][2].is_pending:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        return max(0.0, (self._heap[0][0] - time.monotonic()) * 1000 + 1)

    def _fire_deadlines(self) -> None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2].fire()
