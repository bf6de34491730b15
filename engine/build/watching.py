"""What changes in a context, for whoever builds again then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.build.context_opening import context_rules
from engine.errors import InvalidInputError, SyscallError
from engine.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.build.ignore import IgnoreRules
    from engine.types import BuildRequest

_IN_ATTRIB, _IN_MOVED_FROM, _IN_DELETE, _IN_CLOSE_WRITE = 0x004, 0x040, 0x200, 0x008
_IN_ISDIR = 0x40000000
_CHANGES = (
    IN_MODIFY | IN_MOVED_TO | IN_CREATE | _IN_ATTRIB | _IN_MOVED_FROM | _IN_DELETE | _IN_CLOSE_WRITE
)
_QUIET_SECONDS = 0.2
"""An editor writes a file in several steps, and a checkout many files."""
_TICK_SECONDS = 0.01
"""How far most file systems' times may lag behind the clock that people read."""
_MOST_PATHS = 1000
_MOST_DIRECTORIES = 50_000


async def watch_context(
    request: BuildRequest, *, since: float | None = None
) -> AsyncIterator[tuple[str, ...]]:
    """As EngineApi.watch_context."""
    if not isinstance(request.context, Path):
        raise InvalidInputError(
            "only a directory can be watched", hint="Name the directory of the context"
        )
    directory = request.context
    rules = await asyncio.to_thread(context_rules, request)
    watcher = _ContextWatcher(directory, rules)
    try:
        changed = await asyncio.to_thread(watcher.add, "", since=since)
        while True:
            yield await watcher.wait(changed)
            changed = ()
    finally:
        watcher.close()


class _Span(NamedTuple):
    """From some time until now, as file systems count it."""

    first_ns: int
    last_ns: int

    @classmethod
    def since(cls, seconds: float) -> _Span:
        first_ns = int((seconds - _TICK_SECONDS) * 1_000_000_000)
        # A server's clock may be ahead: what is of tomorrow would have changed again and again.
        return cls(first_ns, time.time_ns())

    def has(self, one: os.DirEntry[str] | Path) -> bool:
        """Whether something was changed in it; what is gone was not."""
        try:
            changed_at_ns = os.stat(one, follow_symlinks=False).st_ctime_ns
        except OSError:
            return False
        return self.first_ns < changed_at_ns <= self.last_ns


class _ContextWatcher:
    """Watches every directory of a context that .dockerignore does not leave out."""

    def __init__(self, root: Path, rules: IgnoreRules) -> None:
        self._root = root
        self._rules = rules
        self._inotify = Inotify()
        self._directories: dict[int, str] = {}

    def close(self) -> None:
        self._inotify.close_soon()

    def add(self, path: str, *, since: float | None = None) -> tuple[str, ...]:
        """Watch a directory and those in it; blocking.

        Args:
            path: Relative to the context's.
            since: Seconds since the epoch; None for now.

        Returns:
            What has changed since then, by the times that the file system sets itself.
        """
        span = None if since is None else _Span.since(since)
        changed: list[str] = []
        pending = [path]
        while pending and len(self._directories) < _MOST_DIRECTORIES:
            relative = pending.pop()
            place = self._root / relative
            # It is gone by now, or nobody may look into it: nothing is copied from it.
            with contextlib.suppress(OSError, SyscallError):
                self._directories[self._inotify.watch(place, _CHANGES)] = relative
                changed += self._look_into(relative, place, pending, span)
        return tuple(changed[:_MOST_PATHS])

    def _look_into(
        self, relative: str, place: Path, pending: list[str], span: _Span | None
    ) -> list[str]:
        """Put the directories of a directory with those that are pending; what has changed."""
        changed: list[str] = []
        is_explained = False
        with os.scandir(place) as entries:
            for entry in entries:
                child = f"{relative}/{entry.name}" if relative else entry.name
                is_directory = entry.is_dir(follow_symlinks=False)
                if span is None and not is_directory:
                    continue
                is_left_out = self._is_left_out(child)
                if is_directory and not is_left_out:
                    # It speaks for itself.
                    pending.append(child)
                elif span is not None and span.has(entry):
                    is_explained = True
                    if not is_left_out:
                        changed.append(child)
        if span is not None and not is_explained and span.has(place):
            # Something was removed, or moved here as it was, or may be looked into by others.
            changed.append(relative or ".")
        return changed

    def _is_left_out(self, path: str) -> bool:
        return self._rules.is_ignored(path)

    async def wait(self, changed_before: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Wait until something has changed and then nothing more for a moment."""
        changed = dict.fromkeys(changed_before)
        while True:
            timeout = _QUIET_SECONDS if changed else None
            try:
                async with asyncio.timeout(timeout):
                    await self._readable()
            except TimeoutError:
                return tuple(changed)
            for event in self._inotify.read():
                parent = self._directories.get(event.watch)
                if parent is None or not event.name:
                    continue
                name = os.fsdecode(event.name)
                path = f"{parent}/{name}" if parent else name
                if self._is_left_out(path):
                    continue
                if event.mask & _IN_ISDIR and event.mask & (IN_CREATE | IN_MOVED_TO):
                    await asyncio.to_thread(self.add, path)
                if len(changed) < _MOST_PATHS:
                    changed[path] = None

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._inotify.descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._inotify.descriptor)
