"""Where steps run: what a build needs of the engine to start their programs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Protocol

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from engine.runtime.lane_client import StepLane
    from engine.runtime.spec import FileMount
    from engine.types import Ulimit


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRequest:
    """What a lane is for.

    Attributes:
        network: `default`, `none` or `host`.
        extra_hosts: For its hosts file.
        shared_memory_bytes: Of /dev/shm; None for the usual.
        directory: Empty, of the build; its files are made there.
    """

    network: str
    extra_hosts: tuple[tuple[str, str], ...]
    ulimits: tuple[Ulimit, ...]
    shared_memory_bytes: int | None
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLane:
    """A lane, and what a step has to know of it.

    Attributes:
        stub_layer: Below all layers of a root: the places of mounts.
        file_mounts: Of each step: what it knows of its network.
        warnings: What it has not.
        limitations: What a program that has failed in it may have wanted.
    """

    lane_id: str
    lane: StepLane
    is_rootless: bool
    stub_layer: str
    file_mounts: tuple[FileMount, ...]
    warnings: tuple[str, ...]
    limitations: tuple[str, ...] = ()


class LaneMaker(Protocol):
    """Makes lanes: the engine, which knows of networks and of isolation."""

    def in_use(self) -> AbstractContextManager[None]:
        """Have a build go on in the block: nothing is made for the next one meanwhile."""

    def __call__(self, request: LaneRequest, /) -> AbstractAsyncContextManager[OpenLane]:
        """Hold a lane for a block; nothing of it is left after it.

        Raises:
            EngineError: The host does not give what it needs.
        """


class LanePool:
    """The lanes of one build; each runs one step at a time, and serves stage after stage."""

    def __init__(
        self,
        make: LaneMaker,
        *,
        staging: Path,
        extra_hosts: tuple[tuple[str, str], ...],
        ulimits: tuple[Ulimit, ...],
        shared_memory_bytes: int | None,
        step_count: int,
    ) -> None:
        """Make lanes when they are wanted.

        Args:
            make: Makes one.
            staging: The build's own directory.
            extra_hosts: For their hosts files.
            ulimits: For whatever runs in them.
            shared_memory_bytes: As LaneRequest.
            step_count: How many steps there are; after the last one the lanes end.
        """
        self._make = make
        self._staging = staging
        self._extra_hosts = extra_hosts
        self._ulimits = ulimits
        self._shared_memory_bytes = shared_memory_bytes
        self._idle: dict[str, list[OpenLane]] = {}
        self._stack = contextlib.AsyncExitStack()
        self._count = 0
        self._warming: dict[str, asyncio.Task[OpenLane]] = {}
        self._left = step_count
        self._waiting = step_count
        self._closing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def lane(self, network: str) -> AsyncIterator[OpenLane]:
        """Have a lane for one step; one that fails is not used again.

        Args:
            network: As LaneRequest.

        Raises:
            EngineError: There is none to be had.
        """
        self._waiting -= 1
        idle = self._idle.setdefault(network, [])
        if idle:
            lane = idle.pop()
        elif (warming := self._warming.pop(network, None)) is not None:
            lane = await warming
        else:
            lane = await self._open(network)
        yield lane
        if not lane.lane.is_closed:
            idle.append(lane)
        self._end_step()

    @property
    def has_more_steps(self) -> bool:
        """Whether there are steps that have not begun."""
        return self._waiting > 0

    def skip(self) -> None:
        """One of the steps needs no lane."""
        self._waiting -= 1
        self._end_step()

    def _end_step(self) -> None:
        self._left -= 1
        if not self._left and self._count:
            # It takes as long as a step: what comes after the last one need not wait for it.
            self._closing = asyncio.create_task(self._end())

    def warm_up(self, network: str) -> None:
        """Begin to make a lane, unless there is one that has nothing to do."""
        if not self._idle.get(network) and network not in self._warming:
            self._warming[network] = asyncio.create_task(self._open(network))

    async def _open(self, network: str) -> OpenLane:
        directory = self._staging / f"lane-{self._count}"
        self._count += 1
        await asyncio.to_thread(directory.mkdir, mode=0o700)
        return await self._stack.enter_async_context(
            self._make(
                LaneRequest(
                    network=network,
                    extra_hosts=self._extra_hosts,
                    ulimits=self._ulimits,
                    shared_memory_bytes=self._shared_memory_bytes,
                    directory=directory,
                )
            )
        )

    async def close(self) -> None:
        """End every lane; may be called more than once."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._end())
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        for warming in self._warming.values():
            # It may be half made: what there is of it is in the stack.
            warming.cancel()
            await asyncio.wait((warming,))
            if not warming.cancelled():
                warming.exception()
        await self._stack.aclose()
        for number in range(self._count):
            directory = self._staging / f"lane-{number}"
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
