"""Samples of what running containers use: from control groups, else from their processes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.cgroups.groups import open_group
from engine.cgroups.stats import CgroupSample, StatsReader, cpu_percent
from engine.containers.processes import total_processes
from engine.containers.states import LIVE_STATUSES, read_watched_state, status_of
from engine.linux.process import start_ticks
from engine.types import ContainerId, ContainerStats

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.config import EngineConfig
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord

_IDLE_SECONDS = 5.0
"""So long after the last sample a container's files stay open: they keep its network alive."""


class StatsSampler:
    """Takes samples; remembers the one before of each container, to tell processor shares."""

    def __init__(self, services: ContainerServices) -> None:
        self._services = services
        self._samplers: dict[ContainerId, ContainerSampler] = {}
        self._lock = threading.Lock()
        """Held while samplers are used: one call at a time."""
        self._idle_timer: asyncio.TimerHandle | None = None

    async def sample(self, container_ids: Collection[ContainerId]) -> tuple[ContainerStats, ...]:
        """Take a sample of each container that runs, all of them on one thread in one go."""
        samples = await self._services.in_thread(self._take, tuple(container_ids))
        self._close_later()
        return samples

    def _take(self, container_ids: tuple[ContainerId, ...]) -> tuple[ContainerStats, ...]:
        samples: list[ContainerStats] = []
        with self._lock:
            for container_id in container_ids:
                sampler = self._samplers.get(container_id)
                if sampler is None:
                    sampler = ContainerSampler(self._services.config, container_id)
                    self._samplers[container_id] = sampler
                stats = sampler.take()
                if stats is not None:
                    samples.append(stats)
                else:
                    self._samplers.pop(container_id).close()
            self._close_older_than(time.monotonic() - _IDLE_SECONDS)
        return tuple(samples)

    def _close_older_than(self, moment: float) -> None:
        for container_id, sampler in tuple(self._samplers.items()):
            if sampler.taken_at < moment:
                self._samplers.pop(container_id).close()

    def _close_later(self) -> None:
        """Close everything when nobody has asked for a while."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(_IDLE_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_timer = None
        if self._lock.acquire(blocking=False):
            try:
                self._close_older_than(time.monotonic())
            finally:
                self._lock.release()

    def close(self) -> None:
        """Close what is open for each container."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        with self._lock:
            self._close_older_than(math.inf)


class ContainerSampler:
    """One container, over all of its runs. Blocking; not for two threads at once."""

    def __init__(self, config: EngineConfig, container_id: ContainerId) -> None:
        self._config = config
        self._container_id = container_id
        self._run: _Run | None = None
        self._last: CgroupSample | None = None
        self.taken_at = 0.0
        """When the last sample was taken, by the monotonic clock."""

    def take(self) -> ContainerStats | None:
        """Take a sample; None if the container does not run."""
        self.taken_at = time.monotonic()
        run = self._run
        if run is None or run.may_have_ended():
            state, is_lost = read_watched_state(self._config, self._container_id)
            if status_of(state) not in LIVE_STATUSES or is_lost:
                return None
            if run is None or run.started_at_ns != state.started_at_ns:
                self.close()
                run = self._run = _Run(state)
        sample = run.sample()
        last, self._last = self._last, sample
        return ContainerStats(
            container_id=self._container_id,
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
        if self._run is not None:
            self._run.close()
            self._run = None


class _Run:
    """One run of a container: its counters, and a descriptor that tells when it has ended.

    So that a sample asks the kernel a few short questions and reads nothing of the store.
    """

    def __init__(self, state: StateRecord) -> None:
        self._state = state
        # Without a control group the reader still tells of the network.
        self._reader = StatsReader(open_group(state.cgroup_paths), state.process_id)
        self.started_at_ns = state.started_at_ns
        self._pidfd = -1
        self._poll = select.poll()
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(state.process_id)
            self._poll.register(self._pidfd, select.POLLIN)
        # Asked after the descriptor was opened: from here on it is the same process.
        self._is_watched = start_ticks(state.process_id) == state.process_start_ticks

    def may_have_ended(self) -> bool:
        """Whether the state must be asked: the first process has ended, or cannot be watched."""
        return self._pidfd < 0 or not self._is_watched or bool(self._poll.poll(0))

    def sample(self) -> CgroupSample:
        """Read the counters."""
        return _completed(self._reader.sample(), self._state)

    def close(self) -> None:
        """Close everything; once."""
        self._reader.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)


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
