"""Samples of what running containers use: from control groups, else from their processes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.cgroups.groups import open_group
from engine.cgroups.stats import CgroupSample, StatsReader, cpu_percent
from engine.containers.processes import total_processes
from engine.containers.state_table import Operation, check
from engine.containers.states import LIVE_STATUSES, read_watched_state, status_of
from engine.types import ContainerId, ContainerStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
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
        self._reader: StatsReader | None = None
        self._run_ns = 0
        self._last: CgroupSample | None = None

    def take(self) -> ContainerStats | None:
        """Take a sample; None if the container does not run."""
        state, is_lost = read_watched_state(self._config, self._container_id)
        if status_of(state) not in LIVE_STATUSES or is_lost:
            return None
        if self._reader is None or state.started_at_ns != self._run_ns:
            self.close()
            self._run_ns = state.started_at_ns
            # Without a control group the reader still tells of the network.
            self._reader = StatsReader(open_group(state.cgroup_paths), state.process_id)
        sample = _completed(self._reader.sample(), state)
        last, self._last = self._last, sample
        return ContainerStats(
            container_id=self._container_id,
            sampled_at=time.time(),
            cpu_percent=cpu_percent(sample if last is None else last, sample),
            memory_bytes=sample.memory_bytes,
            memory_limit_bytes=sample.memory_limit_bytes,
            process_count=sample.process_count,
            network_received_bytes=sample.network_received_bytes,
            network_sent_bytes=sample.network_sent_bytes,
            block_read_bytes=sample.block_read_bytes,
            block_written_bytes=sample.block_written_bytes,
        )

    def close(self) -> None:
        """Close the files of the control group; the next sample opens them again."""
        self._last = None
        self._run_ns = 0
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _completed(sample: CgroupSample, state: StateRecord) -> CgroupSample:
    """Put the processes' own figures in where the host's control groups tell nothing."""
    if None not in (sample.cpu_ns, sample.memory_bytes, sample.process_count):
        return sample
    totals = total_processes(state)
    cpu_ns, memory, count = sample.cpu_ns, sample.memory_bytes, sample.process_count
    return replace(
        sample,
        cpu_ns=round(totals.cpu_seconds * 1e9) if cpu_ns is None else cpu_ns,
        memory_bytes=totals.resident_bytes if memory is None else memory,
        process_count=totals.process_count if count is None else count,
    )
