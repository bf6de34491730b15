"""Conversations with one registry: which way to it works, who we are, when to ask again.

Nothing here trusts an answer: bodies have a bound, redirections are counted and never take what
was meant for the registry to somebody else, and a registry that has us wait for long has refused.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from engine.errors import (
    RateLimitedError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from engine.late_dataclasses import dataclass
from engine.oci.digests import is_digest
from engine.registry.authentication import TokenServerBusyError
from engine.registry.endpoints import endpoints_of, is_plain_allowed, parse_http_url
from engine.registry.transport import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.registry.authentication import Authenticator
    from engine.registry.endpoints import Endpoint, Url
    from engine.registry.settings import RegistrySettings
    from engine.registry.transport import Answer, Transport
    from engine.types import Digest

BUSY = frozenset({429, 500, 502, 503, 504})
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTIONS = 10
_LARGEST_ERROR = 65_536
_LONGEST_REASON = 300
_MOST_WARNINGS = 20


class RegistryBusyError(Exception):
    """A registry may answer otherwise later.

    Attributes:
        failure: What is said when it never does.
        retry_after: What it says of when, as it says so.
    """

    def __init__(self, failure: RegistryError, *, retry_after: str) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after = retry_after


class _ErrorEntry(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class _ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    errors: tuple[_ErrorEntry, ...] | None = None
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that may be put more than once.

    Attributes:
        path: Below the registry's address (`/v2/…`), or an address that it gave.
        scopes: What it needs to be allowed, as token servers write it.
        may_ask_mirrors: A mirror's answer is as good.
    """

    method: str
    path: str | Url
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    may_ask_mirrors: bool = False


class RegistrySession:
    """One registry. Any number of threads may use it at once."""

    def __init__(
        self,
        domain: str,
        *,
        transport: Transport,
        authenticator: Authenticator,
        settings: RegistrySettings,
    ) -> None:
        self.domain = domain
        self.warnings: dict[str, None] = {}
        self._transport = transport
        self._authenticator = authenticator
        self._settings = settings
        self._retry = settings.retry
        self._mirrors = tuple(
            endpoint for endpoint in endpoints_of(domain, settings) if endpoint.is_mirror
        )
        self._origins = endpoints_of(domain, settings, for_writing=True)
        self._origin = self._origins[0] if len(self._origins) == 1 else None
        self._choice = threading.Lock()
        # Who was never there is not waited for.
        self._has_answered = False

    @property
    def attempts(self) -> int:
        """How often something is tried that leads nowhere."""
        return self._retry.attempts

    @property
    def slow_seconds(self) -> float:
        """How long a blob may bring next to nothing."""
        return self._settings.slow_seconds

    def ask(self, question: Question, *, on_retry: Callable[[float], None] | None = None) -> Answer:
        """Ask until there is an answer that is not about being busy.

        Args:
            question: What to ask.
            on_retry: Told of each wait in seconds, from the thread that waits.

        Raises:
            RegistryUnreachableError: No answer, however often it was asked.
            RateLimitedError: It wants fewer requests.
            RegistryRefusedError: The token server does not know us.
            CancelledRead: The client was told to end.
        """
        if question.may_ask_mirrors:
            for mirror in self._mirrors:
                answer = self._ask_mirror(mirror, question)
                if answer is not None:
                    return answer
        attempt = 0
        while True:
            retry_after = ""
            try:
                answer = self._ask_once(self._find_origin(), question)
            except ConnectionFailedError as error:
                is_nowhere = error.is_absent and not self._has_answered and attempt
                if error.is_final or is_nowhere:
                    raise self.unreachable(error) from error
                failure: RegistryError = self.unreachable(error)
            except TokenServerBusyError as error:
                retry_after = error.retry_after
                failure = self._busy(error.status, str(error))
            else:
                if answer.status not in BUSY:
                    return answer
                busy = self.busy(answer)
                failure, retry_after = busy.failure, busy.retry_after
            attempt += 1
            if attempt >= self._retry.attempts:
                raise failure
            self.wait(attempt, failure, retry_after=retry_after, on_retry=on_retry)

    def fetch(self, question: Question, *, maximum_bytes: int) -> tuple[Answer, bytes | None]:
        """Ask, and read the whole body of a 200; the answer is the caller's to close.

        Returns:
            The answer, and its body: None if that is larger, empty unless the status is 200.

        Raises:
            EngineError: As `ask`.
        """
        attempt = 0
        while True:
            answer = self.ask(question)
            try:
                content = answer.read_whole(maximum_bytes) if answer.status == 200 else b""
            except ConnectionFailedError as error:
                answer.close()
                failure = self.unreachable(error)
                attempt += 1
                if attempt >= self._retry.attempts:
                    raise failure from error
                self.wait(attempt, failure)
            except BaseException:
                answer.close()
                raise
            else:
                return answer, content

    def send_stream(
        self,
        method: str,
        url: Url,
        *,
        scopes: tuple[str, ...],
        headers: Mapping[str, str],
        body: Iterable[bytes],
    ) -> Answer:
        """Send what can be read only once, once.

        A 401 has been dealt with when it is returned: the next try will be let in, if any is.

        Raises:
            ConnectionFailedError: No answer.
            RegistryRefusedError: There is nothing better to show.
        """
        endpoint = self._find_origin()
        is_home = url.origin == endpoint.base.origin
        shown = self._authenticator.header_for(endpoint, scopes) if is_home else ""
        sent = {**headers, "Authorization": shown} if shown else headers
        answer = self._transport.send(method, url, headers=sent, body=body)
        if answer.status == 401 and is_home:
            try:
                better = self._authenticator.answer(endpoint, answer, scopes, shown)
            except TokenServerBusyError as error:
                raise ConnectionFailedError(str(error)) from error
            if not better:
                raise self.refused(answer)
        return answer

    def abandon_upload(self, location: str, base: Url, scopes: tuple[str, ...]) -> None:
        """Tell the registry that nothing will come of an upload; what it makes of it is its own."""
        url = parse_http_url(location, base=base)
        if url is None:
            return
        with contextlib.suppress(ConnectionFailedError, TokenServerBusyError, RegistryError):
            question = Question(method="DELETE", path=url, scopes=scopes)
            self._ask_once(self._find_origin(), question).close()

    def wait(
        self,
        attempt: int,
        failure: RegistryError,
        *,
        retry_after: str = "",
        on_retry: Callable[[float], None] | None = None,
    ) -> None:
        """Wait before attempt number `attempt`: as long as the registry says, else a random time.

        Raises:
            RegistryError: `failure`, because the registry wants a wait that is too long.
            CancelledRead: The client was told to end.
        """
        bound = min(
            self._retry.first_delay_seconds * 2 ** (attempt - 1), self._retry.longest_delay_seconds
        )
        seconds = random.uniform(bound / 2, bound)
        asked = _seconds_of(retry_after)
        if asked is not None:
            if asked > self._retry.longest_wait_seconds:
                raise failure
            seconds = max(seconds, asked)
        if on_retry is not None:
            on_retry(seconds)
        self._transport.breaker.wait(seconds)

    def refused(self, answer: Answer, *, subject: str = "") -> RegistryRefusedError:
        """The error for 401 and 403; closes the answer.

        Args:
            answer: The refusal.
            subject: The repository, where it is about one; Docker's text then.
        """
        reason = self.reason(answer)
        if subject:
            return RegistryRefusedError(
                self.domain,
                f"pull access denied for {subject}, repository does not exist or may require "
                f"'lamella login': {reason}",
            )
        return RegistryRefusedError(self.domain, f"{self.domain} refuses: {reason}")

    def unexpected(self, answer: Answer, doing: str) -> RegistryError:
        """The error for an answer that nothing else is known of; closes the answer."""
        if answer.status in {401, 403}:
            return self.refused(answer)
        return RegistryError(
            self.domain,
            f"{doing}: {self.domain} answers with status {answer.status}: {self.reason(answer)}",
        )

    def busy(self, answer: Answer) -> RegistryBusyError:
        """The error for 429, 500 and their like; closes the answer."""
        retry_after = answer.header("Retry-After")
        failure = self._busy(answer.status, self.reason(answer))
        return RegistryBusyError(failure, retry_after=retry_after)

    def check_taken(self, answer: Answer, digest: Digest) -> None:
        """See that a registry took what it was given, as far as it says what it took.

        Raises:
            RegistryError: It says that it took something else.
        """
        said = answer.header("Docker-Content-Digest")
        if is_digest(said) and said != digest:
            raise RegistryError(
                self.domain,
                f"{self.domain} was given {digest} and says that it took {said}",
                hint="Something between here and the registry changes what is sent",
            )

    def unreachable(self, error: ConnectionFailedError) -> RegistryUnreachableError:
        """The error for no answer."""
        hint = "Is the name of the registry right, and its network there? HTTPS_PROXY names a proxy"
        if error.is_encryption:
            hint = (
                f"Put its authority's certificate into certs.d/{self.domain}/ca.crt, or allow "
                f'plain http: registries.toml, [registry."{self.domain}"] insecure = true'
            )
        return RegistryUnreachableError(
            self.domain, f"cannot reach {self.domain}: {error.reason}", hint=hint
        )

    def reason(self, answer: Answer) -> str:
        """What the registry says went wrong, made short; closes the answer."""
        with answer:
            try:
                content = answer.read_whole(_LARGEST_ERROR) or b""
                document = msgspec.json.decode(content, type=_ErrorDocument)
            except (
                ConnectionFailedError,
                msgspec.DecodeError,
                UnicodeDecodeError,
                RecursionError,
            ):
                return f"status {answer.status}"
        said = [
            f"{entry.code.lower().replace('_', ' ')}: {entry.message}".strip(": ")
            for entry in document.errors or ()
        ]
        text = "; ".join(said) or document.details or f"status {answer.status}"
        text = "".join(letter if letter.isprintable() else " " for letter in text)
        return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"

    # --- one way, one time ----------------------------------------------------------------

    def _ask_mirror(self, mirror: Endpoint, question: Question) -> Answer | None:
        """Ask a mirror once; None where the next one, or the registry itself, is to be asked."""
        try:
            answer = self._ask_once(mirror, question)
        except (ConnectionFailedError, TokenServerBusyError, RegistryError):
            return None
        if answer.status < 400 or answer.status == 416:
            return answer
        answer.close()
        return None

    def _ask_once(self, endpoint: Endpoint, question: Question) -> Answer:
        """Ask, and show who we are if that is asked for."""
        shown = self._authenticator.header_for(endpoint, question.scopes)
        answer = self._follow(endpoint, question, shown)
        if answer.status != 401:
            return answer
        if answer.url.origin != endpoint.base.origin:
            answer.close()
            raise ConnectionFailedError(f"{answer.url.origin} lets nobody in")
        better = self._authenticator.answer(endpoint, answer, question.scopes, shown)
        if not better:
            return answer
        answer.finish()
        return self._follow(endpoint, question, better)

    def _follow(self, endpoint: Endpoint, question: Question, shown: str) -> Answer:
        """Ask, and go where the answer leads. Only the registry is shown who we are."""
        url = question.path if not isinstance(question.path, str) else endpoint.url(question.path)
        headers = dict(question.headers or {})
        for _ in range(_MOST_REDIRECTIONS):
            is_home = url.origin == endpoint.base.origin
            sent = {**headers, "Authorization": shown} if shown and is_home else headers
            answer = self._transport.send(question.method, url, headers=sent, body=question.body)
            self._has_answered = True
            self._take_warnings(answer)
            if answer.status in {401, 403} and not is_home:
                # An address that was good for a time, which is over: the registry gives another.
                answer.close()
                raise ConnectionFailedError(f"{url.origin} lets nobody in")
            if answer.status not in _REDIRECTIONS or question.method not in {"GET", "HEAD"}:
                return answer
            location = answer.header("Location")
            answer.finish()
            target = parse_http_url(location, base=url)
            if target is None:
                raise ConnectionFailedError("it leads to no address", is_final=True)
            is_plain = target.scheme == "http" and url.scheme == "https"
            if is_plain and not is_plain_allowed(target.host, target.address, self._settings):
                raise ConnectionFailedError(
                    f"it leads to an address without encryption: {target.origin}", is_final=True
                )
            url = target
        raise ConnectionFailedError(
            f"it leads from one address to the next, more than {_MOST_REDIRECTIONS} times",
            is_final=True,
        )

    def _find_origin(self) -> Endpoint:
        """The way that works, where there are several: https goes before plain http."""
        with self._choice:
            if self._origin is not None:
                return self._origin
            failure = ConnectionFailedError("it has no address")
            for endpoint in self._origins:
                try:
                    with self._transport.send("GET", endpoint.url("/v2/"), headers={}) as answer:
                        # A server that speaks TLS says 400 to who does not.
                        if answer.status == 400:
                            failure = ConnectionFailedError("it speaks neither https nor http")
                            continue
                        self._origin = endpoint
                        return endpoint
                except ConnectionFailedError as error:
                    if error.is_final:
                        raise
                    failure = error
            raise failure

    def _busy(self, status: int, reason: str) -> RegistryError:
        if status == 429:
            return RateLimitedError(
                self.domain,
                f"{self.domain} wants fewer requests: {reason}",
                hint="Try again later; some registries let more through after `lamella login`",
            )
        return RegistryUnreachableError(
            self.domain, f"{self.domain} answers with status {status}: {reason}"
        )

    def _take_warnings(self, answer: Answer) -> None:
        """Keep what a registry warns of (distribution-spec, "Warnings")."""
        for value in answer.headers("Warning"):
            code, _, rest = value.partition(" ")
            text = rest.partition(" ")[2].strip().strip('"').replace('\\"', '"')
            if code == "299" and text and len(self.warnings) < _MOST_WARNINGS:
                self.warnings[text[:_LONGEST_REASON]] = None


def _seconds_of(retry_after: str) -> float | None:
    """`Retry-After`: seconds, or a date; None for neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = email.utils.parsedate_to_datetime(retry_after).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, moment - time.time())
