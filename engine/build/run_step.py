"""RUN: a container for one command, of which only the files that it wrote remain."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from engine.late_dataclasses import dataclass
from engine.runtime.build_lane import StepSpec
from engine.runtime.spec import MountSpec, RootfsSpec
from engine.types import OutputStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.build.lanes import OpenLane
    from engine.build.layers import LayerDraft, LayerStack
    from engine.build.steps import RunStep
    from engine.runtime.build_lane import StepEnd

_READ_BYTES = 1 << 16
_SIGKILL_EXIT = 137


class OutputListener(Protocol):
    """Is told what a step writes."""

    def __call__(self, stream: OutputStream, data: bytes, /) -> None:
        """Take note; must return at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedPath:
    """Something that is to belong to somebody else than root.

    Attributes:
        what: What warnings call it.
    """

    path: Path
    user_id: int
    group_id: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMounts:
    """What is mounted while a step runs.

    Attributes:
        mounts: In the order of the instruction.
        environment: What mounts say in variables: secrets, the agent's socket.
        places: Where something is mounted, for what is to be taken away after it.
        owned: What has yet to be given to its owner.
    """

    mounts: tuple[MountSpec, ...] = ()
    environment: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    owned: tuple[OwnedPath, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgram:
    """A step that is about to run.

    Attributes:
        extra_environment: What neither key nor history knows.
        is_last: No step waits for the lane.
    """

    step: RunStep
    mounts: StepMounts
    extra_environment: tuple[str, ...]
    is_last: bool


def step_spec(
    program: StepProgram, opened: OpenLane, draft: LayerDraft, stack: LayerStack
) -> StepSpec:
    """What the lane is told; the layers' paths must not change until the program runs."""
    step = program.step
    environment = dict(
        entry.split("=", 1)
        for entry in (
            *step.environment,
            *step.passed_environment,
            *program.extra_environment,
            *program.mounts.environment,
        )
    )
    return StepSpec(
        rootfs=RootfsSpec(
            kind="overlay",
            lowers=(*(layer.diff for layer in reversed(stack)), opened.stub_layer),
            upper=str(draft.upper),
            work=str(draft.work),
            mount_point=str(draft.mount_point),
            uses_user_xattrs=opened.is_rootless,
            is_read_only=False,
            # The image is recorded after one sync for all of its layers.
            is_volatile=True,
        ),
        arguments=step.arguments,
        environment=tuple(f"{name}={value}" for name, value in environment.items()),
        working_directory=step.working_directory,
        user=step.user,
        mounts=program.mounts.mounts,
        file_mounts=opened.file_mounts,
        is_last=program.is_last,
    )


async def run_program(
    opened: OpenLane,
    spec: StepSpec,
    on_output: OutputListener,
    *,
    on_start: Callable[[], None],
) -> StepEnd:
    """Run a step's program to its end, and pass on everything that it writes.

    Cancelling kills it; when this returns, nothing of it is left.

    Args:
        opened: Where it runs.
        spec: What it is.
        on_output: Is told what it writes.
        on_start: Called when its program runs.

    Raises:
        StartError: It cannot be started.
        LauncherError: The lane was killed.
    """
    loop = asyncio.get_running_loop()
    pumps: list[_Pump] = []
    write_ends: list[int] = []
    try:
        for stream in (OutputStream.STDOUT, OutputStream.STDERR):
            read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            write_ends.append(write_end)
            # The program's end blocks as programs expect.
            os.set_blocking(write_end, True)
            pumps.append(_Pump(loop, read_end, stream, on_output))
        end = await opened.lane.run(spec, write_ends[0], write_ends[1], on_start=on_start)
        while write_ends:
            os.close(write_ends.pop())
        for pump in pumps:
            await pump.ended
    finally:
        for descriptor in write_ends:
            os.close(descriptor)
        for pump in pumps:
            pump.close()
    if end.is_out_of_memory_killed and end.exit_code == 0:
        return replace(end, exit_code=_SIGKILL_EXIT)
    return end


class _Pump:
    """Reads a pipe whenever there is something in it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        stream: OutputStream,
        on_output: OutputListener,
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._stream = stream
        self._on_output = on_output
        self.ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._on_output(self._stream, data)
            return
        self._loop.remove_reader(self._descriptor)
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        """Read what there is still, and let go."""
        self._loop.remove_reader(self._descriptor)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, _READ_BYTES):
                self._on_output(self._stream, data)
        os.close(self._descriptor)
        self.ended.cancel()
