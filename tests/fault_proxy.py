"""A proxy before a registry that does what networks and bad registries do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Fault:
    """What becomes of an answer. Positions count bytes of its body.

    Attributes:
        status: Answer this instead of asking the registry.
        headers: With it, or on top of what the registry says.
        body: With it.
        repeats_body: Send the body so many times.
        cuts_at: Close the connection there; -1 before the first byte of the answer.
        cuts_head_at: Close the connection there in status and headers.
        stalls_at: Say nothing more from there on, until the client goes.
        flips_at: Turn a bit around.
        adds_to_length: Make Content-Length wrong by so many.
        drops_range: Let the registry not see that a part was asked for.
        drips: Send status and headers byte by byte without end, or the body, if there is one.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    repeats_body: int = 1
    cuts_at: int | None = None
    cuts_head_at: int | None = None
    stalls_at: int | None = None
    flips_at: int | None = None
    adds_to_length: int = 0
    drops_range: bool = False
    drips: bool = False


class FaultProxy:
    """Forwards to a registry; `plan` says for each request what goes wrong, None for nothing.

    `loses_rest` says which requests lose their connection after so many bytes of their body.
    """

    def __init__(self, upstream: str, *, port: int = 0) -> None:
        self.upstream = upstream
        self.bytes_per_second = 0
        """How fast answers go; 0 is as fast as they can."""
        self.plan: Callable[[Request], Fault | None] = lambda _request: None
        self.loses_rest: Callable[[Request, int], int | None] = lambda _request, _size: None
        self._taken: dict[str, str] = {}
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.sent_of: Counter[str] = Counter()
        """Bytes of bodies, by path."""
        self.connection_count = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._connections: set[socket.socket] = set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 0
            # Else the kernel keeps a body back until the head was acknowledged, for 40 ms.
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with owner._lock:
                    owner.connection_count += 1
                    owner._connections.add(self.connection)

            def finish(self) -> None:
                with owner._lock:
                    owner._connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def handle(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    super().handle()

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return lambda: owner._serve(self)
                raise AttributeError(name)

            def log_message(self, *_words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        return f"localhost:{self._server.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultProxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._server.shutdown()
            with self._lock:
                for connection in self._connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
            self._server.server_close()
            self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = self._body_of(handler)
        with self._lock:
            request = Request(
                number=len(self.requests),
                method=handler.command,
                path=handler.path,
                headers={name.lower(): value for name, value in handler.headers.items()},
            )
            self.requests.append(request)
        fault = self.plan(request) or Fault()
        taken = self.loses_rest(request, len(body))
        if taken is not None:
            _, self._taken, _ = self._ask(request, body[:taken], fault)
            _drop(handler)
            return
        if self._taken and request.method == "GET" and "/blobs/uploads/" in request.path:
            # docker-registry knows where an upload stands only from the address it gave last,
            # which the client never got.
            fault = Fault(status=204, headers=self._taken)
            self._taken = {}
        if fault.cuts_at == -1:
            _drop(handler)
            return
        if fault.drips:
            self._drip(handler, fault.body)
            return
        if fault.status:
            status, headers, content = fault.status, {}, fault.body
        else:
            status, headers, content = self._ask(request, body, fault)
        headers.update(fault.headers)
        if fault.flips_at is not None and content:
            position = fault.flips_at % len(content)
            content = content[:position] + bytes((content[position] ^ 1,)) + content[position + 1 :]
        length = len(content) * fault.repeats_body + fault.adds_to_length
        if request.method == "HEAD" and not fault.status:
            length = int(headers.pop("content-length", "0"))
        headers.pop("content-length", None)
        named = {
            name: value.replace(self.upstream, self.address) for name, value in headers.items()
        }
        lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in named.items())]
        head = "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode("latin-1")
        if fault.cuts_head_at is not None and fault.cuts_head_at < len(head):
            handler.connection.sendall(head[: fault.cuts_head_at])
            _drop(handler)
            return
        handler.connection.sendall(head)
        if request.method == "HEAD":
            return
        if fault.adds_to_length:
            handler.close_connection = True
        for end, act in ((fault.cuts_at, _drop), (fault.stalls_at, self._stall)):
            if end is not None and end < length:
                self._write(handler, content[:end], request.path)
                act(handler)
                return
        for _ in range(fault.repeats_body):
            self._write(handler, content, request.path)

    def _write(self, handler: BaseHTTPRequestHandler, content: bytes, path: str) -> None:
        with self._lock:
            self.sent_bytes += len(content)
            self.sent_of[path] += len(content)
        rate = self.bytes_per_second
        step = max(1, rate // 50) if rate else max(1, len(content))
        for position in range(0, len(content), step):
            piece = content[position : position + step]
            handler.connection.sendall(piece)
            if rate:
                self._ended.wait(len(piece) / rate)

    def _stall(self, handler: BaseHTTPRequestHandler) -> None:
        """Wait until the client hangs up, or the test ends."""
        handler.connection.settimeout(None)
        with contextlib.suppress(OSError):
            while handler.connection.recv(4096):
                pass
        handler.close_connection = True

    def _drip(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """A byte now and then, until the client hangs up or the test ends."""
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\n")
        if body:
            handler.connection.sendall(b"Content-Length: 1000000\r\n\r\n" + body)
        else:
            handler.connection.sendall(b"X: ")
        with contextlib.suppress(OSError):
            while not self._ended.wait(0.01):
                handler.connection.sendall(b" ")
        handler.close_connection = True

    def _body_of(self, handler: BaseHTTPRequestHandler) -> bytes:
        if "chunked" in (handler.headers.get("Transfer-Encoding") or ""):
            pieces = []
            while size := int(handler.rfile.readline().split(b";")[0], 16):
                pieces.append(handler.rfile.read(size))
                handler.rfile.readline()
            handler.rfile.readline()
            return b"".join(pieces)
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    def _ask(
        self, request: Request, body: bytes, fault: Fault
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream)
        try:
            headers = {
                name: value
                for name, value in request.headers.items()
                if name not in _HOP_HEADERS and not (fault.drops_range and name == "range")
            }
            headers["host"] = self.upstream
            if "content-range" in headers and request.method == "PATCH":
                first = int(headers["content-range"].partition("-")[0])
                headers["content-range"] = f"{first}-{first + len(body) - 1}"
            path = request.path.replace(self.address, self.upstream)
            connection.request(request.method, path, body=body, headers=headers)
            answer = connection.getresponse()
            kept = {
                name.lower(): value
                for name, value in answer.getheaders()
                if name.lower() not in _HOP_HEADERS or name.lower() == "content-length"
            }
            return answer.status, kept, answer.read()
        finally:
            connection.close()


def _drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection as a broken network does."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
