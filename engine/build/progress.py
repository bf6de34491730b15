"""The state of one build, and who watches it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.types import (
    BuildChanged,
    BuildOutput,
    BuildProgress,
    BuildStatus,
    BuildStepChanged,
    BuildStepState,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.oci.documents import ConfigSection
    from engine.types import (
        BuildEvent,
        BuildListener,
        BuildStage,
        BuildStep,
        BuildWarning,
        CacheVerdict,
        ChainId,
        ImageId,
        OutputStream,
    )

MAXIMUM_LOG_BYTES = 8 << 20
"""Of one step: more than a person reads; what is older is dropped."""
_MAXIMUM_QUEUED_BYTES = 1 << 20
"""Output that waits for a watcher; it can read the log of a step as a whole at any time."""


class StepLog:
    """What a step has written, as it came, as far as it is kept."""

    def __init__(self) -> None:
        self._parts: deque[BuildOutput] = deque()
        self._size = 0
        self.dropped_bytes = 0

    def add(self, output: BuildOutput) -> None:
        """Append; what is too old goes."""
        self._parts.append(output)
        self._size += len(output.data)
        while self._size > MAXIMUM_LOG_BYTES and len(self._parts) > 1:
            dropped = len(self._parts.popleft().data)
            self._size -= dropped
            self.dropped_bytes += dropped

    @property
    def parts(self) -> tuple[BuildOutput, ...]:
        """What is kept, oldest first."""
        return tuple(self._parts)

    def read(self) -> bytes:
        """Both streams in one."""
        return b"".join(part.data for part in self._parts)


class BuildState:
    """One build as it goes on; lives on the engine's loop, and its logs with it."""

    def __init__(
        self,
        *,
        build_id: str,
        names: tuple[str, ...],
        dockerfile: str,
        target: str,
        listener: BuildListener,
    ) -> None:
        self._listener = listener
        self._followers: list[_Follower] = []
        self._logs: dict[int, StepLog] = {}
        self._steps: list[BuildStep] = []
        self.configs: dict[int, ConfigSection] = {}
        """Of each stage, by its position: what its containers do."""
        self._progress = BuildProgress(
            build_id=build_id,
            names=names,
            dockerfile=dockerfile,
            target=target,
            status=BuildStatus.RUNNING,
            started_at=time.time(),
        )

    @property
    def build_id(self) -> str:
        """Its id."""
        return self._progress.build_id

    @property
    def progress(self) -> BuildProgress:
        """The build at this moment."""
        return replace(self._progress, steps=tuple(self._steps))

    def step(self, position: int) -> BuildStep:
        """One step at this moment."""
        return self._steps[position]

    def log(self, position: int) -> StepLog:
        """What a step has written."""
        return self._logs.get(position) or StepLog()

    # --- what happens -------------------------------------------------------------------------

    def plan(
        self,
        *,
        stages: tuple[BuildStage, ...],
        steps: tuple[BuildStep, ...],
        warnings: tuple[BuildWarning, ...] = (),
    ) -> None:
        """Say what there is to do."""
        self._steps = list(steps)
        self._progress = replace(self._progress, stages=stages, warnings=warnings)
        self._tell(BuildChanged(progress=self.progress))

    def warn(self, *warnings: BuildWarning) -> None:
        """Add warnings that came later."""
        if warnings:
            told = (*self._progress.warnings, *warnings)
            self._progress = replace(self._progress, warnings=told)
            self._tell(BuildChanged(progress=self.progress))

    def begin(self, position: int, *, cache: CacheVerdict | None = None) -> None:
        """A step runs now."""
        now = time.time()
        before = self._steps[position]
        self._change(
            replace(
                before,
                state=BuildStepState.RUNNING,
                started_at=before.started_at or now,
                cache=cache or before.cache,
            )
        )

    def describe(self, position: int, *, text: str) -> None:
        """Say more of a running step: which image, how far."""
        self._change(replace(self._steps[position], text=text))

    def finish(
        self,
        position: int,
        *,
        state: BuildStepState = BuildStepState.DONE,
        cache: CacheVerdict | None = None,
        chain_id: ChainId | None = None,
        size_bytes: int = 0,
        entry_count: int = 0,
        is_empty: bool = False,
        exit_code: int | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """A step has ended well."""
        now = time.time()
        before = self._steps[position]
        self._change(
            replace(
                before,
                state=state,
                started_at=before.started_at or now,
                ended_at=before.ended_at or now,
                cache=cache or before.cache,
                chain_id=chain_id or before.chain_id,
                size_bytes=size_bytes,
                entry_count=entry_count,
                is_empty=is_empty,
                exit_code=exit_code,
                warnings=(*before.warnings, *warnings),
            )
        )

    def fail(
        self,
        position: int,
        *,
        error: str,
        exit_code: int | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """A step has failed."""
        now = time.time()
        before = self._steps[position]
        self._change(
            replace(
                before,
                state=BuildStepState.FAILED,
                started_at=before.started_at or now,
                ended_at=now,
                error=error,
                exit_code=exit_code,
                warnings=(*before.warnings, *warnings),
            )
        )

    def write(self, position: int, stream: OutputStream, data: bytes) -> None:
        """A step has written something."""
        output = BuildOutput(position=position, stream=stream, data=data, time=time.time())
        self._logs.setdefault(position, StepLog()).add(output)
        self._tell(output)

    def end(
        self,
        status: BuildStatus,
        *,
        image_id: ImageId | None = None,
        failed_image_id: ImageId | None = None,
        error: str = "",
        hint: str = "",
    ) -> None:
        """The build has ended, and with it every step that has not."""
        now = time.time()
        unfinished = {
            BuildStepState.QUEUED: BuildStepState.SKIPPED,
            BuildStepState.RUNNING: BuildStepState.CANCELLED,
        }
        self._steps = [
            replace(
                step,
                state=unfinished[step.state],
                ended_at=now if step.state is BuildStepState.RUNNING else None,
            )
            if step.state in unfinished
            else step
            for step in self._steps
        ]
        self._progress = replace(
            self._progress,
            status=status,
            ended_at=now,
            image_id=image_id,
            failed_image_id=failed_image_id,
            error=error,
            hint=hint,
        )
        self._tell(BuildChanged(progress=self.progress))
        for follower in self._followers:
            follower.close()

    def _change(self, step: BuildStep) -> None:
        self._steps[step.position] = step
        self._tell(BuildStepChanged(step=step))

    def _tell(self, event: BuildEvent) -> None:
        self._listener(event)
        for follower in self._followers:
            follower.put(event)

    # --- who watches --------------------------------------------------------------------------

    async def follow(self) -> AsyncIterator[tuple[BuildEvent, ...]]:
        """Everything so far, then what changes, until the build has ended."""
        follower = _Follower()
        logged = [part for log in self._logs.values() for part in log.parts]
        # Before the first events are looked at: what happens meanwhile must not be missed.
        self._followers.append(follower)
        try:
            yield (BuildChanged(progress=self.progress), *sorted(logged, key=_time_of))
            if self._progress.status is not BuildStatus.RUNNING:
                follower.close()
            while events := await follower.take():
                yield events
        finally:
            self._followers.remove(follower)


def _time_of(output: BuildOutput) -> float:
    return output.time


class _Follower:
    """What one watcher has not seen yet: the last state of each step, and output in order."""

    def __init__(self) -> None:
        self._whole: BuildChanged | None = None
        self._steps: dict[int, BuildStepChanged] = {}
        self._output: deque[BuildOutput] = deque()
        self._output_bytes = 0
        self._wake = asyncio.Event()
        self._is_closed = False

    def put(self, event: BuildEvent) -> None:
        """Take note; what is superseded is forgotten."""
        if isinstance(event, BuildChanged):
            self._whole = event
            self._steps.clear()
        elif isinstance(event, BuildStepChanged):
            self._steps[event.step.position] = event
        else:
            self._output.append(event)
            self._output_bytes += len(event.data)
            while self._output_bytes > _MAXIMUM_QUEUED_BYTES and len(self._output) > 1:
                self._output_bytes -= len(self._output.popleft().data)
        self._wake.set()

    def close(self) -> None:
        """Nothing comes any more."""
        self._is_closed = True
        self._wake.set()

    async def take(self) -> tuple[BuildEvent, ...]:
        """Wait for something; nothing means the end."""
        await self._wake.wait()
        self._wake.clear()
        events: list[BuildEvent] = [*self._output]
        if self._whole is not None:
            events.append(self._whole)
        events += self._steps.values()
        self._output.clear()
        self._output_bytes = 0
        self._whole = None
        self._steps.clear()
        if self._is_closed:
            # Whoever asks again is told of the end by nothing.
            self._wake.set()
        return tuple(events)
