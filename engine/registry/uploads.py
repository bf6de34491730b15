"""Blobs on their way to a registry: in one request when they are small, else as a stream.

A stream that breaks is gone on with where the registry says that it ended, if its size is known
(distribution-spec, "Pushing a blob in chunks"); a registry that has forgotten the upload gets it
from the beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from engine.errors import RegistryError
from engine.oci.digests import require_digest
from engine.registry.endpoints import parse_http_url
from engine.registry.session import BUSY, Question, RegistryBusyError
from engine.registry.transport import SENT_BYTES, ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from engine.oci.reference import Reference
    from engine.registry.endpoints import Url
    from engine.registry.session import RegistrySession
    from engine.registry.transport import Answer
    from engine.types import Digest

_SMALL_BYTES = 1 << 20
_PIECE_BYTES = SENT_BYTES
_PROGRESS_BYTES = 1 << 16
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_BINARY = "application/octet-stream"


class BlobReader(Protocol):
    """The bytes of a blob, once."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, at least one; empty at the end."""

    def close(self) -> None:
        """Let go of what is behind it."""


class BlobSource(Protocol):
    """A blob that can be read from the beginning as often as a connection breaks."""

    @property
    def size(self) -> int | None:
        """Its length; None if that shows only at the end."""

    def open(self) -> BlobReader:
        """Begin; each time the same bytes."""


class BlobUpload:
    """One blob to one repository; for one thread."""

    def __init__(
        self,
        session: RegistrySession,
        name: Reference,
        source: BlobSource,
        *,
        digest: Digest | None,
        on_bytes: Callable[[int], None],
        on_retry: Callable[[float], None] | None = None,
    ) -> None:
        self._session = session
        self._name = name
        self._source = source
        self._expected = digest
        self._on_bytes = on_bytes
        self._on_retry = on_retry
        self._scopes = push_scopes(name)
        self._sent = 0
        self._hash = hashlib.sha256()

    def run(self) -> Digest:
        """Send it; returns its digest.

        Raises:
            RegistryError: It was not taken, or is not what its digest says.
            CancelledRead: The client was told to end.
        """
        size = self._source.size
        if size is not None and size <= _SMALL_BYTES and self._expected is not None:
            return self._send_whole()
        failures = 0
        best = 0
        location = self._begin()
        offset = 0
        while True:
            try:
                location = self._send_rest(location, offset)
                return self._finish(location)
            except (ConnectionFailedError, RegistryBusyError) as error:
                is_final, retry_after = False, ""
                if isinstance(error, RegistryBusyError):
                    failure, retry_after = error.failure, error.retry_after
                else:
                    failure, is_final = self._session.unreachable(error), error.is_final
                failures = 1 if self._sent >= best + _PROGRESS_BYTES else failures + 1
                best = max(best, self._sent)
                if is_final or failures >= self._session.attempts:
                    raise failure from error
                self._session.wait(
                    failures, failure, retry_after=retry_after, on_retry=self._on_retry
                )
                location, offset = self._find_end(location)

    def _begin(self) -> Url:
        with self._session.ask(
            Question(
                method="POST",
                path=f"/v2/{self._name.path}/blobs/uploads/",
                scopes=self._scopes,
                headers={"Content-Length": "0"},
            )
        ) as answer:
            if answer.status != 202:
                raise self._refusal(answer)
            return self._location(answer)

    def _send_whole(self) -> Digest:
        reader = self._source.open()
        try:
            content = b"".join(iter(lambda: reader.read(_PIECE_BYTES), b""))
        finally:
            reader.close()
        self._hash = hashlib.sha256(content)
        digest = self._own_digest()
        # Once more where the registry has forgotten the first one.
        for is_last in (False, True):
            location = self._begin()
            with self._session.ask(
                Question(
                    method="PUT",
                    path=_with_digest(location, digest),
                    scopes=self._scopes,
                    headers={"Content-Type": _BINARY},
                    body=content,
                )
            ) as answer:
                if self._was_taken(answer, digest):
                    break
                if answer.status != 404 or is_last:
                    raise self._refusal(answer)
        self._on_bytes(len(content))
        return digest

    def _send_rest(self, location: Url, offset: int) -> Url:
        size = self._source.size
        headers = {"Content-Type": _BINARY}
        if size is not None:
            headers["Content-Length"] = str(size - offset)
            headers["Content-Range"] = f"{offset}-{max(offset, size - 1)}"
        else:
            headers["Transfer-Encoding"] = "chunked"
        with (
            contextlib.closing(self._pieces(offset)) as pieces,
            self._session.send_stream(
                "PATCH", location, scopes=self._scopes, headers=headers, body=pieces
            ) as answer,
        ):
            if answer.status in BUSY:
                raise self._session.busy(answer)
            if answer.status == 401:
                raise ConnectionFailedError(f"it answers with status {answer.status}")
            if answer.status not in {201, 202, 204}:
                raise self._refusal(answer)
            if size is not None and self._sent != size:
                raise ConnectionFailedError("it did not wait for the whole layer")
            return self._location(answer)

    def _pieces(self, offset: int) -> Generator[bytes, None, None]:
        """The content from an offset on; hashed from the beginning."""
        self._hash = hashlib.sha256()
        self._sent = 0
        reader = self._source.open()
        try:
            while piece := reader.read(_PIECE_BYTES):
                self._hash.update(piece)
                passed = max(0, min(len(piece), offset - self._sent))
                self._sent += len(piece)
                if passed < len(piece):
                    yield piece[passed:]
                    self._on_bytes(self._sent)
        finally:
            reader.close()

    def _finish(self, location: Url) -> Digest:
        digest = self._own_digest()
        with self._session.ask(
            Question(
                method="PUT",
                path=_with_digest(location, digest),
                scopes=self._scopes,
                headers={"Content-Length": "0", "Content-Type": _BINARY},
            )
        ) as answer:
            if not self._was_taken(answer, digest):
                raise self._refusal(answer)
        return digest

    def _was_taken(self, answer: Answer, digest: Digest) -> bool:
        """Whether the registry has the whole blob, by its answer to who said that it is whole."""
        if answer.status == 201:
            self._session.check_taken(answer, digest)
            return True
        if answer.status != 404:
            return False
        # It knows of no such upload: also of one that it ended when it was asked for the first
        # time, and its answer was lost.
        path = f"/v2/{self._name.path}/blobs/{digest}"
        with self._session.ask(Question(method="HEAD", path=path, scopes=self._scopes)) as found:
            return found.status == 200

    def _find_end(self, location: Url) -> tuple[Url, int]:
        """Where to go on, and from which byte."""
        if self._source.size is None:
            return self._begin(), 0
        with self._session.ask(
            Question(method="GET", path=location, scopes=self._scopes)
        ) as answer:
            reached = _RANGE.fullmatch(answer.header("Range"))
            if answer.status == 204 and reached is not None and int(reached.group(1)) > 0:
                offset = int(reached.group(1)) + 1
                if offset <= self._source.size:
                    return self._location(answer), offset
        return self._begin(), 0

    def _own_digest(self) -> Digest:
        digest = require_digest(f"sha256:{self._hash.hexdigest()}")
        if self._expected is not None and digest != self._expected:
            raise RegistryError(
                self._name.domain, f"the layer to push has digest {digest}, not {self._expected}"
            )
        return digest

    def _location(self, answer: Answer) -> Url:
        location = parse_http_url(answer.header("Location"), base=answer.url)
        if location is None or location.scheme != answer.url.scheme:
            raise RegistryError(
                self._name.domain, f"{self._name.domain} does not say where to send the layer"
            )
        return location

    def _refusal(self, answer: Answer) -> RegistryError:
        return self._session.unexpected(answer, f"cannot push to {self._name.familiar_repository}")


def push_scopes(name: Reference, *others: str) -> tuple[str, ...]:
    """What pushing to a repository needs, and mounting from others."""
    return (
        f"repository:{name.path}:pull,push",
        *(f"repository:{path}:pull" for path in others),
    )


def _with_digest(location: Url, digest: Digest) -> Url:
    joint = "&" if "?" in location.target else "?"
    target = f"{location.target}{joint}digest={quote(digest, safe='')}"
    return type(location)(
        scheme=location.scheme, host=location.host, port=location.port, target=target
    )
