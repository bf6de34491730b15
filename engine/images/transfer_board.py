"""What becomes of the layers of one pull or push, told as often as it can be seen."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from engine.types import LayerTransfer, TransferStatus

if TYPE_CHECKING:
    from engine.types import Digest, TransferListener

_SECONDS_BETWEEN = 0.1
_BEFORE_DONE = frozenset({TransferStatus.DOWNLOADING, TransferStatus.DOWNLOADED})


class TransferBoard:
    """Passes on what threads and tasks say of layers; made on the engine's loop."""

    def __init__(self, listener: TransferListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._told: dict[Digest, tuple[TransferStatus, float]] = {}

    def tell(
        self,
        digest: Digest,
        status: TransferStatus,
        *,
        done_bytes: int = 0,
        total_bytes: int | None = None,
        detail: str = "",
    ) -> None:
        """Say how far a layer has come; from any thread.

        A new status is always passed on, numbers ten times a second. A small layer is unpacked
        before the thread that brought it has said so: what comes late of a finished one is dropped.
        """
        now = time.monotonic()
        with self._lock:
            known, told_at = self._told.get(digest, (None, 0.0))
            if known is status and now - told_at < _SECONDS_BETWEEN:
                return
            if known is TransferStatus.DONE and status in _BEFORE_DONE:
                return
            self._told[digest] = (status, now)
            self._loop.call_soon_threadsafe(
                self._listener,
                LayerTransfer(
                    digest=digest,
                    status=status,
                    done_bytes=done_bytes,
                    total_bytes=total_bytes,
                    detail=detail,
                ),
            )

    def status_of(self, digest: Digest) -> TransferStatus | None:
        """What was said last."""
        with self._lock:
            return self._told.get(digest, (None, 0.0))[0]
