"""The processes that make layers: each serves one build after the other.

To load what such a process needs takes longer than most steps, so the last one stays for the next
build, for a while.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError, LauncherError, SyscallError
from engine.operations import carry_through
from engine.runtime.protocol import (
    HEADER_BYTES,
    FrameKind,
    parse_header,
    read_error,
    send_frame,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.runtime.seal_jobs import SealRequest
    from engine.snapshots.base import JobRunner

_IDLE_SECONDS = 60.0
"""How long a process stays that nobody asks for anything."""
_LOST_SECONDS = 1.0
"""How long the end of a process may take to be heard of after its last word."""


class LayerProcesses:
    """Lends processes, and keeps one that was given back."""

    def __init__(self, runner: JobRunner, *, idle_seconds: float = _IDLE_SECONDS) -> None:
        """Start nothing yet.

        Args:
            runner: Where they run.
            idle_seconds: How long one stays that nobody has borrowed.
        """
        self._runner = runner
        self._idle_seconds = idle_seconds
        self._idle: _SealingProcess | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def borrow(self, jobs: tuple[str, ...]) -> BorrowedProcess:
        """Have a process for one build, which gives it back.

        Args:
            jobs: Jobs of workers that it will be asked for.
        """
        return BorrowedProcess(self, jobs)

    def take(self) -> _SealingProcess:
        """The one that waits, or a new one; for BorrowedProcess."""
        process, self._idle = self._idle, None
        self._stop_timer()
        if process is not None:
            if process.is_alive:
                return process
            self._end(process)
        return _SealingProcess(self._runner)

    def keep(self, process: _SealingProcess) -> None:
        """Have one back that has nothing to do; for BorrowedProcess."""
        if self._idle is not None:
            self._end(process)
            return
        self._idle = process
        self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_idle)

    async def close(self) -> None:
        """End those that wait; whoever has borrowed one has given it back."""
        self._end_idle()
        if self._ending:
            await asyncio.wait(self._ending)

    def _end_idle(self) -> None:
        process, self._idle = self._idle, None
        self._stop_timer()
        if process is not None:
            self._end(process)

    def _end(self, process: _SealingProcess) -> None:
        task = asyncio.create_task(process.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BorrowedProcess:
    """The process of one build; there is none until something is asked of it."""

    def __init__(self, processes: LayerProcesses, jobs: Sequence[str]) -> None:
        """For LayerProcesses only."""
        self._processes = processes
        self._jobs = tuple(jobs)
        self._process: _SealingProcess | None = None
        self._asked = 0
        self._settled: set[int] = set()

    def start(self) -> None:
        """Have it start, and load what it will be asked for."""
        self._started()

    async def ask(
        self, request: SealRequest, directory: Path | None, descriptors: tuple[int, ...] = ()
    ) -> bytes:
        """Ask for something, and wait for the answer; nothing is undone by cancelling.

        Args:
            request: What for; its layer's number means something to this build only.
            directory: Of a layer, sent along.
            descriptors: Sent along before it; they stay the caller's.

        Raises:
            EngineError: What it raised.
            LauncherError: It was killed.
        """
        process = self._started()
        if request.action == "settle":
            self._settled.add(request.layer)
        self._asked += 1
        answer = await process.ask(request, directory, descriptors)
        self._asked -= 1
        if request.action in {"digest", "drop"}:
            self._settled.discard(request.layer)
        return answer

    async def give_back(self) -> None:
        """Let others have it, or end it if there is anything that it has not answered."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._asked or self._settled or not process.is_alive:
            await process.end()
        else:
            self._processes.keep(process)

    def _started(self) -> _SealingProcess:
        if self._process is None:
            self._process = self._processes.take()
            self._process.start(self._jobs)
        return self._process


class _SealingProcess:
    """One worker that seals, and the socket that requests go through."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._requests: socket.socket | None = None
        self._worker: asyncio.Task[bytes] | None = None
        self._sending = asyncio.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether it answers, as far as is known."""
        return self._worker is not None and not self._worker.done()

    def start(self, jobs: tuple[str, ...]) -> None:
        """Start it, unless it runs already."""
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            self._worker = asyncio.create_task(self._serve(theirs, jobs))

    async def end(self) -> None:
        """End it, whatever it does."""
        requests, self._requests = self._requests, None
        worker, self._worker = self._worker, None
        if requests is not None:
            requests.close()
        if worker is not None:
            worker.cancel()
            await asyncio.wait((worker,))
            if not worker.cancelled():
                worker.exception()

    async def ask(
        self, request: SealRequest, directory: Path | None, descriptors: tuple[int, ...]
    ) -> bytes:
        """As BorrowedProcess."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                async with self._sending:
                    requests = self._requests
                    if requests is None:
                        raise await self._lost()
                    try:
                        # A frame that was cut short would make nonsense of all that follow.
                        await carry_through(
                            asyncio.to_thread(
                                _send, requests, request, theirs, directory, descriptors
                            )
                        )
                    except ConnectionError:
                        raise await self._lost() from None
            ours.setblocking(False)
            try:
                length, kind = parse_header(await _exactly(ours, HEADER_BYTES))
                payload = await _exactly(ours, length)
            except (EOFError, OSError):
                raise await self._lost() from None
        if kind is FrameKind.ERROR:
            raise read_error(payload)
        return payload

    async def _lost(self) -> EngineError:
        """Why the process has ended: what it said last, or that it was killed."""
        if self._worker is not None:
            ended, _pending = await asyncio.wait((self._worker,), timeout=_LOST_SECONDS)
            for worker in ended:
                reason = None if worker.cancelled() else worker.exception()
                if isinstance(reason, EngineError) and not isinstance(reason, LauncherError):
                    return reason
        return LauncherError("the worker that makes layers was killed", hint="Memory may be short")

    async def _serve(self, theirs: socket.socket, jobs: tuple[str, ...]) -> bytes:
        with theirs:
            return await self._runner.run_job(
                "seal-layers", msgspec.json.encode(jobs), descriptors=(theirs.fileno(),)
            )


def _send(
    channel: socket.socket,
    request: SealRequest,
    answer: socket.socket,
    directory: Path | None,
    descriptors: tuple[int, ...],
) -> None:
    sent = (answer.fileno(), *descriptors)
    opened = -1
    try:
        if directory is not None:
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            sent = (*sent, opened)
        send_frame(channel, FrameKind.JOB, msgspec.json.encode(request), sent)
    except ConnectionError:
        raise
    except OSError as error:
        raise SyscallError("ask for a layer", error.errno or 0, str(directory or "")) from error
    finally:
        if opened >= 0:
            os.close(opened)


async def _exactly(channel: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < length:
        part = await loop.sock_recv(channel, length - len(received))
        if not part:
            raise EOFError
        received += part
    return received
