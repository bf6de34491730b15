"""Blocking calls of one piece of work, in named threads of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from engine.operations import wait_for_thread

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class BlockingCalls:
    """Threads for calls that end when they are told to. Use as a context manager."""

    def __init__(self, name: str, *, thread_count: int, end: Callable[[], None]) -> None:
        """Make threads.

        Args:
            name: Of each thread, before a number.
            thread_count: How many calls go on at once.
            end: Makes every call end soon; called when one of them is cancelled.
        """
        self._threads = ThreadPoolExecutor(thread_count, thread_name_prefix=name)
        self._end = end

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Wait for a call; a cancelled one is told to end, and has ended when this returns."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        return await wait_for_thread(future, end=self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._threads.shutdown(wait=False)
