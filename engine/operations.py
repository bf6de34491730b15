"""Operations: long tasks with progress and a cancel.

A long engine call is a plain coroutine that takes a progress listener: it runs inside the
caller's task, so cancelling that task cancels the work and undoes what was half done.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol, TypeVar

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a long task has come.

    Attributes:
        step: What is being done now, as a person would say it: `Unpacking layer 2 of 5`.
        done: Units done of this step (bytes where `unit` is `bytes`).
        total: Units in all, or None when that is not known.
        unit: `bytes`, `layers`, `files`, or empty.
    """

    step: str
    done: int = 0
    total: int | None = None
    unit: str = ""


class ProgressListener(Protocol):
    """Is told of progress, on the engine's loop; must return at once."""

    def __call__(self, progress: Progress, /) -> None:
        """Take note of the newest progress; earlier ones are superseded."""


def ignore_progress(_progress: Progress, /) -> None:
    """Listen to nothing: the default of calls that report progress."""


class Cancellation:
    """Ends blocking work from another thread: whoever waits for a pipe polls `descriptor` too."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def cancel(self) -> None:
        """End it; may be called more than once."""
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Close the descriptor; nobody may wait any more."""
        os.close(self.descriptor)


class CancelledRead(Exception):  # noqa: N818 - not an error: the caller asked for it
    """A read ended because it was cancelled."""


async def wait_for_thread(future: asyncio.Future[_Result], *, end: Callable[[], None]) -> _Result:
    """Wait for a thread's work; a cancelled wait has it end, and returns when it has.

    Args:
        future: The work, which uses what the caller holds.
        end: Makes it end soon; called at each cancellation.
    """
    # Whoever waits may be gone by then: a second Ctrl-C ends everything at once.
    future.add_done_callback(_take_outcome)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            # Waiting is all that a cancellation ends here.
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
            end()
    if cancelled is not None:
        raise cancelled
    return future.result()


def _take_outcome(future: asyncio.Future[_Result]) -> None:
    if not future.cancelled():
        future.exception()


async def open_in_thread(opening: Callable[[], int]) -> int:
    """Have a thread open something; when the wait is cancelled, it is closed as soon as it is open.

    Args:
        opening: Blocking; gives a descriptor.
    """
    opened = asyncio.get_running_loop().run_in_executor(None, opening)
    try:
        return await asyncio.shield(opened)
    except asyncio.CancelledError:
        opened.add_done_callback(_close_opened)
        raise


def _close_opened(opened: asyncio.Future[int]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        os.close(opened.result())


async def carry_through(work: Coroutine[object, object, _Result]) -> _Result:
    """Run work that must not be cut short: cancelling, however often, waits for its end first.

    What the work raises goes before the cancellation, as nobody else would hear of it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # Waiting is all that a cancellation ends here; the task is not told.
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
