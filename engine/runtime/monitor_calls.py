"""attach.sock: how applications talk to a monitor that was there before them.

A SEQPACKET socket in the container's run directory, one MonitorCall a packet, answered by one
MonitorReply. Only the user whose containers these are may connect.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.runtime.protocol import (
    LARGEST_PACKET_BYTES,
    MonitorCall,
    MonitorReply,
    describe_error,
)
from engine.runtime.records import decode_record, encode_record

if TYPE_CHECKING:
    from engine.errors import EngineError
    from engine.runtime.spec import StateRecord

_MOST_CLIENTS = 64
_PEER_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True, kw_only=True)
class PendingStop:
    """A stop under way; `deadline` (monotonic seconds) is when SIGKILL follows, None is never."""

    deadline: float | None


class CallServer:
    """The monitor's end of attach.sock, driven by the monitor's own poll object."""

    def __init__(self, directory: str, name: str, poll: select.poll) -> None:
        self._path = f"{directory}/{name}"
        self._poll = poll
        self._clients: dict[int, socket.socket] = {}
        self._waiting: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        # A socket's address is short and a store's path need not be: bind by the directory.
        os.chdir(directory)
        try:
            self._listener.bind(name)
        finally:
            os.chdir("/")
        os.chmod(self._path, 0o600)
        self._listener.listen(_MOST_CLIENTS)
        self._listener.setblocking(False)

    def listen(self) -> None:
        """Begin to be told of connections by the poll object."""
        self._poll.register(self._listener, select.POLLIN)

    def receive(self, descriptor: int) -> MonitorCall | None:
        """Serve a readable descriptor; return the call if it brought one."""
        if descriptor == self._listener.fileno():
            self._accept()
            return None
        client = self._clients.get(descriptor)
        if client is None:
            return None
        try:
            packet = client.recv(LARGEST_PACKET_BYTES)
            if packet:
                return decode_record(MonitorCall, packet)
        except BlockingIOError:
            return None
        except (OSError, ValueError):
            pass  # a broken client, or one that talks nonsense: both are shown the door
        self._forget(descriptor)
        return None

    def _accept(self) -> None:
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
            self._poll.register(client, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor, None)
        if client is not None:
            self._poll.unregister(client)
            client.close()
        if descriptor in self._waiting:
            self._waiting.remove(descriptor)

    def answer(self, descriptor: int, state: StateRecord) -> None:
        """Tell a client that its call was done."""
        self._send(descriptor, MonitorReply(state=encode_record(state).decode()))

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

    def close(self) -> None:
        """Take the socket away; who connects from now on learns that nobody is there."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._listener.close()

    def end(self, state: StateRecord) -> None:
        """Answer everybody who waits for the end."""
        for descriptor in tuple(self._waiting):
            self.answer(descriptor, state)
