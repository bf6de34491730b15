"""Asking a container's health: probes on a timetable, each a program that is run in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.runtime.health import (
    MOST_OUTPUT_BYTES,
    TIMED_OUT,
    HealthRecord,
    HealthSpec,
    ProbeResult,
    judge,
    read_output,
    seconds_until_probe,
)
from engine.runtime.protocol import PacketKind, SessionEnd
from engine.runtime.records import decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.reactor import Deadline, Reactor

_PACKET_BYTES = 256 << 10


class HealthChecker:
    """Probes one container for the time of one run."""

    def __init__(
        self,
        spec: HealthSpec,
        reactor: Reactor,
        *,
        started_at_ns: int,
        read_health: Callable[[], HealthRecord],
        write_health: Callable[[HealthRecord], None],
        run_probe: Callable[[socket.socket, tuple[str, ...]], int],
    ) -> None:
        """Prepare; `resume` begins.

        Args:
            spec: How to ask.
            reactor: Drives everything.
            started_at_ns: When the container's program was started.
            read_health: What is known so far.
            write_health: Takes what is known from now on.
            run_probe: Forks the process that runs a command line in the container and serves its
                session on a connection; returns its id, and reaps it some time.
        """
        self._spec = spec
        self._reactor = reactor
        self._started_at_ns = started_at_ns
        self._read_health = read_health
        self._write_health = write_health
        self._run_probe = run_probe
        self._next: Deadline | None = None
        self._timeout: Deadline | None = None
        self._connection: socket.socket | None = None
        self._process = -1
        self._probe_started_at_ns = 0
        self._output = b""

    def resume(self) -> None:
        """Probe from now on: for the first time when the interval has passed."""
        since_start_seconds = (time.time_ns() - self._started_at_ns) / 1e9
        seconds = seconds_until_probe(self._spec, self._read_health(), since_start_seconds)
        self._next = self._reactor.after(seconds, self._probe)

    def suspend(self) -> None:
        """Probe no more, and end the probe that runs; `resume` goes on."""
        if self._next is not None:
            self._next.cancel()
        self._kill()
        self._close()

    def _probe(self) -> None:
        self._probe_started_at_ns = time.time_ns()
        self._output = b""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process_id = self._run_probe(theirs, self._spec.arguments)
        except (EngineError, OSError) as error:
            ours.close()
            self._output = str(error).encode()
            self._finish(TIMED_OUT)
            return
        self._process = os.pidfd_open(process_id)
        ours.setblocking(False)
        self._connection = ours
        self._reactor.watch(ours.fileno(), self._receive)
        self._timeout = self._reactor.after(self._spec.timeout_seconds, self._time_out)

    def _receive(self, _events: int) -> None:
        assert self._connection is not None
        try:
            packet = self._connection.recv(_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        kind, data = packet[:1], packet[1:]
        if kind in {PacketKind.OUTPUT, PacketKind.ERRORS}:
            # One byte more than is kept, to know that it was cut.
            self._output += data[: MOST_OUTPUT_BYTES + 1 - len(self._output)]
        elif kind == PacketKind.END:
            self._finish(decode_record(SessionEnd, data).exit_code)
        elif not packet:
            self._finish(TIMED_OUT)
        elif (error := json.loads(packet).get("error")) is not None:
            self._output = str(error["message"]).encode()
            self._finish(TIMED_OUT)

    def _time_out(self) -> None:
        self._kill()
        seconds = self._spec.timeout_seconds
        text = f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
        self._output = f"Health check exceeded timeout ({text}): ".encode() + self._output
        self._finish(TIMED_OUT)

    def _kill(self) -> None:
        # The program dies with the process that serves it.
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def _close(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        if self._connection is not None:
            self._reactor.forget(self._connection.fileno())
            self._connection.close()
            self._connection = None
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def _finish(self, exit_code: int) -> None:
        self._close()
        result = ProbeResult(
            started_at_ns=self._probe_started_at_ns,
            finished_at_ns=time.time_ns(),
            exit_code=exit_code,
            output=read_output(self._output),
        )
        self._output = b""
        self._write_health(
            judge(self._spec, self._read_health(), result, started_at_ns=self._started_at_ns)
        )
        self.resume()
