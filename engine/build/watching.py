"""What changes in a context, for whoever builds again then."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
"""How far times of files may lag behind the clock that people read, at most."""
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
        since_ns = None if since is None else int((since - _TICK_SECONDS) * 1_000_000_000)
        changed = await asyncio.to_thread(watcher.add, "", since_ns=since_ns)
        if changed:
            yield changed
        while True:
            yield await watcher.wait()
    finally:
        watcher.close()


class _ContextWatcher:
    """Watches every directory of a context that .dockerignore does not leave out."""

    def __init__(self, root: Path, rules: IgnoreRules) -> None:
        self._root = root
        self._rules = rules
        self._inotify = Inotify()
        self._directories: dict[int, str] = {}

    def close(self) -> None:
        self._inotify.close_soon()

    def add(self, path: str, *, since_ns: int | None = None) -> tuple[str, ...]:
        """Watch a directory and those in it; blocking.

        Args:
            path: Relative to the context's.
            since_ns: Nanoseconds since the epoch.

        Returns:
            What was changed since then, by the times that nobody can set.
        """
        changed: list[str] = []
        pending = [path]
        while pending and len(self._directories) < _MOST_DIRECTORIES:
            relative = pending.pop()
            place = self._root / relative
            # It is gone by now, or nobody may look into it: nothing is copied from it.
            with contextlib.suppress(OSError, SyscallError):
                self._directories[self._inotify.watch(place, _CHANGES)] = relative
                changed += self._look_into(relative, place, pending, since_ns)
        return tuple(changed[:_MOST_PATHS])

    def _look_into(
        self, relative: str, place: Path, pending: list[str], since_ns: int | None
    ) -> list[str]:
        """Put the directories of a directory with those that are pending; what was changed."""
        changed: list[str] = []
        has_left_out = False
        with os.scandir(place) as entries:
            for entry in entries:
                child = f"{relative}/{entry.name}" if relative else entry.name
                if self._is_left_out(child):
                    has_left_out = True
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(child)
                elif since_ns is not None:
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_ctime_ns > since_ns:
                            changed.append(child)
        # Something was removed, unless it was something that is left out.
        is_other = since_ns is not None and place.stat().st_mtime_ns > since_ns
        if is_other and not (changed or has_left_out):
            changed.append(relative or ".")
        return changed

    def _is_left_out(self, path: str) -> bool:
        return self._rules.is_ignored(path)

    async def wait(self) -> tuple[str, ...]:
        """Wait until something has changed and then nothing more for a moment."""
        changed: dict[str, None] = {}
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
