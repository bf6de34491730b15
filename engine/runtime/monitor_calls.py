"""attach.sock: how applications talk to a monitor that was there before them.

A SEQPACKET socket in the container's run directory, one MonitorCall a packet, answered by one
MonitorReply. Only the user whose containers these are may connect.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
from typing import TYPE_CHECKING

from engine.runtime.protocol import (
    LARGEST_PACKET_BYTES,
    MonitorCall,
    MonitorReply,
    describe_error,
)
from engine.runtime.records import decode_record, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.errors import EngineError
    from engine.runtime.reactor import Reactor
    from engine.runtime.spec import StateRecord

SOCKET_FILE = "attach.sock"
_MOST_CLIENTS = 64
_PEER_CREDENTIALS = struct.Struct("3i")


def bind_calls(directory: str) -> socket.socket:
    """Make the socket in a container's run directory; who connects waits for a CallServer.

    Raises:
        OSError: It cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unbind_calls(directory)
    # A socket's address is short and a store's path need not be: bind by the directory.
    os.chdir(directory)
    try:
        listener.bind(SOCKET_FILE)
    finally:
        os.chdir("/")
    os.chmod(f"{directory}/{SOCKET_FILE}", 0o600)
    listener.listen(_MOST_CLIENTS)
    listener.setblocking(False)
    return listener


def unbind_calls(directory: str) -> None:
    """Take the socket's name away, if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(f"{directory}/{SOCKET_FILE}")


class CallServer:
    """The monitor's end of attach.sock, driven by the monitor's reactor."""

    def __init__(
        self,
        listener: socket.socket,
        reactor: Reactor,
        handle: Callable[[int, MonitorCall], None],
    ) -> None:
        """Begin to serve those who connect.

        Args:
            listener: What `bind_calls` gave.
            reactor: Tells of calls.
            handle: Takes a client's descriptor and what it asks for.
        """
        self._reactor = reactor
        self._handle = handle
        self._clients: dict[int, socket.socket] = {}
        self._waiting: list[int] = []
        self._listener = listener
        self._reactor.watch(listener.fileno(), self._accept)

    def _receive(self, descriptor: int, _events: int) -> None:
        try:
            packet = self._clients[descriptor].recv(LARGEST_PACKET_BYTES)
            call = decode_record(MonitorCall, packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, ValueError):
            call = None  # a broken client, or one that talks nonsense: both are shown the door
        if call is None:
            self._forget(descriptor)
        else:
            self._handle(descriptor, call)

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            credentials = client.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
            )
            user_id = _PEER_CREDENTIALS.unpack(credentials)[1]
            if user_id not in {0, os.geteuid()} or len(self._clients) >= _MOST_CLIENTS:
                client.close()
                return
            client.setblocking(False)
            self._clients[client.fileno()] = client
            receive = functools.partial(self._receive, client.fileno())
            self._reactor.watch(client.fileno(), receive)

    def _forget(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor, None)
        if client is not None:
            self._reactor.forget(descriptor)
            client.close()
        if descriptor in self._waiting:
            self._waiting.remove(descriptor)

    def answer(self, descriptor: int, state: StateRecord) -> None:
        """Tell a client that its call was done."""
        self._send(descriptor, MonitorReply(state=encode_record(state).decode()))

    def hand_over(self, descriptor: int) -> socket.socket:
        """Let go of a client, which becomes a session: nothing is received for it here any more."""
        self._reactor.forget(descriptor)
        return self._clients.pop(descriptor)

    def refuse(self, descriptor: int, error: EngineError) -> None:
        """Tell a client why its call was not done."""
        self._send(descriptor, MonitorReply(error=describe_error(error)))

    def wait_for_end(self, descriptor: int) -> None:
        """Answer a client when the container has ended."""
        self._waiting.append(descriptor)

    def _send(self, descriptor: int, reply: MonitorReply) -> None:
        client = self._clients.get(descriptor)
        if client is not None:
            try:
                client.send(encode_record(reply), socket.MSG_NOSIGNAL)
            except OSError:
                self._forget(descriptor)

    def close(self, directory: str) -> None:
        """Take the socket away; who connects from now on learns that nobody is there."""
        unbind_calls(directory)
        self._reactor.forget(self._listener.fileno())
        self._listener.close()

    def end(self, state: StateRecord) -> None:
        """Answer everybody who waits for the end."""
        for descriptor in tuple(self._waiting):
            self.answer(descriptor, state)
