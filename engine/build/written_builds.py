"""What the store has of builds: how they have ended, and how far those are that run elsewhere.

A build that takes longer than a moment is written down while it runs, by the application that it
runs in, which holds a lock for it meanwhile. A build that runs by what is written, and whose lock
nobody holds, was killed with its application.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.operations import carry_through
from engine.store.locks import LockFile
from engine.types import BuildProgress, BuildStatus, BuildStepState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from engine.build.progress import BuildState
    from engine.config import EngineConfig
    from engine.store.build_records import BuildRecords

_SECONDS_BETWEEN = 1.0
"""How far behind others may be; a build that is done by then is written down once."""
KILLED = "the application that it ran in was killed"
_UNFINISHED = {
    BuildStepState.QUEUED: BuildStepState.SKIPPED,
    BuildStepState.RUNNING: BuildStepState.CANCELLED,
}


class WrittenBuilds:
    """The builds of a store, of all applications."""

    def __init__(self, config: EngineConfig, records: BuildRecords) -> None:
        """Write into a store, and read from it."""
        self._config = config
        self._records = records

    @contextlib.asynccontextmanager
    async def following(self, state: BuildState) -> AsyncIterator[None]:
        """Write a build down from time to time while the block runs, and when it has ended."""
        lock = LockFile(self._config.build_lock_path(state.build_id), what="A build")
        writing = asyncio.create_task(self._write_while_it_runs(state, lock))
        try:
            yield
        finally:
            await carry_through(self._write_end(state, lock, writing))

    async def _write_while_it_runs(self, state: BuildState, lock: LockFile) -> None:
        written: BuildProgress | None = None
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN)
            progress = state.progress
            # The disk may be full just then; how it ends is what has to be written.
            with contextlib.suppress(EngineError, OSError):
                # A cancellation waits: the end has to know whether there is a lock.
                await carry_through(asyncio.to_thread(_show_life, lock))
                if progress != written:
                    await self._write(progress)
                    written = progress

    async def _write_end(
        self, state: BuildState, lock: LockFile, writing: asyncio.Task[None]
    ) -> None:
        writing.cancel()
        await asyncio.wait((writing,))
        if not writing.cancelled():
            writing.exception()
        try:
            with contextlib.suppress(EngineError):
                await self._write(state.progress)
        finally:
            if lock.has_lock:
                # In this order: who takes a lock that is free looks at what is written again.
                with contextlib.suppress(OSError):
                    lock.path.unlink()
                lock.release()

    async def _write(self, progress: BuildProgress) -> None:
        if not progress.steps:
            return
        await self._records.insert_build(
            progress.build_id,
            started_at=progress.started_at,
            names=progress.names,
            document=msgspec.json.encode(progress),
        )

    async def list(self, name: str = "") -> dict[str, BuildProgress]:
        """Builds by their ids; with a name only those that gave it."""
        found = await self._read(name)
        running = [one.build_id for one in found.values() if one.status is BuildStatus.RUNNING]
        killed = await asyncio.to_thread(self._without_lock, running)
        if killed:
            # What has ended between the two looks has been written down by now.
            again = await self._read(name)
            for build_id, last_seen in killed.items():
                known = again.get(build_id)
                if known is not None and known.status is BuildStatus.RUNNING:
                    known = _as_killed(known, last_seen)
                    await self._write(known)
                    again[build_id] = known
            found = again
        return found

    async def _read(self, name: str) -> dict[str, BuildProgress]:
        found: dict[str, BuildProgress] = {}
        for document in await self._records.list_builds(name):
            with contextlib.suppress(msgspec.DecodeError):
                progress = msgspec.json.decode(document, type=BuildProgress)
                found[progress.build_id] = progress
        return found

    def _without_lock(self, build_ids: Sequence[str]) -> dict[str, float]:
        """Those that nobody runs any more, each with the time of its last sign of life."""
        found: dict[str, float] = {}
        for build_id in build_ids:
            last_seen = _last_seen(self._config.build_lock_path(build_id))
            if last_seen is not None:
                found[build_id] = last_seen
        return found


def _show_life(lock: LockFile) -> None:
    if not lock.has_lock:
        lock.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire_now()
    os.utime(lock.path)


def _last_seen(path: Path) -> float | None:
    """When somebody who had a lock last showed that he lives; None if somebody has it now.

    0 if nothing is known of that, as after a restart of the host.
    """
    try:
        last_seen = path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    lock = LockFile(path)
    if not lock.try_acquire():
        return None
    path.unlink(missing_ok=True)
    lock.release()
    return last_seen


def _as_killed(progress: BuildProgress, last_seen: float) -> BuildProgress:
    """How a build has ended of which nothing is heard any more."""
    times = [time for step in progress.steps for time in (step.started_at, step.ended_at) if time]
    ended_at = max((last_seen, progress.started_at, *times))
    return replace(
        progress,
        status=BuildStatus.FAILED,
        error=KILLED,
        hint="Build again: the steps that were done are in the cache",
        ended_at=ended_at,
        steps=tuple(
            replace(
                step,
                state=_UNFINISHED[step.state],
                ended_at=step.started_at and ended_at,
                error=KILLED if step.state is BuildStepState.RUNNING else "",
            )
            if step.state in _UNFINISHED
            else step
            for step in progress.steps
        ),
    )
