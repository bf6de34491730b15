"""The way out of an ordinary user's containers: slirp4netns, which speaks for them from outside.

It is a child of the monitor's with a device in the container's namespace, and ends with the
monitor. When it ends by itself the container is cut off, so another one is started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from engine.errors import StartError
from engine.linux.process import clone_process, close_other_descriptors
from engine.runtime.program import die_with
from engine.runtime.protocol import FrameKind, receive_frame, send_frame

if TYPE_CHECKING:
    from engine.runtime.reactor import Deadline, Reactor

ADDRESS = "10.0.2.100"
"""What a container has by it; the host beyond is 10.0.2.2, and not its loopback."""
RESOLVER = "10.0.2.3"
"""Asks the host's servers, those on its loopback among them."""
_DEVICE = "tap0"
_MTU = 65520
_AGAIN_SECONDS = 1.0


class PendingUserNetwork:
    """The process before it has the container's namespace.

    It is born in the host's network namespace, into which an ordinary user finds no way back.
    """

    def __init__(self, program: str, monitor: int) -> None:
        """Make it the monitor's child; for a starter that has not entered the namespace yet.

        Args:
            program: Its path.
            monitor: A pidfd of the monitor.
        """
        self._program = program
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process_id, self._pidfd = clone_process(0, is_sibling=True)
        if process_id == 0:
            _await_namespace(program, monitor, theirs, ready)
        theirs.close()
        os.close(ready)

    def start(self, namespace: int) -> int:
        """Have it lead out of a network namespace, and wait until it does; returns its pidfd.

        Raises:
            StartError: It has ended without being ready.
        """
        with self._channel:
            send_frame(self._channel, FrameKind.START, b"", (namespace,))
        is_ready = os.read(self._ready, 1)
        os.close(self._ready)
        if not is_ready:
            os.close(self._pidfd)
            raise StartError(
                f"{self._program} cannot give the container a network",
                exit_code=125,
                step="network",
                hint="--network none goes without, --network host has the host's",
            )
        return self._pidfd


def _await_namespace(program: str, monitor: int, channel: socket.socket, ready: int) -> NoReturn:
    try:
        die_with(monitor)
        frame = receive_frame(channel)
        if frame is not None:
            _run(program, frame[2][0], monitor, ready)
    finally:
        os._exit(1)


def _run(program: str, namespace: int, monitor: int, ready: int) -> NoReturn:
    try:
        die_with(monitor)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        kept = {namespace, ready} - {-1}
        close_other_descriptors(kept)
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        words = [
            os.path.basename(program),
            "--configure",
            f"--mtu={_MTU}",
            # What listens on the host's loopback is not for containers.
            "--disable-host-loopback",
            "--netns-type=path",
        ]
        if ready >= 0:
            words.append(f"--ready-fd={ready}")
        words += [f"/proc/self/fd/{namespace}", _DEVICE]
        os.execve(program, words, {"PATH": os.defpath})
    finally:
        os._exit(127)


class UserNetwork:
    """The process, as a monitor keeps it."""

    def __init__(self, reactor: Reactor, program: str, *, namespace: int, pidfd: int) -> None:
        """Watch one that a starter has started."""
        self._reactor = reactor
        self._program = program
        self._namespace = namespace
        self._pidfd = pidfd
        self._again: Deadline | None = None
        reactor.watch(pidfd, lambda _events: self._ended())

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._again is not None:
            self._again.cancel()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()

    def _ended(self) -> None:
        self._reap()
        # Not at once: what has ended it may end the next one, too.
        self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)

    def _begin(self) -> None:
        monitor = os.pidfd_open(os.getpid())
        try:
            process_id = os.fork()
            if process_id == 0:
                _run(self._program, self._namespace, monitor, -1)
            self._pidfd = os.pidfd_open(process_id)
        except OSError:  # no process is to be had now
            self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)
            return
        finally:
            os.close(monitor)
        self._reactor.watch(self._pidfd, lambda _events: self._ended())

    def _reap(self) -> None:
        self._reactor.forget(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._pidfd = -1
