"""The engine's side of a lane of a build."""

from __future__ import annotations

import array
import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import msgspec

from engine.errors import LauncherError
from engine.operations import carry_through
from engine.runtime.answers import receive_answer
from engine.runtime.build_lane import StepEnd
from engine.runtime.protocol import FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.build_lane import StepSpec
    from engine.runtime.spec import NetworkSpec


class StepLane:
    """A process that runs one step after the other; ends with this object's channel.

    Attributes:
        is_closed: It runs nothing any more.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Take over the channel of a lane that was asked for."""
        self._channel = channel
        channel.setblocking(False)
        self.is_closed = False

    async def wait_until_ready(self) -> None:
        """Return when it can run steps.

        Raises:
            EngineError: It cannot be set up.
        """
        await self._receive()

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone; to be asked while it has nothing to do."""
        if self.is_closed:
            return True
        try:
            # One that says something unasked says why it has ended.
            self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def attach(self, network: NetworkSpec) -> None:
        """Give it a network, once, before its first step.

        Cancelling ends the lane, and returns only when it has gone.

        Raises:
            EngineError: It cannot be set up.
            LauncherError: The lane was killed.
        """
        document = msgspec.json.encode(network)
        header = len(document).to_bytes(4, "big") + bytes([FrameKind.ATTACH])
        try:
            await asyncio.get_running_loop().sock_sendall(self._channel, header + document)
            await self._receive()
        except BaseException as error:
            await carry_through(self.close())
            if isinstance(error, OSError):
                raise _lost() from None
            raise

    async def run(
        self, spec: StepSpec, stdout: int, stderr: int, *, on_start: Callable[[], None]
    ) -> StepEnd:
        """Run a step's program to its end, one at a time.

        Cancelling kills it and ends the lane, and returns only when both have gone.

        Args:
            spec: What it is.
            stdout: Write end of a pipe; stays the caller's.
            stderr: As above.
            on_start: Called when its program runs: whatever it is made of was opened.

        Raises:
            StartError: The program cannot be started.
            LauncherError: The lane was killed.
        """
        document = msgspec.json.encode(spec)
        header = len(document).to_bytes(4, "big") + bytes([FrameKind.START])
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (stdout, stderr)))
        try:
            # Five bytes into a socket that is empty.
            self._channel.sendmsg([header], [rights])
            await asyncio.get_running_loop().sock_sendall(self._channel, document)
            kind, payload = await self._receive()
            if kind is FrameKind.PROGRESS:
                on_start()
                kind, payload = await self._receive()
        except (asyncio.CancelledError, LauncherError):
            await carry_through(self.close())
            raise
        except OSError:
            await carry_through(self.close())
            raise _lost() from None
        return msgspec.json.decode(payload, type=StepEnd)

    async def _receive(self) -> tuple[FrameKind, bytes]:
        try:
            return await receive_answer(self._channel)
        except (EOFError, OSError):
            raise _lost() from None

    async def close(self) -> None:
        """End the lane and what it runs; returns when nothing of it is left."""
        if self.is_closed:
            return
        self.is_closed = True
        loop = asyncio.get_running_loop()
        with self._channel, contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(self._channel, 1 << 16):
                pass


def _lost() -> LauncherError:
    return LauncherError("the process that ran the step was killed", hint="Memory may be short")
