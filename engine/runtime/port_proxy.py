"""What comes to a published port on this host's own addresses, carried on to the container.

Traffic from elsewhere is sent on by the kernel's address translation; what a host sends to itself
by 127.0.0.1 and ::1 cannot be, and neither can IPv6 to a container that has none. TCP goes through
pipes, so that nothing of it is ever copied into this process (splice(2)); each end hears of the
other's end, half or whole. A datagram's sender has a socket of its own towards the container, so
that answers find back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, TypeAlias

from engine.late_dataclasses import dataclass
from engine.runtime.reactor import READABLE, WRITABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.reactor import Reactor

_PIPE_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_MOST_IN_A_ROW = 16
"""How often one connection moves data before others have their turn."""
_CONNECT_SECONDS = 20.0
_ACCEPT_PAUSE_SECONDS = 0.5
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RESET = struct.pack("ii", 1, 0)

Address: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a published port leads to."""

    family: int
    address: Address


def find_target(addresses: tuple[str, ...], port: int, *, family: int) -> Target | None:
    """Where in a container what comes goes: to its address of the same family if it has one."""
    targets = [
        Target(family=socket.AF_INET6, address=(address, port, 0, 0))
        if ":" in address
        else Target(family=socket.AF_INET, address=(address, port))
        for address in addresses
    ]
    targets.sort(key=lambda target: target.family != family)
    return targets[0] if targets else None


class PipePool:
    """Pipes for what has been read and not yet written; those that are empty are used again."""

    def __init__(self, most_kept: int = 16) -> None:
        self._free: list[tuple[int, int]] = []
        self._most_kept = most_kept

    def take(self) -> tuple[int, int]:
        """The ends of an empty pipe, as of pipe(2).

        Raises:
            OSError: No descriptor is to be had.
        """
        if self._free:
            return self._free.pop()
        ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Whoever has many pipes already gets a small one.
        with contextlib.suppress(OSError):
            fcntl.fcntl(ends[1], _F_SETPIPE_SZ, _PIPE_BYTES)
        return ends

    def give_back(self, ends: tuple[int, int], *, is_empty: bool) -> None:
        """Take a pipe back; one with something in it is closed."""
        if is_empty and len(self._free) < self._most_kept:
            self._free.append(ends)
            return
        for end in ends:
            os.close(end)


class ConnectionRoom:
    """How many connections there may be at all ports together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._waiting: list[Callable[[], None]] = []

    def is_full(self, resume: Callable[[], None]) -> bool:
        """Whether nobody else may come; `resume` is called, once, when somebody has left."""
        if self._count < self._most:
            return False
        self._waiting.append(resume)
        return True

    def enter(self) -> None:
        """Count one more."""
        self._count += 1

    def leave(self) -> None:
        """Count one less."""
        self._count -= 1
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()


# --- TCP --------------------------------------------------------------------------------------


class TcpProxy:
    """One published port: a listening socket, and the connections that came by it."""

    def __init__(
        self,
        reactor: Reactor,
        listener: socket.socket,
        *,
        find_target: Callable[[], Target | None],
        pipes: PipePool,
        room: ConnectionRoom,
    ) -> None:
        """Begin; a bound socket listens from now on.

        Args:
            reactor: Drives everything.
            listener: Bound.
            find_target: Where the port leads to at this moment.
            pipes: Shared by all ports.
            room: As well; those for whom there is none wait in the kernel's queue.
        """
        self._reactor = reactor
        self._listener = listener
        self._find_target = find_target
        self._pipes = pipes
        self._room = room
        listener.setblocking(False)
        listener.listen(socket.SOMAXCONN)
        reactor.watch(listener.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        for _connection in range(_MOST_IN_A_ROW):
            if self._room.is_full(self._resume):
                self._reactor.expect(self._listener.fileno(), 0)
                return
            try:
                client, _address = self._listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._reactor.expect(self._listener.fileno(), 0)
                    self._reactor.after(_ACCEPT_PAUSE_SECONDS, self._resume)
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        target = self._find_target()
        if target is None:
            _reset(client)
            return
        try:
            onward = socket.socket(
                target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
        except OSError:
            _reset(client)
            return
        try:
            with contextlib.suppress(BlockingIOError):
                onward.connect(target.address)
        except OSError:
            onward.close()
            _reset(client)
            return
        self._room.enter()
        _Relay(self._reactor, client, onward, self._pipes, self._room.leave)

    def _resume(self) -> None:
        self._reactor.expect(self._listener.fileno(), READABLE)


class _Relay:
    """Two connected sockets; what comes from one goes to the other. The reactor holds it."""

    def __init__(
        self,
        reactor: Reactor,
        client: socket.socket,
        onward: socket.socket,
        pipes: PipePool,
        on_end: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._client = client
        self._onward = onward
        self._on_end = on_end
        self._is_ended = False
        for end in (client, onward):
            end.setblocking(False)
            # Without it who vanished is never missed.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._there = _Direction(client, onward, pipes)
        self._back = _Direction(onward, client, pipes)
        self._deadline = reactor.after(_CONNECT_SECONDS, self._abort)
        reactor.watch(onward.fileno(), self._connected, WRITABLE)

    def _connected(self, _events: int) -> None:
        if self._onward.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._abort()
            return
        try:
            self._onward.getpeername()
        except OSError:  # not yet
            return
        self._deadline.cancel()
        self._reactor.forget(self._onward.fileno())
        self._reactor.watch(self._client.fileno(), self._serve)
        self._reactor.watch(self._onward.fileno(), self._serve)
        self._serve(0)

    def _serve(self, _events: int) -> None:
        try:
            self._there.move()
            self._back.move()
        except OSError:
            # Of a reset the other side is to hear as of one, and not as of an end.
            self._abort()
            return
        if self._there.is_done and self._back.is_done:
            self._end()
            return
        for end, incoming, outgoing in (
            (self._client, self._there, self._back),
            (self._onward, self._back, self._there),
        ):
            wanted = READABLE if incoming.wants_input else 0
            self._reactor.expect(end.fileno(), wanted | (WRITABLE if outgoing.has_output else 0))

    def _abort(self) -> None:
        if not self._is_ended:
            for end in (self._client, self._onward):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._end()

    def _end(self) -> None:
        self._is_ended = True
        self._deadline.cancel()
        for end in (self._client, self._onward):
            self._reactor.forget(end.fileno())
            end.close()
        for direction in (self._there, self._back):
            direction.close()
        self._on_end()


class _Direction:
    """One way of a connection: a source, a pipe while there is something in it, and a sink."""

    __slots__ = ("_ends", "_filled", "_is_shut", "_is_source_ended", "_pipes", "_sink", "_source")

    def __init__(self, source: socket.socket, sink: socket.socket, pipes: PipePool) -> None:
        self._source = source
        self._sink = sink
        self._pipes = pipes
        self._ends: tuple[int, int] | None = None
        self._filled = 0
        self._is_source_ended = False
        self._is_shut = False

    @property
    def is_done(self) -> bool:
        """Everything has come, has gone, and the sink was told that this was all."""
        return self._is_shut

    @property
    def has_output(self) -> bool:
        """Something waits for the sink."""
        return self._filled > 0

    @property
    def wants_input(self) -> bool:
        """The source may go on."""
        return not self._is_source_ended and not self._filled

    def move(self) -> None:
        """Move what can be moved now.

        Raises:
            OSError: One of the two is broken.
        """
        for _turn in range(_MOST_IN_A_ROW):
            if not self._filled and not self._fill():
                break
            if self._filled and not self._drain():
                return
        if not self._filled:
            self._release()
            if self._is_source_ended and not self._is_shut:
                self._is_shut = True
                with contextlib.suppress(OSError):  # it is gone altogether
                    self._sink.shutdown(socket.SHUT_WR)

    def _fill(self) -> bool:
        """Take from the source; False if it has nothing now, or nothing more."""
        if self._is_source_ended:
            return False
        if self._ends is None:
            self._ends = self._pipes.take()
        try:
            self._filled = os.splice(
                self._source.fileno(), self._ends[1], _PIPE_BYTES, flags=_SPLICE
            )
        except BlockingIOError:
            return False
        self._is_source_ended = not self._filled
        return bool(self._filled)

    def _drain(self) -> bool:
        """Give to the sink; False if it does not take everything now."""
        assert self._ends is not None
        while self._filled:
            try:
                self._filled -= os.splice(
                    self._ends[0], self._sink.fileno(), self._filled, flags=_SPLICE
                )
            except BlockingIOError:
                return False
        return True

    def _release(self) -> None:
        if self._ends is not None:
            self._pipes.give_back(self._ends, is_empty=True)
            self._ends = None

    def close(self) -> None:
        """Give the pipe back."""
        if self._ends is not None:
            self._pipes.give_back(self._ends, is_empty=not self._filled)
            self._ends = None


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
