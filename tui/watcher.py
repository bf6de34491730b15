"""Keeps the interface's picture of the store fresh, on the engine's loop.

Push, not poll: an event of the store (also one that another process made) marks a list as stale,
and a stale list is read once however many events came meanwhile. Only what the interface says it
shows is sampled: statistics of visible running containers and the selected writable layer.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.events import Event, EventsDropped, EventSubject
from tui.messages import (
    ContainerEvent,
    ContainersChanged,
    ImagesChanged,
    NetworksTouched,
    StatsSampled,
    UsageChanged,
    VolumesTouched,
    WatchFailed,
    WritableLayerMeasured,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.events import EventSubscription
    from engine.types import ContainerId
    from tui.messages import EngineState

SAMPLE_SECONDS = 1.0
MEASURE_EVERY_SAMPLES = 3
"""A writable layer is a walk over a directory: measured less often than the rest."""


_CHANGES_MEMBERS = ("create", "destroy", "rename", "start", "restart", "die")


class Watcher:
    """Publishes lists when they change, and samples of what is watched."""

    def __init__(self) -> None:
        self.publish: Callable[[str, EngineState], None] = lambda _key, _state: None
        self._watched: tuple[ContainerId, ...] = ()
        self._measured: ContainerId | None = None
        self._images_are_stale = True
        self._containers_are_stale = True
        self._stale = asyncio.Event()
        self._wanted = asyncio.Event()
        self._is_new = asyncio.Event()
        self._rounds_to_measure = 0

    async def run(self, engine: EngineApi) -> None:
        """Watch until cancelled."""
        with engine.subscribe() as subscription:
            self._stale.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(subscription))
                group.create_task(self._refresh(engine))
                group.create_task(self._sample(engine))

    async def refresh(self, _engine: EngineApi) -> None:
        """Read both lists afresh."""
        self._mark(images=True, containers=True)

    async def watch(
        self, *, statistics_of: tuple[ContainerId, ...], writable_layer_of: ContainerId | None
    ) -> None:
        """Say what is visible now; call through the bridge."""
        is_new = writable_layer_of != self._measured or set(statistics_of) - set(self._watched)
        self._watched = statistics_of
        if writable_layer_of != self._measured:
            self._measured = writable_layer_of
            self._rounds_to_measure = 0
        if is_new:
            self._is_new.set()
        if not statistics_of and writable_layer_of is None:
            self._wanted.clear()
        elif is_new or not self._wanted.is_set():
            self._wanted.set()

    @property
    def is_settled(self) -> bool:
        """Whether every list that was marked stale has been read and published."""
        return not self._stale.is_set()

    def _mark(self, *, images: bool = False, containers: bool = False) -> None:
        self._images_are_stale |= images
        self._containers_are_stale |= containers
        self._stale.set()

    async def _listen(self, subscription: EventSubscription) -> None:
        async for event in subscription:
            if isinstance(event, EventsDropped):
                self._mark(images=True, containers=True)
                self.publish("volumes", VolumesTouched())
                self.publish("networks", NetworksTouched())
            elif event.subject is EventSubject.IMAGE:
                self._mark(images=True)
            elif event.subject is EventSubject.VOLUME:
                self.publish("volumes", VolumesTouched())
            elif event.subject is EventSubject.NETWORK:
                # A container's row says where it is, and which ports lead to it.
                self._mark(containers=True)
                self.publish("networks", NetworksTouched())
            elif event.subject is EventSubject.CONTAINER:
                if event.action.startswith("exec_"):
                    continue  # a health check has three of them, and no list shows any
                # Creating and removing change how many containers an image has.
                self._mark(images=event.action in ("create", "destroy"), containers=True)
                self._announce(event)
                if event.action in ("create", "destroy", "rename"):
                    self.publish("volumes", VolumesTouched())
                if event.action in _CHANGES_MEMBERS:
                    self.publish("networks", NetworksTouched())

    def _announce(self, event: Event) -> None:
        self.publish(f"event:{event.subject_id}", ContainerEvent(event=event))

    async def _refresh(self, engine: EngineApi) -> None:
        while True:
            await self._stale.wait()
            images, self._images_are_stale = self._images_are_stale, False
            containers, self._containers_are_stale = self._containers_are_stale, False
            try:
                if containers:
                    listed = await engine.list_containers()
                    self.publish("containers", ContainersChanged(containers=listed))
                if images:
                    self.publish("images", ImagesChanged(images=await engine.list_images()))
                    self.publish("usage", UsageChanged(usage=await engine.disk_usage()))
            except EngineError as error:
                self.publish("watch", WatchFailed(message=error.message, hint=error.hint))
            if not (self._images_are_stale or self._containers_are_stale):
                self._stale.clear()

    async def _sample(self, engine: EngineApi) -> None:
        while True:
            await self._wanted.wait()
            self._is_new.clear()
            samples = await engine.sample_stats(self._watched) if self._watched else ()
            if samples:
                self.publish("stats", StatsSampled(samples=samples))
            self._rounds_to_measure -= 1
            if self._rounds_to_measure < 0:
                self._rounds_to_measure = MEASURE_EVERY_SAMPLES - 1
                await self._measure(engine)
            # What was just selected is not made to wait for the next second.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAMPLE_SECONDS):
                    await self._is_new.wait()

    async def _measure(self, engine: EngineApi) -> None:
        if self._measured is None:
            return
        try:
            layer = await engine.measure_writable_layer(self._measured)
        except EngineError:
            return  # removed meanwhile; its event tells
        self.publish("writable", WritableLayerMeasured(layer=layer))
