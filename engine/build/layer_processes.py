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

from engine.build.idle import IDLE_SECONDS, IdleKeeper
from engine.errors import EngineError, LauncherError, SyscallError
from engine.operations import carry_through
from engine.runtime.answers import receive_answer
from engine.runtime.protocol import FrameKind, send_frame

if TYPE_CHECKING:
    from pathlib import Path

    from engine.runtime.seal_jobs import SealRequest
    from engine.snapshots.base import JobRunner

_LOST_SECONDS = 1.0
"""How long the end of a process may take to be heard of after its last word."""


class LayerProcesses:
    """Lends processes, and keeps one that was given back."""

    def __init__(self, runner: JobRunner, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Start nothing yet.

        Args:
            runner: Where they run.
            idle_seconds: How long one stays that nobody has borrowed.
        """
        self._runner = runner
        self._idle = IdleKeeper(_SealingProcess.end, idle_seconds=idle_seconds)

    async def borrow(self, jobs: tuple[str, ...]) -> BorrowedProcess:
        """Have a process for one build, which gives it back.

        Args:
            jobs: Jobs of workers that it will be asked for.
        """
        process = await self._idle.take(lambda one: one.is_alive)
        return BorrowedProcess(process or _SealingProcess(self._runner), self._idle, jobs)

    async def close(self) -> None:
        """End the one that waits; whoever has borrowed one has given it back."""
        await self._idle.close()


class BorrowedProcess:
    """The process of one build; a new one does not start until something is asked of it."""

    def __init__(
        self, process: _SealingProcess, idle: IdleKeeper[_SealingProcess], jobs: tuple[str, ...]
    ) -> None:
        """For LayerProcesses only."""
        self._process = process
        self._idle = idle
        self._jobs = jobs
        self._is_given_back = False
        self._unanswered = 0
        self._settled: set[int] = set()

    def start(self) -> None:
        """Have it start, and load what it will be asked for."""
        if not self._is_given_back:
            self._process.start(self._jobs)

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
        if self._is_given_back:
            # Another build may have it by now.
            raise LauncherError("the worker that makes layers serves this build no more")
        self.start()
        if request.action == "settle":
            self._settled.add(request.layer)
        # Whatever was not answered well stays counted: the process may be at it still.
        self._unanswered += 1
        answer = await self._process.ask(request, directory, descriptors)
        self._unanswered -= 1
        if request.action in {"digest", "drop"}:
            self._settled.discard(request.layer)
        return answer

    async def give_back(self) -> None:
        """Let others have it, or end it if there is anything that it has not answered."""
        if self._is_given_back:
            return
        self._is_given_back = True
        if self._unanswered or self._settled or not self._process.is_alive:
            await self._process.end()
        else:
            await self._idle.keep(self._process)


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
                _kind, payload = await receive_answer(ours)
            except (EOFError, OSError):
                raise await self._lost() from None
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
