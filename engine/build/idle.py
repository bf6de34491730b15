"""What was made for one build and can serve the next one stays for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from engine.operations import carry_through

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

KeptT = TypeVar("KeptT")

IDLE_SECONDS = 60.0


class IdleKeeper(Generic[KeptT]):
    """Keeps at most one thing that nobody uses, and ends it when nobody has come for it."""

    def __init__(
        self,
        end: Callable[[KeptT], Coroutine[object, object, None]],
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Keep nothing yet.

        Args:
            end: Ends one; it must not fail.
            idle_seconds: How long one is kept.
        """
        self._end = end
        self._idle_seconds = idle_seconds
        self._kept: KeptT | None = None
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self, serves: Callable[[KeptT], bool]) -> KeptT | None:
        """What is kept, if it serves; what does not is ended, and a cancellation waits for that."""
        kept = self._let_go()
        if kept is None or serves(kept):
            return kept
        await carry_through(self._end(kept))
        return None

    async def keep(self, thing: KeptT) -> None:
        """Keep something, unless something is kept already, or nobody will come: it is ended then.

        A cancellation waits for that.
        """
        if self._kept is not None or self._is_closed:
            await carry_through(self._end(thing))
            return
        self._kept = thing
        self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._give_up)

    async def close(self) -> None:
        """End what is kept, for good; returns when nothing is left of what was."""
        self._is_closed = True
        self._give_up()
        if self._ending:
            await carry_through(asyncio.wait(tuple(self._ending)))

    def _give_up(self) -> None:
        kept = self._let_go()
        if kept is not None:
            task = asyncio.create_task(self._end(kept))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _let_go(self) -> KeptT | None:
        kept, self._kept = self._kept, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return kept
