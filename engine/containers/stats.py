"""Samples of what running containers use: from control groups, else from their processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from engine.containers.processes import network_totals, total_processes
from engine.containers.state_table import Operation, check
from engine.containers.states import LIVE_STATUSES, read_watched_state, status_of
from engine.containers.usage import ContainerUsage, open_usage_reader
from engine.types import ContainerId, ContainerStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.containers.usage import UsageReader
    from engine.runtime.spec import StateRecord

_INTERVAL_SECONDS = 1.0


class StatsSampler:
    """Takes samples; remembers the one before of each container, to tell processor shares."""

    def __init__(self, services: ContainerServices) -> None:
        self._services = services
        self._samplers: dict[str, ContainerSampler] = {}

    async def sample(self, container_id: ContainerId) -> ContainerStats | None:
        """Take one sample; None if the container does not run."""
        sampler = self._samplers.get(container_id)
        if sampler is None:
            sampler = ContainerSampler(self._services.config, container_id)
            self._samplers[container_id] = sampler
        stats = await self._services.in_thread(sampler.take)
        if stats is None and self._samplers.get(container_id) is sampler:
            del self._samplers[container_id]
            sampler.close()
        return stats

    async def follow(self, record: ContainerRecord) -> AsyncIterator[ContainerStats]:
        """Yield a sample a second while the container runs.

        Raises:
            ContainerStateError: It does not run now.
        """
        config = self._services.config
        state, _ = await self._services.in_thread(read_watched_state, config, record.container_id)
        check(Operation.TOP, status_of(state), container_id=record.container_id, name=record.name)
        sampler = ContainerSampler(config, record.container_id)
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while (stats := await self._services.in_thread(sampler.take)) is not None:
                yield stats
                due = max(due + _INTERVAL_SECONDS, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            sampler.close()

    def close(self) -> None:
        """Close what is open for each container."""
        for sampler in self._samplers.values():
            sampler.close()
        self._samplers.clear()


class ContainerSampler:
    """One container, over all of its runs. Blocking; not for two threads at once."""

    def __init__(self, config: EngineConfig, container_id: ContainerId) -> None:
        self._config = config
        self._container_id = container_id
        self._reader: UsageReader | None = None
        self._run_ns = 0
        self._last: tuple[float, float] | None = None

    def take(self) -> ContainerStats | None:
        """Take a sample; None if the container does not run."""
        state, is_lost = read_watched_state(self._config, self._container_id)
        if status_of(state) not in LIVE_STATUSES or is_lost:
            return None
        if state.started_at_ns != self._run_ns:
            self.close()
            self._run_ns = state.started_at_ns
            self._reader = open_usage_reader(state.cgroup_paths)
        usage = self._read(state)
        received, sent = network_totals(state.process_id)
        return ContainerStats(
            container_id=self._container_id,
            sampled_at=time.time(),
            cpu_percent=self._share(usage.cpu_seconds),
            memory_bytes=usage.memory_bytes,
            memory_limit_bytes=usage.memory_limit_bytes,
            process_count=usage.process_count,
            network_received_bytes=received,
            network_sent_bytes=sent,
            block_read_bytes=usage.block_read_bytes,
            block_written_bytes=usage.block_written_bytes,
        )

    def _read(self, state: StateRecord) -> ContainerUsage:
        usage = ContainerUsage()
        if self._reader is not None:
            # The group goes with the container, which may end at any moment.
            with contextlib.suppress(OSError):
                usage = self._reader.read()
        if usage.is_complete:
            return usage
        totals = total_processes(state)
        return usage.filled_from(
            cpu_seconds=totals.cpu_seconds,
            memory_bytes=totals.resident_bytes,
            process_count=totals.process_count,
        )

    def _share(self, cpu_seconds: float | None) -> float | None:
        if cpu_seconds is None:
            return None
        now = time.monotonic()
        last, self._last = self._last, (now, cpu_seconds)
        if last is None or now <= last[0]:
            return 0.0
        # A process that ended takes its time along where there is no control group.
        return max(0.0, 100 * (cpu_seconds - last[1]) / (now - last[0]))

    def close(self) -> None:
        """Close the files of the control group; the next sample opens them again."""
        self._last = None
        self._run_ns = 0
        if self._reader is not None:
            self._reader.close()
            self._reader = None
