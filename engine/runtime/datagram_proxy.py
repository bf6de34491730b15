"""Datagrams that come to a published port on this host's own addresses (see `port_proxy`)."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.port_proxy import Address, Target
    from engine.runtime.reactor import Reactor

MOST_CLIENTS = 512
IDLE_SECONDS = 90.0
"""As docker-proxy has it (UDPConnTrackTimeout)."""
_LOOKS = 4
_MOST_IN_A_ROW = 64
_MOST_DATAGRAM_BYTES = 1 << 16
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
# struct in_pktinfo and in6_pktinfo: ip(7), ipv6(7)
_INFO4 = struct.Struct("=i4s4s")
_INFO6 = struct.Struct("=16si")
_INFO_SPACE = socket.CMSG_SPACE(_INFO6.size)

_Ancillary: TypeAlias = "list[tuple[int, int, bytes]]"


class DatagramProxy:
    """One published port: a bound socket, and a socket towards the container for each sender."""

    def __init__(
        self,
        reactor: Reactor,
        bound: socket.socket,
        *,
        find_target: Callable[[], Target | None],
        most_clients: int = MOST_CLIENTS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Begin.

        Args:
            reactor: Drives everything.
            bound: What datagrams come to.
            find_target: Where the port leads to at this moment.
            most_clients: With so many the one that was silent for the longest time is forgotten.
            idle_seconds: After so long without a datagram either way a sender is forgotten.
        """
        self._reactor = reactor
        self._bound = bound
        self._find_target = find_target
        self._most_clients = most_clients
        self._idle_seconds = idle_seconds
        self._clients: dict[object, _Client] = {}
        self._is_looking = False
        bound.setblocking(False)
        # An answer has to come from the address that was asked, which may be one of many.
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        reactor.watch(bound.fileno(), self._receive)

    def _receive(self, _events: int) -> None:
        for _datagram in range(_MOST_IN_A_ROW):
            try:
                content, ancillary, flags, sender = self._bound.recvmsg(
                    _MOST_DATAGRAM_BYTES, _INFO_SPACE
                )
            except BlockingIOError:
                return
            except OSError:  # word of an answer that nobody took
                continue
            if flags & socket.MSG_TRUNC:
                continue
            source = _answering_from(ancillary)
            key = (sender, source[0][2] if source else b"")
            target = self._find_target()
            if key in self._clients and self._clients[key].target != target:
                # The container is elsewhere by now.
                self._forget(key)
            if target is None:
                continue
            client = self._clients.pop(key, None) or self._add(key, target, sender, source)
            if client is not None:
                # The last one is the one that spoke last.
                self._clients[key] = client
                client.send(content)

    def _add(
        self, key: object, target: Target, sender: Address, source: _Ancillary
    ) -> _Client | None:
        if len(self._clients) >= self._most_clients:
            self._forget(next(iter(self._clients)))
        try:
            onward = socket.socket(
                target.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
        except OSError:
            return None
        try:
            onward.connect(target.address)
        except OSError:
            onward.close()
            return None
        if not self._is_looking:
            self._is_looking = True
            self._reactor.after(self._idle_seconds / _LOOKS, self._look)
        client = _Client(self._bound, onward, target, sender, source)
        self._reactor.watch(onward.fileno(), lambda _events: self._answer(key, client))
        return client

    def _answer(self, key: object, client: _Client) -> None:
        if not client.answer():
            # Nothing is behind the port. Who sends again begins anew, perhaps elsewhere.
            self._forget(key)

    def _look(self) -> None:
        """Forget who has been silent."""
        oldest = time.monotonic() - self._idle_seconds
        for key in [key for key, client in self._clients.items() if client.moment < oldest]:
            self._forget(key)
        self._is_looking = bool(self._clients)
        if self._is_looking:
            self._reactor.after(self._idle_seconds / _LOOKS, self._look)

    def _forget(self, key: object) -> None:
        client = self._clients.pop(key)
        self._reactor.forget(client.onward.fileno())
        client.onward.close()


class _Client:
    """One sender: what it says goes on by a socket of its own, what comes there goes to it."""

    __slots__ = ("_bound", "_sender", "_source", "moment", "onward", "target")

    def __init__(
        self,
        bound: socket.socket,
        onward: socket.socket,
        target: Target,
        sender: Address,
        source: _Ancillary,
    ) -> None:
        self._bound = bound
        self.target = target
        self._sender = sender
        self._source = source
        self.onward = onward
        self.moment = time.monotonic()

    def send(self, content: bytes) -> None:
        """Pass a datagram on; one for which there is no room is lost, as datagrams are."""
        self.moment = time.monotonic()
        try:
            self.onward.send(content)
        except ConnectionRefusedError:
            # Word of an earlier one: this one has not gone yet.
            with contextlib.suppress(OSError):
                self.onward.send(content)
        except OSError:
            pass

    def answer(self) -> bool:
        """Pass answers back; False if the container says that nobody listens."""
        for _datagram in range(_MOST_IN_A_ROW):
            try:
                content = self.onward.recv(_MOST_DATAGRAM_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.moment = time.monotonic()
            with contextlib.suppress(OSError):
                self._bound.sendmsg([content], self._source, 0, self._sender)
        return True


def _answering_from(ancillary: _Ancillary) -> _Ancillary:
    """What makes an answer come from the address that a datagram was sent to."""
    for level, kind, content in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            # The second address is the one in the datagram; the first is where to send from.
            address = _INFO4.unpack(content[: _INFO4.size])[2]
            return [(level, kind, _INFO4.pack(0, address, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            address, link = _INFO6.unpack(content[: _INFO6.size])
            return [(level, kind, _INFO6.pack(address, link))]
    return []
