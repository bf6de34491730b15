"""Connections that can be cut from another thread: whoever waits on one hears of it at once."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
import weakref
from typing import TYPE_CHECKING, TypeAlias, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from engine.operations import CancelledRead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedIOBase, BufferedReader

    from urllib3.response import HTTPResponse

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Breaker:
    """Cuts every connection of a client, and ends its waits."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._waits: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._cut = threading.Event()

    @property
    def is_cut(self) -> bool:
        """Whether everything was told to end."""
        return self._cut.is_set()

    def check(self) -> None:
        """Go on only if nothing was told to end.

        Raises:
            CancelledRead: It was.
        """
        if self._cut.is_set():
            raise CancelledRead

    def wait(self, seconds: float) -> None:
        """Wait for a time.

        Raises:
            CancelledRead: Everything was told to end meanwhile.
        """
        if self._cut.wait(seconds):
            raise CancelledRead

    def wait_for(self, event: threading.Event) -> None:
        """Wait for what somebody else does.

        Raises:
            CancelledRead: Everything was told to end; the other is not told.
        """
        with self._lock:
            self.check()
            self._waits.add(event)
        event.wait()
        with self._lock:
            self._waits.discard(event)
        self.check()

    @contextlib.contextmanager
    def alarm(self) -> Iterator[socket.socket]:
        """A socket that can be read from as soon as everything is told to end.

        Raises:
            CancelledRead: It was already.
        """
        alarm, other = socket.socketpair()
        with alarm, other:
            self.watch(alarm)
            yield alarm

    def watch(self, connection: socket.socket) -> None:
        """Cut this one, too, as long as it is used."""
        with self._lock:
            self.check()
            self._sockets.add(connection)

    def cut(self) -> None:
        """End everything, now and for good; from any thread, and more than once."""
        with self._lock:
            self._cut.set()
            for event in self._waits:
                event.set()
            for connection in tuple(self._sockets):
                _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    """End a connection under the hands of the thread that waits on it."""
    with contextlib.suppress(OSError):
        # Not the method of a TLS socket, which would forget its keys first.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@contextlib.contextmanager
def _answered_within(seconds: float, connection: socket.socket | None) -> Iterator[None]:
    """End a connection whose answer has not begun in time, however lively it drips."""
    if connection is None:
        yield
        return
    timer = threading.Timer(seconds, _shut_down, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines:
    """Reads lines, and remembers how the last one ended."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self.is_at_end = False

    def readline(self, size: int = -1, /) -> bytes:
        line = self._stream.readline(size)
        self.is_at_end = not line.endswith(b"\n")
        return line

    def close(self) -> None:
        self._stream.close()


class _WholeResponse(http.client.HTTPResponse):
    """An answer whose headers are all there: http.client takes a lost connection for their end."""

    def begin(self) -> None:
        stream = self.fp
        lines = _Lines(stream)
        self.fp = cast("BufferedReader", lines)
        try:
            super().begin()
        finally:
            if cast("object", self.fp) is lines:
                self.fp = stream
        if lines.is_at_end:
            self.close()
            raise http.client.RemoteDisconnected("the connection ended within the headers")


def pool_classes(
    breaker: Breaker, *, answer_seconds: float
) -> tuple[type[HTTPConnectionPool], type[HTTPSConnectionPool]]:
    """Make the pools whose connections a breaker cuts; urllib3 makes connections by class.

    Args:
        breaker: Cuts them.
        answer_seconds: How long an answer may take to begin: status and headers.
    """

    class Connection(HTTPConnection):
        response_class = _WholeResponse

        def _new_conn(self) -> socket.socket:
            return _connect(self, breaker)

        def connect(self) -> None:
            with _while_connecting(breaker):
                super().connect()
            breaker.watch(self.sock)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            with _answered_within(answer_seconds, self.sock):
                return super().getresponse()

    class SecureConnection(HTTPSConnection):
        response_class = _WholeResponse

        def _new_conn(self) -> socket.socket:
            return _connect(self, breaker)

        def connect(self) -> None:
            with _while_connecting(breaker):
                super().connect()
            if isinstance(self.sock, socket.socket):
                breaker.watch(self.sock)
            # Where a certificate was not verified the person allowed it: nothing to warn of.
            self.is_verified = True

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            sock = self.sock if isinstance(self.sock, socket.socket) else None
            with _answered_within(answer_seconds, sock):
                return super().getresponse()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return Pool, SecurePool


_Address: TypeAlias = (
    "tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]"
)
_connecting = threading.local()


@contextlib.contextmanager
def _while_connecting(breaker: Breaker) -> Iterator[None]:
    """Keep the socket of a handshake reachable: wrapping it in TLS takes its descriptor away."""
    breaker.check()
    _connecting.handle = None
    try:
        yield
    finally:
        handle: socket.socket | None = _connecting.handle
        if handle is not None:
            handle.close()
        _connecting.handle = None


def _connect(connection: HTTPConnection, breaker: Breaker) -> socket.socket:
    """Connect to the first address that answers.

    Raises:
        CancelledRead: The breaker was told to cut.
    """
    host = connection.host
    try:
        addresses = _look_up(host, connection.port, breaker)
    except (socket.gaierror, UnicodeError) as error:
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(host, connection, reason) from error
    failure: OSError = OSError("no address")
    for family, kind, protocol, _name, address in addresses:
        breaker.check()
        made = socket.socket(family, kind, protocol)
        try:
            for option in _OPTIONS:
                made.setsockopt(*option)
            made.settimeout(connection.timeout)
            handle = made.dup()
            if _connecting.handle is not None:
                _connecting.handle.close()
            _connecting.handle = handle
            breaker.watch(handle)
            made.connect(address)
        except OSError as error:
            failure = error
            made.close()
            continue
        except BaseException:
            made.close()
            raise
        return made
    breaker.check()
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"no answer in {connection.timeout} s") from failure
    raise NewConnectionError(connection, failure.strerror or str(failure)) from failure


def _look_up(host: str, port: int | None, breaker: Breaker) -> Sequence[_Address]:
    """Ask for the addresses of a host, in a thread: nothing ends such a question early."""
    answers: queue.SimpleQueue[Sequence[_Address] | Exception] = queue.SimpleQueue()
    is_done = threading.Event()

    def look() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)
        finally:
            is_done.set()

    threading.Thread(target=look, name="registry-names", daemon=True).start()
    breaker.wait_for(is_done)
    answer = answers.get()
    if isinstance(answer, Exception):
        raise answer
    return answer
