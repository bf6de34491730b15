"""Rows about the application in a terminal: first paint, and what it costs when nothing happens."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.containers import small_engine
from benchmarks.measure import Clock, Figure, Result, compare, interleave
from benchmarks.place import IMAGE, Place
from engine.types import ContainerRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_IDLE_SECONDS = 20.0
_QUIET_SECONDS = 0.5
_SETTLED_SECONDS = 3.0


@dataclass
class Screen:
    """The application in a terminal of 120x40."""

    pid: int
    descriptor: int
    begun: Clock

    async def read(self, *, for_seconds: float) -> bytes:
        """Read what comes within a time; empty when nothing does."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()

        def note() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self.descriptor, note)
        try:
            async with asyncio.timeout(for_seconds):
                await readable
            return os.read(self.descriptor, 1 << 16)
        except TimeoutError:
            return b""
        finally:
            loop.remove_reader(self.descriptor)

    def cpu_seconds(self) -> float:
        """Of the application and of its launcher."""
        total = 0
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if entry == str(self.pid) or int(fields[1]) == self.pid:
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Screen]:
    """Open the application; it is ended with the block."""
    clock = Clock()
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="40")
        os.execv(place.lamella[0], list(place.lamella))
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        yield Screen(pid, descriptor, clock)
    finally:
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)
        os.close(descriptor)


async def _until_painted(screen: Screen) -> float:
    """Seconds until the panes' borders were drawn; then everything up to a quiet moment is read."""
    seen = b""
    painted = 0.0
    while data := await screen.read(for_seconds=10 if not painted else _QUIET_SECONDS):
        seen += data
        if not painted and b"Containers" in seen and b"Images" in seen:
            painted = screen.begun.seconds
    return painted


async def first_paint(place: Place) -> Result:
    """From the command to all panes on the screen."""

    async def ours() -> float:
        async with opened(place) as screen:
            return await _until_painted(screen)

    return Result(compare("first paint", await interleave({"lamella": ours}, rounds=5)))


async def idle(place: Place) -> Result:
    """Ten containers that do nothing: processor and bytes to the terminal."""
    async with small_engine(place) as engine:
        for _number in range(10):
            created = await engine.create_container(
                ContainerRequest(image=IMAGE, command=("sleep", "1000"))
            )
            await engine.start_container(created.container_id)
        async with opened(place) as screen:
            await _until_painted(screen)
            # The first figures of the containers come a moment later, and are drawn once.
            while await screen.read(for_seconds=_SETTLED_SECONDS):
                pass
            before, begun, count = screen.cpu_seconds(), time.monotonic(), 0
            while (left := begun + _IDLE_SECONDS - time.monotonic()) > 0:
                count += len(await screen.read(for_seconds=left))
            share = (screen.cpu_seconds() - before) / _IDLE_SECONDS * 100
    return Result(
        [
            Figure("idle, 10 containers: processor", share, "% of a core"),
            Figure("idle, 10 containers: to the terminal", count / _IDLE_SECONDS, "B/s"),
        ]
    )
