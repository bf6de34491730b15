"""The launcher: the one process that forks.

A small, single-threaded Python (`python -I -S`) that the engine starts once. It is executed from
a sealed copy of its own program, so that no container can write to it, and forks monitors and
workers on request. It ends with the engine; monitors do not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from typing import NoReturn

from engine.errors import EngineError, LauncherError
from engine.linux.capabilities import set_dumpable
from engine.linux.process import CLONE_NEWUSER, leave_namespaces
from engine.runtime.monitor import run_monitor
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
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.runtime.worker import run_worker

CHANNEL_DESCRIPTOR = 3


def main() -> NoReturn:
    """Serve the engine behind descriptor 3 until it goes away."""
    channel = socket.socket(fileno=CHANNEL_DESCRIPTOR)
    channel.set_inheritable(False)
    silence_standard_streams()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # What a person types is meant for the application.
        signal.signal(number, signal.SIG_IGN)
    # Ended children need no one to wait for them here: their monitors and channels tell.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(b"lamella-launch")
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
    for kind in (ContainerSpec, StateRecord, MonitorCall, InitFailure):
        learn_record(kind)
    # Pages that the collector does not touch stay shared with every monitor.
    gc.collect()
    gc.freeze()
    # A collection in the middle of a start would take its time and touch pages that are shared.
    gc.disable()
    while (frame := receive_frame(channel)) is not None:
        _serve(channel, frame[0], frame[1], frame[2], options)
    os._exit(0)


def _enter_user_namespace(channel: socket.socket) -> None:
    """Enter a user namespace, have the engine map its ids, and become its root."""
    leave_namespaces(CLONE_NEWUSER)
    send_frame(channel, FrameKind.MAP_IDS, b"")
    if receive_frame(channel) is None:
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _serve(
    channel: socket.socket,
    kind: FrameKind,
    payload: bytes,
    descriptors: list[int],
    options: LaunchOptions,
) -> None:
    if kind not in {FrameKind.START, FrameKind.JOB} or not descriptors:
        raise LauncherError(f"unexpected {kind.name} message")
    try:
        process_id = os.fork()
    except OSError as error:
        with socket.socket(fileno=descriptors.pop(0)) as answer:
            send_error(answer, LauncherError(f"cannot fork: {error.strerror}"))
    else:
        if process_id == 0:
            channel.detach()
            answer = socket.socket(fileno=descriptors[0])
            if kind is FrameKind.START:
                run_monitor(payload, answer)
            run_worker(payload, answer, descriptors[1:], options)
    for descriptor in descriptors:
        os.close(descriptor)
