"""Where the layers of a build are: they move once, while nobody uses their paths."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from engine.operations import carry_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class LayerPlaces:
    """Keeps layers from moving while somebody uses their paths."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._reader_count = 0
        self._mover_count = 0
        self._is_moving = False

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Let every layer stay where it is for a block."""
        async with self._changed:
            # Who wants to move goes first: it takes a moment, and the next reader comes soon.
            await self._changed.wait_for(lambda: not self._mover_count)
            self._reader_count += 1
        try:
            yield
        finally:
            self._reader_count -= 1
            await carry_through(self._tell())

    @contextlib.asynccontextmanager
    async def reading_until(self) -> AsyncIterator[Callable[[], None]]:
        """As `reading`, for as long as what it gives has not been called."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.reading())
            tasks: set[asyncio.Task[None]] = set()

            def let_go() -> None:
                task = asyncio.create_task(stack.aclose())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            yield let_go
            if tasks:
                await asyncio.wait(tasks)

    @contextlib.asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Move a layer in the block: nobody reads paths meanwhile."""
        self._mover_count += 1
        try:
            async with self._changed:
                await self._changed.wait_for(self._is_still)
                self._is_moving = True
            try:
                yield
            finally:
                self._is_moving = False
        finally:
            self._mover_count -= 1
            await carry_through(self._tell())

    def _is_still(self) -> bool:
        return not self._reader_count and not self._is_moving

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
