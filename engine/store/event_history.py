"""Events from a moment on: first those that are in the log, then live, without gap or double.

One reader goes over the files by position, so what it has read once it does not read again, and
what is appended while it reads the past is simply further on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from engine.store.durability import make_directory
from engine.store.event_log import (
    EventFile,
    concerns_event_log,
    old_event_log,
    watch_event_log,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.events import Event
    from engine.linux.inotify import Inotify


async def follow_event_log(
    path: Path, *, since_ns: int | None, until_ns: int | None
) -> AsyncIterator[tuple[Event, ...]]:
    """Give events in the order in which they were written, in batches.

    Args:
        path: The log; the renamed one beside it is read first.
        since_ns: Only events of this time or later. None is from now on, or with `until_ns` from
            the oldest that is kept.
        until_ns: Only events up to this time, and the end when it has come; None never ends.

    Raises:
        StoreError: The log's directory cannot be made.
        SyscallError: inotify is not to be had.
    """
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    await asyncio.to_thread(make_directory, path.parent)
    reader = _Reader(path, is_live_only=since_ns is None and until_ns is None)
    # On the loop, where a cancellation cannot come between making it and taking it.
    watch = watch_event_log(path)
    loop.add_reader(watch.descriptor, _wake, watch, path, woken)
    try:
        await asyncio.to_thread(reader.open)
        while True:
            # Asked before the look: what is written until then is read by it.
            is_over = until_ns is not None and time.time_ns() > until_ns
            woken.clear()
            while (events := await asyncio.to_thread(reader.read)) is not None:
                batch = tuple(
                    event
                    for event in events
                    if (since_ns is None or event.time_ns >= since_ns)
                    and (until_ns is None or event.time_ns <= until_ns)
                )
                if batch:
                    yield batch
            if is_over:
                return
            await _wait(woken, until_ns)
    finally:
        loop.remove_reader(watch.descriptor)
        watch.close_soon()
        reader.close()


def _wake(watch: Inotify, path: Path, woken: asyncio.Event) -> None:
    if concerns_event_log(watch, path):
        woken.set()


async def _wait(woken: asyncio.Event, until_ns: int | None) -> None:
    """Wait for further events, or until the time is over."""
    left = None if until_ns is None else max(0.0, (until_ns - time.time_ns()) / 1e9)
    try:
        async with asyncio.timeout(left):
            await woken.wait()
    except TimeoutError:
        return


class _Reader:
    """The log's files one after the other; blocking.

    Not for two callers at once, but `close` may be called from another thread at any time.
    """

    def __init__(self, path: Path, *, is_live_only: bool) -> None:
        self._path = path
        self._is_live_only = is_live_only
        self._files: list[EventFile] = []
        """What is still to be read, oldest first."""
        self._lock = threading.Lock()
        self._is_closing = False

    def open(self) -> None:
        """Open what there is. A rename meanwhile is noticed: nothing is read twice or left out."""
        with self._lock:
            self._open_all()
        self._close_if_asked()

    def read(self) -> list[Event] | None:
        """The next events, which may be none; None when there is nothing further for now."""
        with self._lock:
            events = self._read()
        self._close_if_asked()
        return events

    def close(self) -> None:
        """Close every file: now, or as soon as the call that is under way ends."""
        self._is_closing = True
        if self._lock.acquire(blocking=False):
            try:
                for file in self._files:
                    file.close()
                self._files.clear()
            finally:
                self._lock.release()

    def _close_if_asked(self) -> None:
        if self._is_closing:
            self.close()

    def _open_all(self) -> None:
        current = EventFile.open(self._path)
        if current is not None:
            self._files.append(current)
            if self._is_live_only:
                current.go_to_end()
        if self._is_live_only:
            return
        old = EventFile.open(old_event_log(self._path))
        if old is None:
            return
        if current is not None and current.is_at(old_event_log(self._path)):
            old.close()
        else:
            self._files.insert(0, old)

    def _read(self) -> list[Event] | None:
        while True:
            if not self._files and not self._open_newer():
                return None
            file = self._files[0]
            events = file.read()
            if events is not None:
                return events
            if len(self._files) == 1 and (
                file.is_at(self._path) or not self._path.exists() or not self._open_newer()
            ):
                return None
            # Who had it open when it was renamed may have written since.
            events = file.read()
            if events is not None:
                return events
            self._files.pop(0).close()

    def _open_newer(self) -> bool:
        """Open what has come after the file that is read, or the first one."""
        newer = EventFile.open(self._path)
        if newer is None:
            return False
        last = self._files[-1] if self._files else None
        between = EventFile.open(old_event_log(self._path))
        # Renamed twice since the last look: there is one between.
        if between is not None:
            is_known = last is None or last.is_at(old_event_log(self._path))
            if is_known or newer.is_at(old_event_log(self._path)):
                between.close()
            else:
                self._files.append(between)
        self._files.append(newer)
        return True
