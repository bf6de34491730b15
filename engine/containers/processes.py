"""The processes of a running container, as the host sees them. All of it blocks.

psutil is loaded when it is used: most commands never ask for processes.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import ProcessInfo

if TYPE_CHECKING:
    import psutil

    from engine.runtime.spec import StateRecord

_LONGEST_COMMAND = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTotals:
    """What all processes of a container use together."""

    cpu_seconds: float
    resident_bytes: int
    process_count: int


def container_process_ids(state: StateRecord) -> tuple[int, ...]:
    """Ids of a container's processes: by its control group, else by its pid namespace."""
    for path in state.cgroup_paths:
        with contextlib.suppress(OSError, ValueError), open(f"{path}/cgroup.procs") as processes:
            found = tuple(sorted(int(line) for line in processes))
            if found:
                return found
    return _by_namespace(state.process_id)


def _by_namespace(first: int) -> tuple[int, ...]:
    wanted = _pid_namespace(first)
    if not wanted:
        return ()
    names = (name for name in os.listdir("/proc") if name.isdigit())
    return tuple(sorted(int(name) for name in names if _pid_namespace(int(name)) == wanted))


def _pid_namespace(process_id: int) -> str:
    try:
        return os.readlink(f"/proc/{process_id}/ns/pid")
    except OSError:
        return ""


def list_container_processes(state: StateRecord) -> tuple[ProcessInfo, ...]:
    """One record for each process; those that end meanwhile are left out."""
    import psutil

    now = time.time()
    found = []
    for process_id in container_process_ids(state):
        with contextlib.suppress(psutil.Error, OSError):
            found.append(_describe(psutil.Process(process_id), now))
    return tuple(found)


def total_processes(state: StateRecord) -> ProcessTotals:
    """Add up what the processes use: for hosts where control groups do not tell."""
    import psutil

    cpu_seconds, resident_bytes, count = 0.0, 0, 0
    for process_id in container_process_ids(state):
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(process_id)
            times = process.cpu_times()
            # The time of children that have ended would be lost with them.
            cpu_seconds += times.user + times.system + times.children_user + times.children_system
            resident_bytes += process.memory_info().rss
            count += 1
    return ProcessTotals(
        cpu_seconds=cpu_seconds, resident_bytes=resident_bytes, process_count=count
    )


def _describe(process: psutil.Process, now: float) -> ProcessInfo:
    with process.oneshot():
        times = process.cpu_times()
        started_at = process.create_time()
        cpu_seconds = times.user + times.system
        words = process.cmdline()
        return ProcessInfo(
            process_id=process.pid,
            parent_process_id=process.ppid(),
            user=process.username(),
            cpu_percent=100 * cpu_seconds / max(now - started_at, 0.01),
            started_at=started_at,
            cpu_seconds=cpu_seconds,
            resident_bytes=process.memory_info().rss,
            state=process.status(),
            # A process without arguments is a zombie or a thread of the kernel.
            command=" ".join(words)[:_LONGEST_COMMAND] or f"[{process.name()}]",
            user_id=process.uids().effective,
            name=process.name(),
            virtual_bytes=process.memory_info().vms,
            terminal=(process.terminal() or "").removeprefix("/dev/"),
            thread_count=process.num_threads(),
            nice=process.nice(),
        )
