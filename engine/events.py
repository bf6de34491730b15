"""Events: what happened to containers, images and volumes, as Docker names it.

An event is one JSON line of `<root>/events.jsonl`, appended with a single write(2) by the process
that made it happen; every engine over the store tails that file. `EventBus` spreads them inside
one engine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class EventSubject(StrEnum):
    """What an event is about."""

    CONTAINER = "container"
    IMAGE = "image"
    VOLUME = "volume"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        time_ns: Nanoseconds since the epoch.
        subject: Container, image, volume or network.
        action: Docker's word: create, start, die, stop, kill, oom, pause, unpause, restart,
            rename, destroy; load, tag, untag, delete; mount, unmount, prune; connect, disconnect.
        subject_id: Container id or image id, whole; a volume's name.
        name: Container name, image name, volume name or network name at that time.
        attributes: Further facts, such as `exitCode` or `signal`, as text.
    """

    time_ns: int
    subject: EventSubject
    action: str
    subject_id: str
    name: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def attribute(self, key: str) -> str | None:
        """Look one attribute up; None when the event does not have it."""
        return next((value for name, value in self.attributes if name == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped:
    """A subscriber was too slow: `count` events are missing here; read the state afresh."""

    count: int


class EventSubscription:
    """One subscriber's bounded queue; when it is full the oldest event is dropped and counted."""

    def __init__(self, capacity: int) -> None:
        self._queue: deque[Event] = deque(maxlen=capacity)
        self._dropped = 0
        self._wake = asyncio.Event()
        self._is_closed = False

    def _put(self, event: Event) -> None:
        if len(self._queue) == self._queue.maxlen:
            self._dropped += 1
        self._queue.append(event)
        self._wake.set()

    def _close(self) -> None:
        self._is_closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Event | EventsDropped]:
        """Yield events as they come, until the bus is closed."""
        while True:
            if self._dropped:
                count, self._dropped = self._dropped, 0
                yield EventsDropped(count=count)
            while self._queue:
                yield self._queue.popleft()
            if self._is_closed:
                return
            self._wake.clear()
            await self._wake.wait()


class EventBus:
    """Spreads events to subscribers of one event loop; never blocks the publisher."""

    def __init__(self) -> None:
        self._subscriptions: list[EventSubscription] = []

    def publish(self, event: Event) -> None:
        """Hand an event to every subscriber. Call on the loop's thread."""
        for subscription in self._subscriptions:
            subscription._put(event)

    @contextlib.contextmanager
    def subscribe(self, *, capacity: int = 1024) -> Iterator[EventSubscription]:
        """Subscribe from now on, until the block ends."""
        subscription = EventSubscription(capacity)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription._close()

    def close(self) -> None:
        """End every subscription after what it has queued."""
        for subscription in self._subscriptions:
            subscription._close()
