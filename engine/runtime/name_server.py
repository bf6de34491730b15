"""The resolver of one container: answers for the members of its networks, asks others for the rest.

It listens in the container's namespace, where hostile programs speak to it, and asks servers from
the host's. There is a bound for everything that comes: questions that wait for a server,
connections, bytes of a connection that nobody reads. What is beyond is refused at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from engine.runtime.dns_messages import (
    FORMAT_ERROR,
    MOST_UDP_BYTES,
    NO_ERROR,
    NOT_IMPLEMENTED,
    PLAIN_UDP_BYTES,
    REFUSED,
    SERVER_FAILURE,
    BadQueryError,
    Query,
    answer_code,
    read_query,
    truncated,
    with_id,
    write_answer,
    write_query,
)
from engine.runtime.host_resolver import Upstream, UpstreamOrder, read_resolver
from engine.runtime.local_names import LocalNames
from engine.runtime.network_view import WatchedContent
from engine.runtime.reactor import READABLE, WRITABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.network_view import NetworkView
    from engine.runtime.reactor import Deadline, Reactor

MOST_OUTSTANDING = 256
MOST_CONNECTIONS = 32
_MOST_PIPELINED = 4
_LONGEST_QUESTION_BYTES = 4096
_MOST_IN_A_ROW = 64
"""How many datagrams are read before others have their turn."""
_MOST_MESSAGE_BYTES = 0xFFFF
_LENGTH_BYTES = 2
_SERVER_SECONDS = 1.5
"""How long one server may take: three of them, so that libc, which waits 5 s, hears of the last."""
_STREAM_SERVER_SECONDS = 3.0
_IDLE_SECONDS = 10.0
_TRIED_NEXT = frozenset({FORMAT_ERROR, SERVER_FAILURE, NOT_IMPLEMENTED, REFUSED})
"""Answers after which another server is asked, as libc does: what the next one says may differ."""


class NameServer:
    """Serves one container on a UDP and a TCP socket of its namespace."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        datagrams: socket.socket,
        listener: socket.socket,
        read_view: Callable[[], NetworkView],
    ) -> None:
        """Begin.

        Args:
            reactor: Drives everything.
            datagrams: Bound.
            listener: Listening.
            read_view: What the container sees at this moment; called at every question.
        """
        self._reactor = reactor
        self._datagrams = datagrams
        self._listener = listener
        self._read_view = read_view
        self._names = LocalNames()
        self._order = UpstreamOrder()
        self._resolver: WatchedContent[tuple[str, ...]] | None = None
        self._resolver_path = ""
        self._pending: set[tuple[object, int, bytes]] = set()
        self._streams: set[_Stream] = set()
        self._buffer = bytearray(MOST_UDP_BYTES)
        for served in (datagrams, listener):
            served.setblocking(False)
        reactor.watch(datagrams.fileno(), self._receive)
        reactor.watch(listener.fileno(), self._accept)

    # --- what comes ---------------------------------------------------------------------------

    def _receive(self, _events: int) -> None:
        for _datagram in range(_MOST_IN_A_ROW):
            try:
                length, address = self._datagrams.recvfrom_into(self._buffer)
            except OSError:  # nothing more, or word of an answer that nobody took
                return
            self._take_datagram(bytes(self._buffer[:length]), address)

    def _take_datagram(self, message: bytes, address: tuple[str, int]) -> None:
        def answer(content: bytes, query: Query | None = None) -> None:
            if query is not None and len(content) > query.udp_bytes:
                content = truncated(content, query)
            with contextlib.suppress(OSError):
                self._datagrams.sendto(content, socket.MSG_DONTWAIT, address)

        self.ask(message, address, answer, is_stream=False)

    def _accept(self, _events: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return
        if len(self._streams) >= MOST_CONNECTIONS:
            # The one that has said nothing for the longest time gives its place up.
            min(self._streams, key=lambda stream: stream.moment).close()
        self._streams.add(_Stream(self, self._reactor, connection))

    def leave(self, stream: _Stream) -> None:
        """Forget a connection that has been closed."""
        self._streams.discard(stream)

    # --- questions ----------------------------------------------------------------------------

    def ask(
        self,
        message: bytes,
        asker: object,
        answer: Callable[[bytes, Query | None], None],
        *,
        is_stream: bool,
    ) -> bool:
        """Have a question answered, now or later; False if nothing will ever be said to it.

        Args:
            message: As it came.
            asker: Who has asked, so that one who asks again while we wait is not asked for twice.
            answer: Gets the answer, and the question if that could be read.
            is_stream: By TCP: a server is asked by TCP, too, so that any length has its place.
        """
        try:
            query = read_query(message)
        except BadQueryError as error:
            if error.answer:
                answer(error.answer, None)
            return bool(error.answer)
        most_bytes = _MOST_MESSAGE_BYTES if is_stream else query.udp_bytes
        view = self._read_view()
        records = self._names.find(view.networks, query)
        if records is not None:
            answer(write_answer(query, NO_ERROR, records, most_bytes=most_bytes), query)
            return True
        key = (asker, query.query_id, query.question)
        if key in self._pending:
            return False
        code = self._refusal(view, query)
        servers = () if code else self._servers(view)
        if code or not servers:
            answer(write_answer(query, code or SERVER_FAILURE, most_bytes=most_bytes), query)
            return True
        self._pending.add(key)

        def finish(content: bytes) -> None:
            self._pending.discard(key)
            if not content:
                content = write_answer(query, SERVER_FAILURE, most_bytes=PLAIN_UDP_BYTES)
            answer(content, query)

        exchange = _StreamExchange if is_stream else _DatagramExchange
        exchange(self._reactor, self._order, servers, query, finish).begin()
        return True

    def _refusal(self, view: NetworkView, query: Query) -> int:
        if not query.is_passed_on:
            return REFUSED
        if not view.is_forwarding:
            # Not that there is no such name: one may well be where this container cannot ask.
            return SERVER_FAILURE
        return SERVER_FAILURE if len(self._pending) >= MOST_OUTSTANDING else 0

    def _servers(self, view: NetworkView) -> tuple[Upstream, ...]:
        texts = view.servers
        if not texts:
            if self._resolver is None or self._resolver_path != view.resolver_path:
                self._resolver_path = view.resolver_path
                self._resolver = WatchedContent(
                    view.resolver_path, lambda path: read_resolver(path).servers
                )
            texts = self._resolver.get()
        return self._order.of(texts)


# --- servers ----------------------------------------------------------------------------------


class _Exchange:
    """One question to one server after the other, until one has an answer.

    Each attempt has a socket of its own, so that the kernel draws its port, and an id of its own
    (RFC 5452): who cannot see our questions cannot answer them.
    """

    _seconds = _SERVER_SECONDS
    _kind = socket.SOCK_DGRAM

    def __init__(
        self,
        reactor: Reactor,
        order: UpstreamOrder,
        servers: tuple[Upstream, ...],
        query: Query,
        finish: Callable[[bytes], None],
    ) -> None:
        self._reactor = reactor
        self._order = order
        self._servers = deque(servers)
        self._server = servers[0]
        self._query = query
        self._finish = finish
        self._query_id = 0
        self._socket: socket.socket | None = None
        self._deadline: Deadline | None = None
        self._last = b""

    def begin(self) -> None:
        """Ask the first server, or the next one; with none left this is the end."""
        while self._servers:
            self._server = self._servers.popleft()
            self._query_id = int.from_bytes(os.urandom(2))
            try:
                asked = socket.socket(
                    self._server.family, self._kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
            except OSError:  # no descriptor is to be had, or no IPv6
                continue
            try:
                with contextlib.suppress(BlockingIOError):
                    asked.connect(self._server.address)
                self._begin_question(asked)
            except OSError:
                asked.close()
                continue
            self._socket = asked
            self._deadline = self._reactor.after(self._seconds, self._give_up)
            return
        self._finish(self._last)

    def _begin_question(self, asked: socket.socket) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        self._order.note_silence(self._server)
        self._end_attempt()
        self.begin()

    def _fail(self) -> None:
        self._end_attempt()
        self.begin()

    def _end_attempt(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._socket is not None:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _take(self, message: bytes) -> bool:
        """Take a message for the answer; False if it is not one to our question."""
        code = answer_code(self._query, self._query_id, message)
        if code is None:
            return False
        self._end_attempt()
        self._order.note_answer(self._server)
        self._last = with_id(message, self._query)
        if code in _TRIED_NEXT:
            self.begin()
        else:
            self._finish(self._last)
        return True


class _DatagramExchange(_Exchange):
    """By UDP. What is cut short is passed on as it is: who asked asks again by TCP."""

    def _begin_question(self, asked: socket.socket) -> None:
        asked.send(write_query(self._query, self._query_id))
        self._reactor.watch(asked.fileno(), self._receive)

    def _receive(self, _events: int) -> None:
        for _attempt in range(_MOST_IN_A_ROW):
            assert self._socket is not None
            try:
                message = self._socket.recv(_MOST_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there
                self._fail()
                return
            if self._take(message):
                return


class _StreamExchange(_Exchange):
    """By TCP."""

    _seconds = _STREAM_SERVER_SECONDS
    _kind = socket.SOCK_STREAM

    def _begin_question(self, asked: socket.socket) -> None:
        message = write_query(self._query, self._query_id)
        self._unsent = len(message).to_bytes(_LENGTH_BYTES) + message
        self._received = bytearray()
        self._reactor.watch(asked.fileno(), self._serve, WRITABLE)

    def _serve(self, _events: int) -> None:
        asked = self._socket
        assert asked is not None
        try:
            if self._unsent:
                self._unsent = self._unsent[asked.send(self._unsent, socket.MSG_NOSIGNAL) :]
                if not self._unsent:
                    self._reactor.expect(asked.fileno(), READABLE)
                return
            part = asked.recv(_MOST_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._fail()
            return
        self._received += part
        end = _LENGTH_BYTES + int.from_bytes(self._received[:_LENGTH_BYTES])
        if len(self._received) <= _LENGTH_BYTES or len(self._received) < end:
            is_hopeless = not part
        else:
            is_hopeless = not self._take(bytes(self._received[_LENGTH_BYTES:end]))
        if is_hopeless:
            self._fail()


# --- connections ------------------------------------------------------------------------------


class _Stream:
    """A TCP connection of the container: questions with their length, answers in any order."""

    def __init__(self, server: NameServer, reactor: Reactor, connection: socket.socket) -> None:
        self._server = server
        self._reactor = reactor
        self._connection = connection
        self._received = bytearray()
        self._unsent = bytearray()
        self._waiting = 0
        self._is_ended = False
        self._is_closed = False
        self._is_going_on = False
        connection.setblocking(False)
        self._descriptor = connection.fileno()
        reactor.watch(self._descriptor, self._serve)
        self._idle = self._wait()
        self.moment = self._idle.moment

    def close(self) -> None:
        """End it; answers that come later are dropped."""
        if self._is_closed:
            return
        self._is_closed = True
        self._idle.cancel()
        self._reactor.forget(self._descriptor)
        self._connection.close()
        self._server.leave(self)

    def _wait(self) -> Deadline:
        return self._reactor.after(_IDLE_SECONDS, self.close)

    def _serve(self, _events: int) -> None:
        self._idle.cancel()
        self._idle = self._wait()
        self.moment = self._idle.moment
        if self._unsent:
            self._send()
        elif not self._is_ended:
            self._receive()
        self._go_on()

    def _receive(self) -> None:
        try:
            part = self._connection.recv(_LONGEST_QUESTION_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._received += part
        self._is_ended = not part

    def _go_on(self) -> None:
        """Ask what is complete, then wait for what is possible next."""
        self._is_going_on = True
        while not self._is_closed and (message := self._next_question()):
            self._waiting += 1
            if not self._server.ask(message, self, self._answer, is_stream=True):
                self._waiting -= 1
        self._is_going_on = False
        if self._is_closed:
            return
        if self._unsent:
            self._reactor.expect(self._descriptor, WRITABLE)
        elif self._is_ended and not self._waiting:
            self.close()
        else:
            is_open = not self._is_ended and self._waiting < _MOST_PIPELINED
            self._reactor.expect(self._descriptor, READABLE if is_open else 0)

    def _next_question(self) -> bytes:
        """The next one that is complete, if it may be asked now; empty otherwise."""
        if self._unsent or self._waiting >= _MOST_PIPELINED or len(self._received) < _LENGTH_BYTES:
            return b""
        end = _LENGTH_BYTES + int.from_bytes(self._received[:_LENGTH_BYTES])
        if not _LENGTH_BYTES < end <= _LONGEST_QUESTION_BYTES:
            self.close()
            return b""
        if len(self._received) < end:
            return b""
        message = bytes(self._received[_LENGTH_BYTES:end])
        del self._received[:end]
        return message

    def _answer(self, content: bytes, _query: Query | None = None) -> None:
        self._waiting -= 1
        if self._is_closed:
            return
        is_first = not self._unsent
        self._unsent += len(content).to_bytes(_LENGTH_BYTES) + content
        if is_first:
            self._send()
        if not self._is_going_on:
            self._go_on()

    def _send(self) -> None:
        try:
            sent = self._connection.send(self._unsent, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
