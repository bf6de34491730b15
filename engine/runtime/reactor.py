"""poll(2) with handlers and deadlines: the loop of a process with one thread and little memory."""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READABLE = select.POLLIN
WRITABLE = select.POLLOUT


class Deadline:
    """Something to be done at a moment; `cancel` is without effect afterwards."""

    __slots__ = ("_action", "moment")

    def __init__(self, moment: float, action: Callable[[], None]) -> None:
        self.moment = moment
        self._action: Callable[[], None] | None = action

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be done."""
        return self._action is not None

    def cancel(self) -> None:
        """Do not do it."""
        self._action = None

    def fire(self) -> None:
        """Do it, once."""
        action, self._action = self._action, None
        if action is not None:
            action()


class Reactor:
    """Calls handlers as descriptors get ready and deadlines pass, until it is stopped."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._deadlines: list[Deadline] = []
        self._is_stopped = False

    def watch(
        self, descriptor: int, handler: Callable[[int], None], events: int = READABLE
    ) -> None:
        """Call the handler with the events of a descriptor, also when it hangs up."""
        self._handlers[descriptor] = handler
        self.expect(descriptor, events)

    def expect(self, descriptor: int, events: int) -> None:
        """Change the events that are waited for; with none not even a hang-up is told."""
        if events:
            self._poll.register(descriptor, events)
        else:
            self._unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no more; before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._unregister(descriptor)

    def _unregister(self, descriptor: int) -> None:
        # One that was expected to do nothing is not registered.
        with contextlib.suppress(KeyError):
            self._poll.unregister(descriptor)

    def after(self, seconds: float, action: Callable[[], None]) -> Deadline:
        """Do something when so many seconds have passed."""
        deadline = Deadline(time.monotonic() + seconds, action)
        self._deadlines.append(deadline)
        return deadline

    def stop(self) -> None:
        """Let `run` return when the handler that called this has."""
        self._is_stopped = True

    def run(self) -> None:
        """Serve until stopped."""
        self._is_stopped = False
        while not self._is_stopped:
            self._serve(self._await_events(self._milliseconds_left()))

    def _await_events(self, milliseconds: float | None) -> list[tuple[int, int]]:
        return self._poll.poll(milliseconds)

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            # An earlier handler of this round may have forgotten it.
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(events)
            if self._is_stopped:
                return
        self._fire_deadlines()

    def _milliseconds_left(self) -> float | None:
        if not self._deadlines:
            return None
        left = min(deadline.moment for deadline in self._deadlines) - time.monotonic()
        # Rounded up: poll(2) counts whole milliseconds, and too early would be in vain.
        return max(0.0, left * 1000 + 1)

    def _fire_deadlines(self) -> None:
        if not self._deadlines:
            return
        now = time.monotonic()
        due = [deadline for deadline in self._deadlines if deadline.moment <= now]
        self._deadlines = [
            deadline
            for deadline in self._deadlines
            if deadline.moment > now and deadline.is_pending
        ]
        for deadline in due:
            deadline.fire()
