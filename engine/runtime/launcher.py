"""The launcher: the one process that forks.

A small, single-threaded Python (`python -I -S`) that the engine starts once. It is executed from
a sealed copy of its own program, so that no container can write to it, and forks monitors and
workers on request. It ends with the engine; monitors do not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from typing import NoReturn

from engine.errors import EngineError, LauncherError
from engine.late_dataclasses import compile_all
from engine.linux.capabilities import set_dumpable
from engine.linux.process import (
    CLONE_NEWUSER,
    close_other_descriptors,
    fork_named,
    leave_namespaces,
)
from engine.runtime.build_lane import LANE_NAME, StepSpec, run_lane
from engine.runtime.monitor_process import LAUNCHER_NAME, MONITOR_NAME, run_monitor
from engine.runtime.protocol import (
    FrameKind,
    InitFailure,
    LaunchOptions,
    MonitorCall,
    receive_frame,
    send_error,
    send_frame,
    silence_standard_streams,
)
from engine.runtime.records import decode_record, learn_record
from engine.runtime.spare import SpareMonitor
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.runtime.worker import WORKER_NAME, run_worker

CHANNEL_DESCRIPTOR = 3
_REQUESTS = frozenset({FrameKind.START, FrameKind.START_APART, FrameKind.JOB, FrameKind.LANE})
_NAMES = {FrameKind.JOB: WORKER_NAME, FrameKind.LANE: LANE_NAME}
_QUIET_MILLISECONDS = 5
"""How long nothing is asked for before the next spare monitor is made."""


def main() -> NoReturn:
    """Serve the engine behind descriptor 3 until it goes away."""
    channel = socket.socket(fileno=CHANNEL_DESCRIPTOR)
    channel.set_inheritable(False)
    # What the application was started with, or has open for others, is not for monitors to hold.
    close_other_descriptors({CHANNEL_DESCRIPTOR})
    silence_standard_streams()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        # What a person types is meant for the application, and monitors outlive all of it.
        signal.signal(number, signal.SIG_IGN)
    # Ended children need no one to wait for them here: their monitors and channels tell.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(LAUNCHER_NAME.encode())
    os.chdir("/")
    first = receive_frame(channel)
    if first is None:
        os._exit(0)
    options = decode_record(LaunchOptions, first[1])
    try:
        if options.is_rootless:
            _enter_user_namespace(channel)
        set_dumpable(is_dumpable=False)
    except EngineError as error:
        send_error(channel, error)
        os._exit(1)
    for kind in (ContainerSpec, StateRecord, StepSpec, MonitorCall, InitFailure):
        learn_record(kind)
    compile_all()
    # Pages that the collector does not touch stay shared with every monitor.
    gc.collect()
    gc.freeze()
    # A collection in the middle of a start would take its time and touch pages that are shared.
    gc.disable()
    Launcher(channel, options).serve()
    os._exit(0)


def _load_what_few_need() -> None:
    """Load what is loaded by some children of monitors otherwise, each for itself alone."""
    import engine.runtime.network_server  # noqa: F401

    gc.freeze()


def _enter_user_namespace(channel: socket.socket) -> None:
    """Enter a user namespace, have the engine map its ids, and become its root."""
    leave_namespaces(CLONE_NEWUSER)
    send_frame(channel, FrameKind.MAP_IDS, b"")
    if receive_frame(channel) is None:
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


class Launcher:
    """Forks monitors and workers as the engine asks for them."""

    def __init__(self, channel: socket.socket, options: LaunchOptions) -> None:
        self._channel = channel
        self._options = options
        self._spare: SpareMonitor | None = None
        self._starting: SpareMonitor | None = None
        self._last_spec = b""
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Serve requests until the engine goes away."""
        while True:
            # A container that has just started may end at once: let it have the processor.
            events = self._poll.poll(_QUIET_MILLISECONDS)
            if not events:
                if self._spare is None and self._starting is None:
                    _load_what_few_need()
                    self._spare = SpareMonitor.fork(self._channel, self._last_spec)
                events = self._poll.poll()
            for descriptor, _events in events:
                if descriptor != self._channel.fileno():
                    self._forget_started()
                elif (frame := receive_frame(self._channel)) is not None:
                    self._serve(*frame)
                else:
                    if self._spare is not None:
                        self._spare.dismiss()
                    return

    def _serve(self, kind: FrameKind, payload: bytes, descriptors: list[int]) -> None:
        if kind not in _REQUESTS or not descriptors:
            raise LauncherError(f"unexpected {kind.name} message")
        if not (kind is FrameKind.START and self._use_spare(payload, tuple(descriptors))):
            self._fork(kind, payload, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _use_spare(self, spec_document: bytes, descriptors: tuple[int, ...]) -> bool:
        self._last_spec = spec_document
        spare, self._spare = self._spare, None
        if spare is None:
            return False
        if not spare.hand_over(spec_document, descriptors):
            spare.channel.close()
            return False
        self._starting = spare
        self._poll.register(spare.channel, select.POLLIN)
        return True

    def _forget_started(self) -> None:
        if self._starting is not None:
            self._poll.unregister(self._starting.channel)
            self._starting.channel.close()
            self._starting = None

    def _fork(self, kind: FrameKind, payload: bytes, descriptors: list[int]) -> None:
        try:
            process_id = fork_named(_NAMES.get(kind, MONITOR_NAME), LAUNCHER_NAME)
        except OSError as error:
            with socket.socket(fileno=descriptors.pop(0)) as answer:
                send_error(answer, LauncherError(f"cannot fork: {error.strerror}"))
            return
        if process_id == 0:
            self._channel.close()
            # Whoever keeps the other end of a monitor's channel keeps it from seeing the end.
            for other in (self._starting, self._spare):
                if other is not None:
                    other.channel.close()
            answer = socket.socket(fileno=descriptors[0])
            if kind is FrameKind.JOB:
                run_worker(payload, answer, descriptors[1:], self._options)
            if kind is FrameKind.LANE:
                run_lane(payload, answer)
            run_monitor(payload, answer, descriptors[1:])
