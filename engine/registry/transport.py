"""One request and its answer: pools, proxies, certificates, time limits. Nothing is tried again."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Self

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from engine.errors import InvalidInputError
from engine.registry.connections import Breaker, pool_classes
from engine.registry.endpoints import certificate_directory, is_loopback, is_plain_allowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from urllib3.response import BaseHTTPResponse

    from engine.registry.endpoints import Url
    from engine.registry.settings import RegistrySettings

USER_AGENT = "lamella"
_POOLS = 16
_CONNECTIONS_A_HOST = 16
_SHORT_BYTES = 65_536
_STREAM_BYTES = 1 << 18
SENT_BYTES = 1 << 16
"""What is sent in one go: each has the time limit of a connection, also over a slow line."""


class ConnectionFailedError(Exception):
    """No answer, or half of one; whoever asked decides whether to ask again.

    Attributes:
        reason: A clause for people.
        is_encryption: TLS did not come about: plain http may be what is spoken there.
        is_final: Asking again will bring the same.
        is_absent: Nobody is there, as far as can be seen.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_encryption: bool = False,
        is_final: bool = False,
        is_absent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.is_absent = is_absent
        self.reason = reason
        self.is_encryption = is_encryption
        self.is_final = is_final


class Answer:
    """What a registry answered; the body is read from the connection, so it is to be closed."""

    def __init__(
        self, response: BaseHTTPResponse, url: Url, breaker: Breaker, *, seconds: float
    ) -> None:
        self.url = url
        self.status = response.status
        self._response = response
        self._breaker = breaker
        self._seconds = seconds

    def header(self, name: str) -> str:
        """A header's value, empty if there is none; the first where there are several."""
        values = self._response.headers.getlist(name)
        return values[0].strip() if values else ""

    def headers(self, name: str) -> tuple[str, ...]:
        """Every value of a header."""
        return tuple(self._response.headers.getlist(name))

    @property
    def content_length(self) -> int | None:
        """How long the body says it is."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, size: int) -> bytes:
        """What is there, up to `size` bytes; empty at the end.

        Raises:
            ConnectionFailedError: The connection broke, fell silent, or the body is cut short.
            CancelledRead: The client was told to end.
        """
        with _failures(self._breaker):
            return self._response.read1(min(size, _STREAM_BYTES), decode_content=False)

    def read_whole(self, maximum_bytes: int) -> bytes | None:
        """The whole body; None if it is larger.

        Raises:
            ConnectionFailedError: As `read`.
            CancelledRead: As `read`.
        """
        if (self.content_length or 0) > maximum_bytes:
            return None
        pieces: list[bytes] = []
        room = maximum_bytes + 1
        ends_at = time.monotonic() + self._seconds
        while room and (piece := self.read(room)):
            if time.monotonic() > ends_at:
                raise ConnectionFailedError("it sends next to nothing")
            pieces.append(piece)
            room -= len(piece)
        return b"".join(pieces) if room else None

    def finish(self) -> None:
        """Read a short rest of the body, so that the connection can be used again; then close."""
        with contextlib.suppress(ConnectionFailedError):
            self.read_whole(_SHORT_BYTES)
        self.close()

    def close(self) -> None:
        """Let go of the connection: it is used again if the body is at its end."""
        with contextlib.suppress(HTTPError, OSError, http.client.HTTPException, ValueError):
            if self._response.length_remaining == 0 and not self._breaker.is_cut:
                # Sees the end, which nobody has read: nothing is waited for.
                self._response.read(1, decode_content=False)
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class Transport:
    """Connections to whoever is asked. Any number of threads may use it at once."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.breaker = Breaker()
        self._settings = settings
        self._lock = threading.Lock()
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}

    def send(
        self,
        method: str,
        url: Url,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Ask once.

        Raises:
            ConnectionFailedError: There is no answer.
            InvalidInputError: The proxy or the certificates that were named cannot be used.
            CancelledRead: The client was told to end.
        """
        self.breaker.check()
        if isinstance(body, bytes) and len(body) > SENT_BYTES:
            headers = {**headers, "Content-Length": str(len(body))}
            body = _pieces(body)
        proxy = proxy_of(url, self._settings)
        pool = self._pool(url, proxy)
        # A proxy that passes plain requests on is told where to.
        target = str(url) if proxy and url.scheme == "http" else url.target
        with _failures(self.breaker):
            response = pool.urlopen(
                method,
                target,
                body=body,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(
                    connect=self._settings.connect_seconds, read=self._settings.silence_seconds
                ),
                preload_content=False,
                decode_content=False,
            )
        if proxy and response.status == 407:
            response.close()
            raise ConnectionFailedError("the proxy lets nobody through (407)", is_final=True)
        return Answer(response, url, self.breaker, seconds=self._settings.answer_seconds)

    def close(self) -> None:
        """Close the connections that nobody uses; those in use close with their answers."""
        with self._lock:
            for manager in self._managers.values():
                for key in manager.pools.keys():  # noqa: SIM118 - no mapping: it cannot be iterated
                    if (pool := manager.pools.get(key)) is not None:
                        pool.close()
                manager.clear()
            self._managers.clear()

    def _pool(self, url: Url, proxy: str) -> urllib3.HTTPConnectionPool:
        with self._lock:
            manager = self._manager(proxy)
            options = {"ssl_context": self._context(url)} if url.scheme == "https" else {}
            return manager.connection_from_host(
                url.host, port=url.port, scheme=url.scheme, pool_kwargs=options or None
            )

    def _manager(self, proxy: str) -> urllib3.PoolManager:
        manager = self._managers.get(proxy)
        if manager is None:
            if proxy:
                manager = urllib3.ProxyManager(
                    proxy,
                    num_pools=_POOLS,
                    maxsize=_CONNECTIONS_A_HOST,
                    proxy_headers=_proxy_headers(proxy),
                )
            else:
                manager = urllib3.PoolManager(num_pools=_POOLS, maxsize=_CONNECTIONS_A_HOST)
            plain, secure = pool_classes(self.breaker, answer_seconds=self._settings.answer_seconds)
            manager.pool_classes_by_scheme = {"http": plain, "https": secure}
            self._managers[proxy] = manager
        return manager

    def _context(self, url: Url) -> ssl.SSLContext:
        """How a host's certificate is looked at; most hosts share one way."""
        directory = certificate_directory(url.address, self._settings)
        is_known = directory is None and not is_plain_allowed(url.host, url.address, self._settings)
        key = "" if is_known else url.address
        context = self._contexts.get(key)
        if context is None:
            if directory is not None:
                context = ssl.create_default_context()
                _use_certificates(context, directory)
            elif is_known:
                context = ssl.create_default_context()
            else:
                # No authorities are read for who is not verified: that takes its time.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[key] = context
        return context


def _use_certificates(context: ssl.SSLContext, directory: Path) -> None:
    """Take what `certs.d/HOST` holds, by the endings that Docker looks for."""
    try:
        for path in sorted(directory.iterdir()):
            if path.suffix == ".crt":
                context.load_verify_locations(cafile=path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise InvalidInputError(
                        f"missing key {key.name} for client certificate {path.name}",
                        hint=f"Put {key.name} beside it in {directory}",
                    )
                context.load_cert_chain(path, key, password=_refuse_password)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInputError(
            f"cannot use the certificates in {directory}: {error.strerror or error}",
            hint="`openssl x509 -in FILE -noout -text` shows whether a file is a certificate",
        ) from error


def _refuse_password() -> str:
    raise InvalidInputError("the key of a client certificate is encrypted: nobody can be asked")


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), SENT_BYTES):
        yield body[start : start + SENT_BYTES]


def proxy_of(url: Url, settings: RegistrySettings) -> str:
    """The proxy for an address; empty for none. This host is never reached through one.

    Raises:
        InvalidInputError: It is no http proxy.
    """
    values = settings.environment
    name = f"{url.scheme}_proxy"
    proxy = values.get(name) or values.get(name.upper()) or ""
    if not proxy or is_loopback(url.host) or _is_direct(url, values):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise InvalidInputError(
            f"cannot use the proxy for {url.origin}: only http and https proxies are known",
            hint=f"Set {name.upper()} to an http proxy, or name the host in NO_PROXY",
        )
    return proxy


def _is_direct(url: Url, values: Mapping[str, str]) -> bool:
    """Whether NO_PROXY has a host: by name, domain, address, network, each with port or without."""
    for word in (values.get("no_proxy") or values.get("NO_PROXY") or "").split(","):
        name = word.strip().lower()
        if name == "*":
            return True
        name = name.removesuffix(f":{url.port}")
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(url.host) in ipaddress.ip_network(name.strip("[]")):
                return True
        domain = name.removeprefix("*").lstrip(".")
        if domain and (url.host == domain or url.host.endswith(f".{domain}")):
            return True
    return False


def _proxy_headers(proxy: str) -> dict[str, str]:
    account = urllib3.util.parse_url(proxy).auth
    return dict(urllib3.make_headers(proxy_basic_auth=account)) if account else {}


@contextlib.contextmanager
def _failures(breaker: Breaker) -> Iterator[None]:
    """Turn what urllib3 and the system say into one error; a cut connection is no failure."""
    try:
        yield
    except (HTTPError, OSError, http.client.HTTPException, ValueError) as error:
        breaker.check()
        raise _failure(error) from error


def _failure(error: Exception) -> ConnectionFailedError:
    match error:
        case MaxRetryError(reason=Exception() as reason):
            return _failure(reason)
        case ProxyError(original_error=Exception() as cause):
            failure = _failure(cause)
            return ConnectionFailedError(
                f"the proxy cannot be used: {failure.reason}", is_final=failure.is_final
            )
        case NameResolutionError():
            return ConnectionFailedError("the name of the host is not known", is_absent=True)
        case SSLError() | ssl.SSLError():
            return _encryption_failure(error)
        case ConnectTimeoutError() if not isinstance(error, NewConnectionError):
            return ConnectionFailedError("it does not answer")
        case ReadTimeoutError() | TimeoutError():
            return ConnectionFailedError("it has fallen silent")
        case NewConnectionError() if isinstance(error.__cause__, OSError):
            return ConnectionFailedError(_system_reason(error.__cause__), is_absent=True)
        case IncompleteRead():
            return ConnectionFailedError("the connection ended before the answer did")
        case ProtocolError() if len(error.args) > 1 and isinstance(error.args[1], Exception):
            return _failure(error.args[1])
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            return ConnectionFailedError("the connection ended before the answer did")
        case OSError():
            return ConnectionFailedError(_system_reason(error))
        case _:
            words = f"{type(error).__name__}: {error}"[:200]
            return ConnectionFailedError(f"the answer is not HTTP ({words})")


def _system_reason(error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return reason[:1].lower() + reason[1:]


def _encryption_failure(error: Exception) -> ConnectionFailedError:
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConnectionFailedError(
            f"its certificate is not trusted: {cause.verify_message}",
            is_encryption=True,
            is_final=True,
        )
    reason = getattr(cause, "reason", None)
    words = str(reason).lower().replace("_", " ") if reason else str(cause)[:200]
    return ConnectionFailedError(f"no encrypted connection: {words}", is_encryption=True)
