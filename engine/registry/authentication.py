"""Answers to what a registry asks for: tokens, kept as long as they live, and passwords.

Source: distribution-spec and Docker's token and oauth2 documents (docs.docker.com/registry/spec/
auth). A password goes to the registry that it is for, or to the token server that this registry
names, and never over a connection that others may read unless the person allowed that.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from engine.errors import RegistryRefusedError, RegistryUnreachableError
from engine.late_dataclasses import dataclass
from engine.registry.challenges import parse_challenges
from engine.registry.credentials import find_credential
from engine.registry.endpoints import is_plain_allowed, parse_http_url
from engine.registry.transport import ConnectionFailedError

if TYPE_CHECKING:
    from engine.registry.challenges import Challenge
    from engine.registry.credentials import Credential
    from engine.registry.endpoints import Endpoint, Url
    from engine.registry.settings import RegistrySettings
    from engine.registry.transport import Answer, Transport

_CLIENT = "lamella"
_LARGEST_ANSWER = 1 << 20
_DEFAULT_LIFE_SECONDS = 60.0
_SHORTEST_LIFE_SECONDS = 10.0
_MARGIN = 0.9
_TOKEN = re.compile(r"[\x21-\x7e]+")
_MOST_SCOPES = 32
_SERVER_BUSY = frozenset({429, 500, 502, 503, 504})


class TokenServerBusyError(Exception):
    """A token server may answer later: the request that needs the token is to be tried again."""

    def __init__(self, answer_status: int, retry_after: str) -> None:
        super().__init__(f"the token server answers with status {answer_status}")
        self.status = answer_status
        self.retry_after = retry_after


class _TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token server gave.

    Attributes:
        header: The value of `Authorization`.
        ends_at: On the monotonic clock.
        refresh_token: Stands for name and password from now on; empty for none.
    """

    header: str = field(repr=False)
    ends_at: float
    refresh_token: str = field(default="", repr=False)


class Authenticator:
    """What to show to which registry. Any number of threads may use it at once."""

    def __init__(
        self,
        transport: Transport,
        settings: RegistrySettings,
        *,
        login: Credential | None = None,
    ) -> None:
        """For one client.

        Args:
            login: Who to be instead of looking it up: a login that is being tried.
        """
        self._transport = transport
        self._settings = settings
        self._login = login
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, tuple[str, ...]], Token] = {}
        self._credentials: dict[tuple[str, str], Credential | None] = {}

    @property
    def refresh_token(self) -> str:
        """What a token server gave to be kept instead of the password; empty for none."""
        with self._lock:
            return next(
                (token.refresh_token for token in self._tokens.values() if token.refresh_token), ""
            )

    def header_for(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> str:
        """What is known to be wanted, as the value of `Authorization`; empty for nothing."""
        with self._lock:
            token = self._tokens.get((endpoint.base.origin, scopes))
            return token.header if token and time.monotonic() < token.ends_at else ""

    def answer(
        self, endpoint: Endpoint, refusal: Answer, scopes: tuple[str, ...], shown: str
    ) -> str:
        """Get what a refusal (401) asks for.

        Args:
            endpoint: Who refused.
            refusal: Its answer.
            scopes: What is wanted there.
            shown: What was shown already.

        Returns:
            The value of `Authorization` to try again with; empty if there is nothing better.

        Raises:
            RegistryRefusedError: The token server does not know us.
            RegistryUnreachableError: It makes no sense.
            ConnectionFailedError: It does not answer.
            TokenServerBusyError: It has no time.
        """
        challenges = parse_challenges(refusal.headers("WWW-Authenticate"))
        with self._lock:
            known = self._tokens.get((endpoint.base.origin, scopes))
            if known is not None and known.header != shown and time.monotonic() < known.ends_at:
                return known.header  # Another thread was faster.
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    token = self._fetch(endpoint, challenge, scopes)
                    self._tokens[endpoint.base.origin, scopes] = token
                    return token.header
            for challenge in challenges:
                if challenge.scheme == "basic":
                    header = _basic(self._credential(endpoint, scopes))
                    if not header or header == shown:
                        return ""
                    self._tokens[endpoint.base.origin, scopes] = Token(
                        header=header, ends_at=float("inf")
                    )
                    return header
            return ""

    def _credential(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> Credential | None:
        if self._login is not None:
            return self._login
        repository = scopes[0].split(":")[1] if scopes and scopes[0].count(":") >= 2 else ""
        key = (endpoint.registry, repository)
        if key not in self._credentials:
            self._credentials[key] = find_credential(
                *key, self._settings.environment, breaker=self._transport.breaker
            )
        return self._credentials[key]

    def _fetch(self, endpoint: Endpoint, challenge: Challenge, scopes: tuple[str, ...]) -> Token:
        realm = parse_http_url(challenge.parameters["realm"])
        if realm is None:
            raise RegistryUnreachableError(
                endpoint.registry, f"{endpoint.registry} names a token server that is no address"
            )
        credential = self._credential(endpoint, scopes)
        if realm.scheme == "http" and not self._is_plain_fine(endpoint, realm):
            raise RegistryUnreachableError(
                endpoint.registry,
                f"{endpoint.registry} names a token server without encryption: {realm.origin}",
                hint=f'registries.toml: [registry."{realm.address}"] insecure = true allows it',
            )
        wanted = _join_scopes(scopes, challenge.parameters.get("scope", ""))
        service = challenge.parameters.get("service", "")
        answer = (
            self._send_identity(realm, credential, service, wanted)
            if credential is not None and credential.identity_token
            else self._send_password(realm, credential, service, wanted)
        )
        with answer:
            return self._read(endpoint, realm, answer)

    def _is_plain_fine(self, endpoint: Endpoint, realm: Url) -> bool:
        return (endpoint.base.scheme == "http" and realm.host == endpoint.base.host) or (
            is_plain_allowed(realm.host, realm.address, self._settings)
        )

    def _send_password(
        self, realm: Url, credential: Credential | None, service: str, scopes: tuple[str, ...]
    ) -> Answer:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        query += [("client_id", _CLIENT)]
        headers: dict[str, str] = {}
        if credential is not None:
            headers["Authorization"] = _basic(credential)
            query.append(("account", credential.username))
            if self._login is not None:
                query.append(("offline_token", "true"))
        joint = "&" if "?" in realm.target else "?"
        url = parse_http_url(f"{realm}{joint}{urlencode(query)}")
        if url is None:
            raise ConnectionFailedError("the token server's address is too long", is_final=True)
        return self._transport.send("GET", url, headers=headers)

    def _send_identity(
        self, realm: Url, credential: Credential, service: str, scopes: tuple[str, ...]
    ) -> Answer:
        form = urlencode(
            {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": credential.identity_token,
            }
        )
        return self._transport.send(
            "POST",
            realm,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=form.encode(),
        )

    def _read(self, endpoint: Endpoint, realm: Url, answer: Answer) -> Token:
        registry = endpoint.registry
        if answer.status in _SERVER_BUSY:
            raise TokenServerBusyError(answer.status, answer.header("Retry-After"))
        if answer.status in {400, 401, 403}:
            raise RegistryRefusedError(
                registry, f"{registry}: unauthorized: incorrect username or password"
            )
        if answer.status != 200:
            raise RegistryUnreachableError(
                registry, f"the token server {realm.origin} answers with status {answer.status}"
            )
        content = answer.read_whole(_LARGEST_ANSWER)
        try:
            document = msgspec.json.decode(content or b"", type=_TokenAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RegistryUnreachableError(
                registry, f"the token server {realm.origin} does not answer in JSON"
            ) from error
        text = document.token or document.access_token or ""
        if not _TOKEN.fullmatch(text):
            raise RegistryUnreachableError(
                registry, f"the token server {realm.origin} answers without a token"
            )
        life = document.expires_in or _DEFAULT_LIFE_SECONDS
        life = max(life, _SHORTEST_LIFE_SECONDS) * _MARGIN
        return Token(
            header=f"Bearer {text}",
            ends_at=time.monotonic() + life,
            refresh_token=document.refresh_token or "",
        )


def _join_scopes(wanted: tuple[str, ...], asked: str) -> tuple[str, ...]:
    """What we want, and what the registry says is needed, each resource once."""
    actions: dict[str, set[str]] = {}
    for scope in (*wanted, *asked.split()):
        resource, colon, words = scope.rpartition(":")
        actions.setdefault(resource + colon, set()).update(words.split(","))
    joined = (resource + ",".join(sorted(words)) for resource, words in actions.items())
    return tuple(joined)[:_MOST_SCOPES]


def _basic(credential: Credential | None) -> str:
    if credential is None or not credential.password:
        return ""
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
