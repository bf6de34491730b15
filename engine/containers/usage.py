"""What a container uses, of whatever the host tells; None is what it does not."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.cgroups.groups import open_group

if TYPE_CHECKING:
    from engine.cgroups.group import Cgroup

_READ_BYTES = 64 << 10
_NO_LIMIT_BYTES = 1 << 60
"""v1 says a number near 2^63 where there is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """One reading. Processor time counts from the container's start."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    process_count: int | None = None
    block_read_bytes: int | None = None
    block_written_bytes: int | None = None

    @property
    def is_complete(self) -> bool:
        """Processor, memory and processes are known."""
        return None not in (self.cpu_seconds, self.memory_bytes, self.process_count)

    def filled_from(
        self, *, cpu_seconds: float, memory_bytes: int, process_count: int
    ) -> ContainerUsage:
        """Put figures of another source in where there is none."""
        return replace(
            self,
            cpu_seconds=cpu_seconds if self.cpu_seconds is None else self.cpu_seconds,
            memory_bytes=memory_bytes if self.memory_bytes is None else self.memory_bytes,
            process_count=process_count if self.process_count is None else self.process_count,
        )


class UsageReader:
    """Reads one container's control group again and again, from files that stay open.

    Which file tells what is the kernel's: cgroup-v2.rst; cgroup-v1 cpuacct, memory and
    blkio-controller.
    """

    def __init__(self, group: Cgroup) -> None:
        self._files: dict[str, int] = {}
        unified = group.unified_path
        memory, pids = group.path_of("memory"), group.path_of("pids")
        self._open("memory_stat", memory, "memory.stat")
        self._open("pids", pids, "pids.current")
        if memory is not None and memory == unified:
            self._open("memory", memory, "memory.current")
            self._open("memory_limit", memory, "memory.max")
        else:
            self._open("memory", memory, "memory.usage_in_bytes")
            self._open("memory_limit", memory, "memory.limit_in_bytes")
        accounting = group.path_of("cpuacct")
        self._open("cpu_nanoseconds", accounting, "cpuacct.usage")
        if accounting is None:
            self._open("cpu_stat", unified, "cpu.stat")
        throttle = group.path_of("blkio")
        self._open("blkio", throttle, "blkio.throttle.io_service_bytes_recursive")
        if throttle is None:
            self._open("io", group.path_of("io"), "io.stat")

    def read(self) -> ContainerUsage:
        """Read now; blocking, some microseconds.

        Raises:
            OSError: The group is gone.
        """
        block_read, block_written = self._block_bytes()
        return ContainerUsage(
            cpu_seconds=self._cpu_seconds(),
            memory_bytes=self._memory_bytes(),
            memory_limit_bytes=self._memory_limit(),
            process_count=self._number("pids"),
            block_read_bytes=block_read,
            block_written_bytes=block_written,
        )

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _open(self, what: str, directory: str | None, name: str) -> None:
        if directory is not None:
            with contextlib.suppress(OSError):
                self._files[what] = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def _text(self, what: str) -> str | None:
        descriptor = self._files.get(what)
        return None if descriptor is None else os.pread(descriptor, _READ_BYTES, 0).decode()

    def _number(self, what: str) -> int | None:
        text = self._text(what)
        return int(text) if text is not None and text.strip().isdigit() else None

    def _cpu_seconds(self) -> float | None:
        nanoseconds = self._number("cpu_nanoseconds")
        if nanoseconds is not None:
            return nanoseconds / 1e9
        microseconds = _value(self._text("cpu_stat"), "usage_usec")
        return None if microseconds is None else microseconds / 1e6

    def _memory_bytes(self) -> int | None:
        used = self._number("memory")
        if used is None:
            return None
        stat = self._text("memory_stat")
        # v1 counts the groups below under the second name.
        droppable = _value(stat, "total_inactive_file")
        if droppable is None:
            droppable = _value(stat, "inactive_file") or 0
        return max(0, used - droppable)

    def _memory_limit(self) -> int | None:
        limit = self._number("memory_limit")
        return limit if limit is not None and limit < _NO_LIMIT_BYTES else None

    def _block_bytes(self) -> tuple[int | None, int | None]:
        throttle, io = self._text("blkio"), self._text("io")
        if throttle is not None:
            # 8:0 Read 4096
            rows = [line.split() for line in throttle.splitlines()]
            return _sum_rows(rows, "Read"), _sum_rows(rows, "Write")
        if io is not None:
            # 8:0 rbytes=4096 wbytes=0 ...
            words = io.split()
            return _sum(words, "rbytes="), _sum(words, "wbytes=")
        return None, None


def _value(text: str | None, name: str) -> int | None:
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _sum_rows(rows: list[list[str]], kind: str) -> int:
    return sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == kind)


def _sum(words: list[str], prefix: str) -> int:
    return sum(int(word.removeprefix(prefix)) for word in words if word.startswith(prefix))


def open_usage_reader(paths: tuple[str, ...]) -> UsageReader | None:
    """Open the control group of a running container; None if it has none. Blocking."""
    return UsageReader(open_group(paths)) if paths else None
