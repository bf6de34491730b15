"""How a fork of the launcher becomes a monitor, at once or when there is a container for it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from typing import NoReturn

from engine.cgroups.host import detect_cgroups
from engine.errors import EngineError
from engine.linux.process import close_other_descriptors, set_process_name
from engine.runtime.monitor import Monitor
from engine.runtime.protocol import FrameKind, receive_frame, send_error, send_frame
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import ContainerSpec, StateRecord

_IGNORED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE)


def run_monitor(spec_document: bytes, channel: socket.socket) -> NoReturn:
    """Start a container and watch it until its end; never returns.

    Args:
        spec_document: A ContainerSpec as JSON.
        channel: Answers once: RESULT with the StateRecord, or ERROR.
    """
    try:
        _become_monitor(channel, "lamella-monitor")
        _run(spec_document, channel)
    except BaseException as error:  # the last place that could tell of it
        with contextlib.suppress(BaseException):
            send_error(channel, error)
    os._exit(1)


def run_spare_monitor(requests: socket.socket, rehearsal: bytes) -> NoReturn:
    """Wait for a container, then be its monitor; never returns.

    Args:
        requests: Brings one START with the channel that answers, or ends; it is closed when the
            container runs or has failed to.
        rehearsal: A ContainerSpec as JSON to warm up with, or nothing.
    """
    channel: socket.socket | None = None
    try:
        _become_monitor(requests, "lamella-spare")
        if rehearsal:
            decode_record(ContainerSpec, rehearsal)
        encode_record(StateRecord())
        detect_cgroups()
        frame = receive_frame(requests)
        if frame is None:
            os._exit(0)
        set_process_name("lamella-monitor")
        channel = socket.socket(fileno=frame[2][0])
        _run(frame[1], channel, requests)
    except BaseException as error:  # the last place that could tell of it
        if channel is not None:
            with contextlib.suppress(BaseException):
                send_error(channel, error)
    os._exit(1)


def _run(
    spec_document: bytes, channel: socket.socket, requests: socket.socket | None = None
) -> NoReturn:
    monitor = Monitor(decode_record(ContainerSpec, spec_document), spec_document)
    try:
        monitor.start()
    except (EngineError, OSError) as error:
        failure = monitor.abandon(error)
        send_error(channel, failure)
        os._exit(1)
    with contextlib.suppress(OSError):
        # The application may be gone already; the container runs all the same.
        send_frame(channel, FrameKind.RESULT, encode_record(monitor.state))
    channel.close()
    if requests is not None:
        requests.close()
    gc.enable()
    monitor.watch()
    os._exit(0)


def _become_monitor(channel: socket.socket, name: str) -> None:
    os.setsid()
    for number in _IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    close_other_descriptors({channel.fileno()})
    os.umask(0o077)
    set_process_name(name)
