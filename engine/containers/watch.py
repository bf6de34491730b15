"""Noticing at once when a monitor is killed: a descriptor of each is watched on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from engine.containers.lifecycle import current_state
from engine.containers.recovery import WRITTEN_DOWN_SECONDS, let_monitor_end
from engine.containers.resumption import resume_container
from engine.containers.states import (
    LIVE_STATUSES,
    read_watched_state,
    status_of,
)
from engine.errors import EngineError
from engine.linux.process import start_ticks

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord


class MonitorWatch:
    """Watches the monitors of running containers, whoever started them.

    `follow` and `follow_all` may be called as often as one likes: a monitor is watched once.
    """

    def __init__(self, services: ContainerServices) -> None:
        self._services = services
        self._pidfds: dict[str, int] = {}
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._seen_to: dict[str, int] = {}
        """When the run was started of which a monitor's end was noticed last, by container."""
        self._is_closed = False

    async def run(self) -> None:
        """Write down the end of every container whose monitor ends without doing so; for ever."""
        while True:
            container_id = await self._ended.get()
            record = await self._services.table.get(container_id)
            if record is not None:
                # A store that cannot be written now is tried again by whoever looks next.
                with contextlib.suppress(EngineError):
                    await self._see_to(record)
                # Meanwhile it may have been started again.
                await self.follow(container_id)

    async def _see_to(self, record: ContainerRecord) -> None:
        state = await current_state(self._services, record)
        if status_of(state) in LIVE_STATUSES and not _is_alive(state):
            with contextlib.suppress(TimeoutError):
                await let_monitor_end(self._services, record, timeout_seconds=WRITTEN_DOWN_SECONDS)
            await current_state(self._services, record)
        # What the monitor would have started again, nobody else does now.
        await resume_container(self._services, record.container_id)

    async def follow_all(self) -> None:
        """Watch the monitor of every container that runs now."""
        for record in await self._services.table.list():
            await self.follow(record.container_id)

    async def follow(self, container_id: str) -> None:
        """Watch the monitor of a container, if it runs.

        One that is gone already, or cannot be watched, is seen to at once; for one run of its
        container that happens once, so that what cannot be written down now is let be.
        """
        if self._is_closed or container_id in self._pidfds:
            return
        state, is_lost = await self._services.in_thread(
            read_watched_state, self._services.config, container_id
        )
        if status_of(state) not in LIVE_STATUSES:
            self._seen_to.pop(container_id, None)
            return
        if container_id in self._pidfds or self._is_closed:
            return
        run = state.started_at_ns
        if (is_lost or not self._open(container_id, state)) and (
            self._seen_to.get(container_id) != run
        ):
            self._seen_to[container_id] = run
            self._ended.put_nowait(container_id)

    def _open(self, container_id: str, state: StateRecord) -> bool:
        try:
            pidfd = os.pidfd_open(state.monitor_process_id)
        except OSError:
            return False
        # Asked after the descriptor was opened: from here on it is the same process.
        if start_ticks(state.monitor_process_id) != state.monitor_start_ticks:
            os.close(pidfd)
            return False
        self._pidfds[container_id] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._note_end, container_id)
        return True

    def _note_end(self, container_id: str) -> None:
        self._close_one(container_id)
        self._ended.put_nowait(container_id)

    def _close_one(self, container_id: str) -> None:
        pidfd = self._pidfds.pop(container_id, -1)
        if pidfd >= 0:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def close(self) -> None:
        """Stop watching; the containers go on."""
        self._is_closed = True
        for container_id in tuple(self._pidfds):
            self._close_one(container_id)


def _is_alive(state: StateRecord) -> bool:
    """Whether the monitor that a state names runs still."""
    return start_ticks(state.monitor_process_id) == state.monitor_start_ticks
