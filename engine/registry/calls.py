"""Calls of a client from an event loop: each in a thread of its own, ended when it is cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from engine.operations import CancelledRead, wait_for_thread
from engine.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.registry.credentials import Credential

_Result = TypeVar("_Result")


class _Call:
    """One piece of work, and the client that it has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: RegistryClient | None = None
        self._is_cancelled = False

    def run(self, work: Callable[[RegistryClient], _Result], login: Credential | None) -> _Result:
        with RegistryClient(login=login) as client:
            with self._lock:
                if self._is_cancelled:
                    raise CancelledRead
                self._client = client
            return work(client)

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            if self._client is not None:
                self._client.cancel()


async def call_registry(
    work: Callable[[RegistryClient], _Result], *, login: Credential | None = None
) -> _Result:
    """Do blocking work with a client of its own, configured by the person's files.

    Cancelling ends the work, and returns when it has ended.

    Args:
        work: Gets the client, in a thread named `registry`.
        login: Who to be, instead of looking it up.
    """
    call = _Call()
    threads = ThreadPoolExecutor(1, thread_name_prefix="registry")
    try:
        future = asyncio.get_running_loop().run_in_executor(threads, call.run, work, login)
        return await wait_for_thread(future, end=call.cancel)
    finally:
        threads.shutdown(wait=False)
