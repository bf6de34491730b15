"""How a fork of the launcher becomes a monitor, at once or when there is a container for it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from engine.cgroups.host import detect_cgroups
from engine.linux.process import set_process_name
from engine.runtime.monitor import Monitor
from engine.runtime.network import HostNetwork, enter_new_network
from engine.runtime.protocol import receive_frame, send_error
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.runtime.starter import STARTER_NAME, MonitorEnd, Starter, start_container

if TYPE_CHECKING:
    from collections.abc import Sequence

LAUNCHER_NAME = "lamella-launch"
MONITOR_NAME = "lamella-monitor"
_QUIET_MILLISECONDS = 5
"""How long nothing happens to a container before its starter ends."""


def run_monitor(
    spec_document: bytes, answer: socket.socket, reservation: Sequence[int]
) -> NoReturn:
    """Have a container started and watch it until its end; never returns.

    Args:
        spec_document: A ContainerSpec as JSON.
        answer: Answers once: RESULT with the StateRecord, or ERROR.
        reservation: A descriptor that keeps its published ports, or none.
    """
    try:
        _become_monitor()
        try:
            starter = Starter.fork(
                functools.partial(start_container, spec_document, answer, reservation)
            )
        except OSError as error:
            send_error(answer, error)
        else:
            answer.close()
            for descriptor in reservation:
                os.close(descriptor)
            _watch(starter)
    finally:
        os._exit(1)


def run_spare_monitor(requests: socket.socket, rehearsal: bytes) -> NoReturn:
    """Have a starter wait for a container, then watch that; never returns.

    Args:
        requests: Brings one START with the channel that answers, or ends; it is closed when the
            container runs or has failed to.
        rehearsal: A ContainerSpec as JSON for the starter to warm up with, or nothing.
    """
    try:
        _become_monitor()
        starter = Starter.fork(functools.partial(_await_start, requests, rehearsal))
        requests.close()
        _watch(starter)
    finally:
        os._exit(1)


def _await_start(requests: socket.socket, rehearsal: bytes, monitor: MonitorEnd) -> NoReturn:
    """In the starter of a spare monitor: do ahead of time what is done at every start."""
    set_process_name("lamella-spare")
    if rehearsal:
        decode_record(ContainerSpec, rehearsal)
    encode_record(StateRecord())
    detect_cgroups()
    host = HostNetwork()
    enter_new_network()
    frame = receive_frame(requests)
    if frame is None:
        os._exit(0)
    set_process_name(STARTER_NAME)
    answer = socket.socket(fileno=frame[2][0])
    start_container(frame[1], answer, frame[2][1:], monitor, host=host)


def _watch(starter: Starter) -> NoReturn:
    received = starter.receive()
    if received is None:
        starter.reap()
        _reap_all()
        os._exit(1)
    # A program that ends at once has the processor before the end of its starter.
    if not received.await_event(_QUIET_MILLISECONDS):
        starter.reap()
        received.await_event()
    gc.enable()
    monitor = Monitor(received.read())
    starter.let_go()
    monitor.after(_QUIET_MILLISECONDS / 1000, starter.reap)
    monitor.watch()
    starter.reap()
    os._exit(0)


def _reap_all() -> None:
    """Take what has ended; what a killed starter has left alive is killed as this process ends."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            continue


def _become_monitor() -> None:
    """Leave the launcher's session. What it ignores, a monitor ignores, too."""
    os.setsid()
    # Who ignores this cannot wait for children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o077)
