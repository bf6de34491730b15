"""Connections that can be cut from another thread: whoever waits on one hears of it at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
)

from engine.operations import CancelledRead

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Breaker:
    """Cuts every connection of a client, and ends its waits."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
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

    def watch(self, connection: socket.socket) -> None:
        """Cut this one, too, as long as it is used."""
        with self._lock:
            self.check()
            self._sockets.add(connection)

    def cut(self) -> None:
        """End everything, now and for good; from any thread, and more than once."""
        with self._lock:
            self._cut.set()
            for connection in tuple(self._sockets):
                with contextlib.suppress(OSError):
                    # Not the method of a TLS socket, which would forget its keys first.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def pool_classes(
    breaker: Breaker,
) -> tuple[type[HTTPConnectionPool], type[HTTPSConnectionPool]]:
    """Make the pools whose connections a breaker cuts; urllib3 makes connections by class."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, breaker)

        def connect(self) -> None:
            with _while_connecting(breaker):
                super().connect()
            breaker.watch(self.sock)

    class SecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, breaker)

        def connect(self) -> None:
            with _while_connecting(breaker):
                super().connect()
            if isinstance(self.sock, socket.socket):
                breaker.watch(self.sock)
            # Where a certificate was not verified the person allowed it: nothing to warn of.
            self.is_verified = True

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return Pool, SecurePool


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
        addresses = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
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
