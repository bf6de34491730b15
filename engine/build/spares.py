"""What a build will want is made ahead, while nothing is going on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

from engine.build.idle import IDLE_SECONDS, IdleKeeper
from engine.errors import EngineError
from engine.operations import carry_through

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

KindT = TypeVar("KindT")
SpareT = TypeVar("SpareT")

QUIET_SECONDS = 0.25
"""How long nothing goes on before one is made: who looks at what a build has made goes first."""


class SpareKeeper(Generic[KindT, SpareT]):
    """Has one that nobody has used, after somebody wanted one, for a while."""

    def __init__(
        self,
        make: Callable[[KindT], Coroutine[object, object, SpareT]],
        end: Callable[[SpareT], Coroutine[object, object, None]],
        *,
        idle_seconds: float = IDLE_SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """Make nothing yet.

        Args:
            make: Makes one; nothing is left of one that it cannot make.
            end: Ends one; it must not fail.
            idle_seconds: How long one is kept that nobody takes.
            quiet_seconds: As QUIET_SECONDS.
        """
        self._make = make
        self._idle = IdleKeeper(end, idle_seconds=idle_seconds)
        self._quiet_seconds = quiet_seconds
        self._user_count = 0
        # At most one: of the next to be made.
        self._wanted: list[KindT] = []
        self._timer: asyncio.TimerHandle | None = None
        self._making: asyncio.Task[None] | None = None
        self._is_closed = False

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Go on with something in the block that may take one; none is made meanwhile."""
        self._user_count += 1
        self._stop_timer()
        try:
            yield
        finally:
            self._user_count -= 1
            if not self._user_count and self._wanted:
                self._start_timer()

    async def take(self, kind: KindT, serves: Callable[[SpareT], bool]) -> SpareT | None:
        """The one that is kept or being made, if it serves; what does not is ended.

        Args:
            kind: Of the next one to be made.
            serves: Whether one is of that kind, and still good.
        """
        self._wanted = [kind]
        if self._making is not None:
            await asyncio.wait((self._making,))
        return await self._idle.take(serves)

    async def close(self) -> None:
        """End the one that is kept, for good; returns when nothing is left of it.

        A cancellation waits for that.
        """
        self._is_closed = True
        self._stop_timer()
        await carry_through(self._end_all())

    async def _end_all(self) -> None:
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))
        await self._idle.close()

    def _start_timer(self) -> None:
        if not self._is_closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._quiet_seconds, self._begin)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        if self._making is not None:
            # Whoever waited for it has given up.
            self._start_timer()
            return
        kind = self._wanted.pop()
        self._making = asyncio.create_task(self._make_one(kind))
        self._making.add_done_callback(self._forget_making)

    async def _make_one(self, kind: KindT) -> None:
        # Who needs one is told why there is none.
        with contextlib.suppress(EngineError, OSError):
            await self._idle.keep(await self._make(kind))

    def _forget_making(self, _task: asyncio.Task[None]) -> None:
        self._making = None
