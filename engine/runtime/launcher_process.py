"""The launcher as the engine holds it: its process and the channel to it.

Imports little, so that a launcher can be started before the engine itself is loaded: the two take
about as long, and do so side by side.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Self

import engine
from engine.errors import LauncherError
from engine.runtime.sealed import open_sealed_executable

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from engine.runtime.launcher import main; main()"
)
_CHANNEL_DESCRIPTOR = 3


class LauncherProcess:
    """A launcher that runs, or has ended; it is told its options by whoever uses it first.

    It ends by itself when this process does.

    Attributes:
        channel: Frames to it; blocking.
        process_id: 0 when it was ended.
    """

    def __init__(self, channel: socket.socket, process_id: int, pidfd: int) -> None:
        """For `spawn` only."""
        self.channel = channel
        self.process_id = process_id
        self._pidfd = pidfd

    @classmethod
    def spawn(cls) -> Self:
        """Start a launcher; it takes what is sent as soon as it is loaded.

        Raises:
            LauncherError: It cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process_id, pidfd = _spawn(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(ours, process_id, pidfd)

    def has_ended(self) -> bool:
        """Whether nobody is there to take a request."""
        if self._pidfd >= 0:
            with contextlib.suppress(ChildProcessError):
                options = os.WEXITED | os.WNOHANG | os.WNOWAIT
                return os.waitid(os.P_PIDFD, self._pidfd, options) is not None
        return True

    async def end(self) -> None:
        """Close the channel, on which it ends by itself, and reap it; again is no error."""
        self.channel.close()
        pidfd, self._pidfd, self.process_id = self._pidfd, -1, 0
        if pidfd >= 0:
            try:
                await _readable(pidfd)
            finally:
                _reap(pidfd)


def _spawn(channel: socket.socket) -> tuple[int, int]:
    """Returns process id and pidfd."""
    arguments = [
        # Python finds its own library by this name, not by the sealed copy that runs.
        sys.executable,
        *("-I", "-S", "-X", "frozen_modules=on", "-c", _BOOTSTRAP),
        os.path.dirname(engine.__path__[0]),
    ]
    environment = {
        name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}
    }
    executable = open_sealed_executable(os.path.realpath(sys.executable))
    try:
        process_id = os.posix_spawn(
            f"/proc/self/fd/{executable}",
            arguments,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, channel.fileno(), _CHANNEL_DESCRIPTOR)],
            setsid=True,
        )
    except OSError as error:
        raise LauncherError(
            f"cannot start the launcher: {error.strerror}",
            hint="Check the limit on processes (ulimit -u) and that memory is free",
        ) from None
    finally:
        os.close(executable)
    try:
        return process_id, os.pidfd_open(process_id)
    except OSError as error:
        # Nobody could wait for it: it must not stay.
        os.kill(process_id, signal.SIGKILL)
        os.waitpid(process_id, 0)
        raise LauncherError(
            f"cannot watch the launcher: {error.strerror}",
            hint="Raise the limit on open files (ulimit -n)",
        ) from None


def _reap(pidfd: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)


async def _readable(descriptor: int) -> None:
    # Whoever waits has a loop, and with it this module.
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
