"""What the parts of the fake engine share: a clock, numbers, events, and what tests set up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from typing import TYPE_CHECKING

from engine.events import Event, EventBus, EventSubject
from engine.types import ChangeKind, FileEntry, FileKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from engine.errors import EngineError
    from engine.events import EventSubscription

NOW = 1_800_000_000.0


def file_entry(
    path: str,
    *,
    change: ChangeKind = ChangeKind.ADDED,
    kind: FileKind = FileKind.FILE,
    size_bytes: int = 0,
    mode: int = 0o644,
) -> FileEntry:
    return FileEntry(
        path=path, kind=kind, mode=mode, user_id=0, group_id=0, size_bytes=size_bytes,
        modified_at=NOW, link_target="", change=change,
    )  # fmt: skip


def _is_within(event: Event, since_ns: int | None, until_ns: int | None) -> bool:
    is_late_enough = since_ns is None or event.time_ns >= since_ns
    return is_late_enough and (until_ns is None or event.time_ns <= until_ns)


class FakeWorld:
    """Lives on the loop that calls it; tests change it through the bridge, or before it opens.

    Attributes:
        calls: What was asked for that changes something, as (operation, argument).
        failures: Errors to raise, by operation; taken out when raised.
        gates: Operations that wait for an event before they go on.
    """

    def __init__(self) -> None:
        self._bus = EventBus()
        self.history: list[Event] = []
        self._numbers = itertools.count(1)
        self._ticks = itertools.count(1)
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, EngineError] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def follow_events(
        self, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[tuple[Event, ...]]:
        is_live_only = since_ns is None and until_ns is None
        with self._bus.subscribe() as subscription:
            past = () if is_live_only else tuple(self.history)
            if chosen := tuple(event for event in past if _is_within(event, since_ns, until_ns)):
                yield chosen
            left = None if until_ns is None else max(0.0, (until_ns - time.time_ns()) / 1e9)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    async for event in subscription:
                        if isinstance(event, Event) and _is_within(event, since_ns, until_ns):
                            yield (event,)

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        return self._bus.subscribe()

    def _new_hexadecimal(self) -> str:
        """64 digits that no other thing has, different from the beginning on."""
        return hashlib.sha256(str(next(self._numbers)).encode()).hexdigest()

    def _tick(self) -> float:
        """A time after every one that was given before."""
        return NOW + next(self._ticks)

    def _emit(
        self, subject: EventSubject, action: str, subject_id: str, name: str, /, **attributes: str
    ) -> None:
        event = Event(
            time_ns=time.time_ns(), subject=subject, action=action, subject_id=subject_id,
            name=name, attributes=tuple(attributes.items()),
        )  # fmt: skip
        self.history.append(event)
        self._bus.publish(event)

    async def _note(self, operation: str, argument: str) -> None:
        self.calls.append((operation, argument))
        if operation in self.gates:
            await self.gates[operation].wait()
        if operation in self.failures:
            raise self.failures.pop(operation)
