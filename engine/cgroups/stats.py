"""What a container uses, as counters: files stay open, so that a sample costs few calls."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.cgroups.group import Cgroup

_READ_BYTES = 64 << 10
_NO_LIMIT = 1 << 60
"""v1 says no limit as the largest multiple of a page."""
_CACHE_AGES_IN_NS = 5_000_000_000
"""Page cache goes out of active use without any change of the usage, but that takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupSample:
    """Raw counters at one moment; None is what the host does not tell.

    Attributes:
        sampled_ns: Monotonic clock.
        cpu_ns: Processor time used since the group was made.
        memory_bytes: Without page cache that is not in active use, as Docker counts.
        memory_limit_bytes: None is no limit.
        process_count: Threads included, as the pids limit counts.
        network_received_bytes: Over all interfaces but loopback.
        network_sent_bytes: As above.
        block_read_bytes: Over all devices.
        block_written_bytes: As above.
    """

    sampled_ns: int
    cpu_ns: int | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    process_count: int | None
    network_received_bytes: int
    network_sent_bytes: int
    block_read_bytes: int | None
    block_written_bytes: int | None


def cpu_percent(earlier: CgroupSample, later: CgroupSample) -> float | None:
    """Processor use between two samples, of one processor: 200 is two whole ones.

    The same as Docker's container delta / system delta * processors, as the system's delta over
    all processors is the elapsed time times their number.
    """
    if earlier.cpu_ns is None or later.cpu_ns is None:
        return None
    elapsed = later.sampled_ns - earlier.sampled_ns
    return max(later.cpu_ns - earlier.cpu_ns, 0) / elapsed * 100 if elapsed > 0 else 0.0


class StatsReader:
    """Samples one container; `sample` blocks for some 20 microseconds. Close it when done."""

    def __init__(self, group: Cgroup, process_id: int) -> None:
        """Open what there is.

        Args:
            group: The container's.
            process_id: Of its first process, for the network; 0 for none.
        """
        unified = group.unified_path
        memory, pids = group.path_of("memory"), group.path_of("pids")
        accounting, block = group.path_of("cpuacct"), group.path_of("blkio")
        is_v1_memory = memory != unified
        self._is_v1_memory = is_v1_memory
        self._usage = _open(memory, "memory.usage_in_bytes" if is_v1_memory else "memory.current")
        self._limit = _open(memory, "memory.limit_in_bytes" if is_v1_memory else "memory.max")
        self._memory = _open(memory, "memory.stat")
        self._pids = _open(pids, "pids.current")
        self._usage_v1 = _open(accounting, "cpuacct.usage")
        self._cpu = _open(unified, "cpu.stat") if accounting is None else -1
        self._block_v1 = _open(block, "blkio.throttle.io_service_bytes_recursive")
        self._block = _open(unified, "io.stat") if block is None else -1
        self._network = _open(f"/proc/{process_id}", "net/dev") if process_id else -1
        self._cache = _PageCache()

    def sample(self) -> CgroupSample:
        """Read the counters; those of a group that is gone are None."""
        received, sent = parse_network(_read(self._network))
        read, written = (
            parse_block_v1(_read(self._block_v1))
            if self._block_v1 >= 0
            else parse_block_v2(_read(self._block) if self._block >= 0 else None)
        )
        now_ns = time.monotonic_ns()
        return CgroupSample(
            sampled_ns=now_ns,
            cpu_ns=self._cpu_ns(),
            memory_bytes=self._memory_bytes(now_ns),
            memory_limit_bytes=self._limit_bytes(),
            process_count=_number(_read(self._pids)),
            network_received_bytes=received,
            network_sent_bytes=sent,
            block_read_bytes=read,
            block_written_bytes=written,
        )

    def close(self) -> None:
        """Close the files; a second time does nothing."""
        for name, descriptor in list(vars(self).items()):
            if isinstance(descriptor, int) and name != "_is_v1_memory" and descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def _cpu_ns(self) -> int | None:
        if self._usage_v1 >= 0:
            return _number(_read(self._usage_v1))
        microseconds = _keyed(_read(self._cpu), b"usage_usec")
        return None if microseconds is None else microseconds * 1000

    def _memory_bytes(self, now_ns: int) -> int | None:
        usage = _number(_read(self._usage))
        if usage is None:
            return None
        # memory.stat costs the kernel as much as all the other files together.
        cache = self._cache
        if usage != cache.usage_bytes or now_ns - cache.read_ns > _CACHE_AGES_IN_NS:
            key = b"total_inactive_file" if self._is_v1_memory else b"inactive_file"
            inactive = _keyed(_read(self._memory), key) or 0
            cache = self._cache = _PageCache(usage, inactive, now_ns)
        return max(usage - cache.inactive_bytes, 0)

    def _limit_bytes(self) -> int | None:
        limit = _number(_read(self._limit))
        return None if limit is None or limit >= _NO_LIMIT else limit


class _PageCache(NamedTuple):
    """What of a usage is page cache that is not in active use."""

    usage_bytes: int = -1
    inactive_bytes: int = 0
    read_ns: int = 0


def parse_network(text: bytes | None) -> tuple[int, int]:
    """Bytes received and sent in /proc/<pid>/net/dev, loopback left out."""
    received = sent = 0
    for line in (text or b"").splitlines():
        name, colon, rest = line.partition(b":")
        if colon and name.strip() != b"lo" and len(fields := rest.split()) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def parse_block_v1(text: bytes | None) -> tuple[int | None, int | None]:
    """Bytes read and written in a blkio file of `8:0 Read 4096` lines."""
    if text is None:
        return None, None
    totals = {b"Read": 0, b"Write": 0}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in totals:
            totals[fields[1]] += int(fields[2])
    return totals[b"Read"], totals[b"Write"]


def parse_block_v2(text: bytes | None) -> tuple[int | None, int | None]:
    """Bytes read and written in io.stat of `8:0 rbytes=1 wbytes=2 …` lines."""
    if text is None:
        return None, None
    totals = {b"rbytes": 0, b"wbytes": 0}
    for word in text.split():
        name, _, number = word.partition(b"=")
        if name in totals:
            totals[name] += int(number)
    return totals[b"rbytes"], totals[b"wbytes"]


def _open(directory: str | None, name: str) -> int:
    if directory is None:
        return -1
    with contextlib.suppress(OSError):
        return os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _read(descriptor: int) -> bytes | None:
    if descriptor < 0:
        return None
    try:
        return os.pread(descriptor, _READ_BYTES, 0)
    except OSError:
        return None


def _number(text: bytes | None) -> int | None:
    """A number; None for `max` too."""
    return int(text) if text and text.strip().isdigit() else None


def _keyed(text: bytes | None, key: bytes) -> int | None:
    """The number behind a key at the beginning of a line."""
    # Found, not split: memory.stat has 40 lines, and one of them is wanted.
    lines = b"\n" + (text or b"")
    begin = lines.find(b"\n" + key + b" ")
    if begin < 0:
        return None
    begin += len(key) + 2
    end = lines.find(b"\n", begin)
    return int(lines[begin : end if end >= 0 else None])
