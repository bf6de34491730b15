"""A blob as a stream that outlives the connections it comes over."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Self

from engine.errors import RegistryError, RemoteImageNotFoundError
from engine.registry.session import Question
from engine.registry.transport import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from engine.oci.documents import Descriptor
    from engine.oci.reference import Reference
    from engine.registry.session import RegistrySession
    from engine.registry.transport import Answer

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_PIECE_BYTES = 1 << 18
_PROGRESS_BYTES = 1 << 14


class BlobStream:
    """Bytes of a blob, in order, each once; for one thread.

    A connection that breaks is replaced, and the new one goes on where the last one ended. What
    comes has the length that the descriptor says; its digest is for the reader to verify.
    """

    def __init__(
        self,
        session: RegistrySession,
        name: Reference,
        descriptor: Descriptor,
        *,
        offset: int = 0,
        on_retry: Callable[[float], None] | None = None,
    ) -> None:
        """Connects with the first read.

        Args:
            session: Of the registry.
            name: Whose repository has the blob.
            descriptor: Digest and size.
            offset: How much of it is here already.
            on_retry: Told of each wait in seconds.
        """
        self._session = session
        self._name = name
        self._descriptor = descriptor
        self._position = offset
        self._on_retry = on_retry
        self._answer: Answer | None = None
        self._failures = 0
        self._since_failure = 0
        self._watch_begun = 0.0
        self._watched_bytes = 0

    @property
    def position(self) -> int:
        """How far into the blob the next read begins."""
        return self._position

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, at least one; empty at the end of the blob.

        Raises:
            RegistryError: It cannot be had; its kind says why.
            CancelledRead: The client was told to end.
        """
        while (left := self._descriptor.size - self._position) > 0:
            try:
                if self._answer is None:
                    self._watch_begun = 0.0
                    self._answer = self._open()
                    self._watch_begun = 0.0
                piece = self._answer.read(min(size, left))
                if not piece:
                    raise ConnectionFailedError("the connection ended before the layer did")
                self._watch_speed(len(piece))
            except ConnectionFailedError as error:
                self._take_failure(error)
                continue
            self._position += len(piece)
            self._since_failure += len(piece)
            return piece
        self.close()
        return b""

    def close(self) -> None:
        """Let go of the connection; may be called more than once."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _watch_speed(self, count: int) -> None:
        """Leave a connection that drips: another one may not."""
        now = time.monotonic()
        if not self._watch_begun:
            self._watch_begun, self._watched_bytes = now, 0
        self._watched_bytes += count
        if self._watched_bytes >= _PROGRESS_BYTES:
            self._watch_begun, self._watched_bytes = now, 0
        elif now - self._watch_begun > self._session.slow_seconds:
            raise ConnectionFailedError("it sends next to nothing")

    def _take_failure(self, error: ConnectionFailedError) -> None:
        """Wait, unless this has led nowhere too often."""
        self.close()
        # A few bytes more are no progress: a blob of many would come a few at a time, for ever.
        self._failures = 1 if self._since_failure >= _PROGRESS_BYTES else self._failures + 1
        self._since_failure = 0
        failure = self._session.unreachable(error)
        if error.is_final or self._failures >= self._session.attempts:
            raise failure from error
        self._session.wait(self._failures, failure, on_retry=self._on_retry)

    def _open(self) -> Answer:
        """Ask for the rest of the blob."""
        digest = self._descriptor.digest
        headers = {"Range": f"bytes={self._position}-"} if self._position else None
        answer = self._session.ask(
            Question(
                method="GET",
                path=f"/v2/{self._name.path}/blobs/{digest}",
                scopes=(f"repository:{self._name.path}:pull",),
                headers=headers,
                may_ask_mirrors=True,
            ),
            on_retry=self._on_retry,
        )
        try:
            return self._check(answer)
        except BaseException:
            answer.close()
            raise

    def _check(self, answer: Answer) -> Answer:
        domain, digest = self._name.domain, self._descriptor.digest
        match answer.status:
            case 200:
                self._skip(answer)
                return answer
            case 206:
                found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
                if found is None or int(found.group(1)) != self._position:
                    raise ConnectionFailedError("it sends another part than it was asked for")
                return answer
            case 404:
                reason = self._session.reason(answer)
                raise RemoteImageNotFoundError(
                    domain, f"{self._name.familiar_repository}@{digest}", reason
                )
            case 416:
                raise RegistryError(
                    domain, f"{domain} has a blob {digest} of another size than the manifest says"
                )
            case 401 | 403:
                raise self._session.refused(answer, subject=self._name.familiar_repository)
            case _:
                raise self._session.unexpected(answer, f"cannot get {digest}")

    def _skip(self, answer: Answer) -> None:
        """Read over what is here already: the registry cannot begin in the middle."""
        left = self._position
        while left:
            piece = answer.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ConnectionFailedError("the connection ended before the layer did")
            self._watch_speed(len(piece))
            left -= len(piece)
