"""The only crossing between the interface and the engine.

The engine lives on a thread of its own with its own asyncio loop, because a slow terminal stalls
Textual's loop for seconds. Calls go down as coroutines (`call`, `stream`); state comes up through
`publish`, where the newest value of a key replaces the one before it and a burst becomes a single
wake-up of the interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from engine.errors import EngineError
from tui.messages import EngineFailed, EngineOpened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi
    from tui.messages import EngineState

Result = TypeVar("Result")
Item = TypeVar("Item")

_STREAM_CAPACITY = 64
"""Batches that a stream holds before its engine side waits for the interface."""


class EngineClosedError(EngineError):
    """The engine is not open."""

    def __init__(self) -> None:
        super().__init__("the engine is not open", hint="Wait until the store is open, or restart")


class EngineTask(Protocol):
    """What runs beside the calls as long as the engine is open, such as the watcher."""

    async def run(self, engine: EngineApi) -> None:
        """Run until cancelled."""


class Bridge:
    """Runs the engine thread and carries calls down and state up.

    Args:
        opener: Makes the context manager that opens the engine; called on the engine thread.
        wake: Tells the interface that state waits; called on the engine thread.
        task: Runs on the engine's loop while the engine is open.
    """

    def __init__(
        self,
        opener: Callable[[], AbstractAsyncContextManager[EngineApi]],
        *,
        wake: Callable[[], object],
        task: EngineTask,
    ) -> None:
        self._opener = opener
        self._wake = wake
        self._task = task
        self._lock = threading.Lock()
        self._latest: dict[str, EngineState] = {}
        self._is_woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._engine: EngineApi | None = None
        self._is_stopping = False
        self._running: set[asyncio.Task[object] | None] = set()
        self._thread = threading.Thread(target=self._run_thread, name="lamella-engine", daemon=True)
        self.has_failed = False
        """Whether the engine did not open, or has stopped by itself."""
        self.calls_in_flight = 0
        """Calls that were made and have not ended; of the interface's thread."""

    def start(self) -> None:
        """Start the engine thread; opening goes on in the background."""
        self._thread.start()

    async def aclose(self, *, timeout_seconds: float = 10.0) -> None:
        """Close the engine and end its thread; containers run on.

        The thread is a daemon: an engine that does not close in time does not keep the process.
        """
        self._is_stopping = True
        with self._lock:
            loop, stop = self._loop, self._stop
            if loop is not None and stop is not None:
                loop.call_soon_threadsafe(stop.set)
        if self._thread.is_alive():
            own_loop = asyncio.get_running_loop()
            await own_loop.run_in_executor(None, self._thread.join, timeout_seconds)

    async def call(self, function: Callable[[EngineApi], Awaitable[Result]]) -> Result:
        """Run `function` with the engine on the engine's loop and await its result.

        Cancelling this cancels the call over there.

        Raises:
            EngineClosedError: The engine is not open.
            EngineError: Whatever the call raised.
        """
        loop, engine = self._loop, self._engine
        if loop is None or engine is None:
            raise EngineClosedError

        async def run() -> Result:
            with self._kept():
                return await function(engine)

        self.calls_in_flight += 1
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
        finally:
            self.calls_in_flight -= 1

    async def stream(
        self, function: Callable[[EngineApi], AsyncIterator[Item]]
    ) -> AsyncGenerator[tuple[Item, ...], None]:
        """Iterate over an engine's iterator, taking all that is there each time.

        The engine's side waits when 64 items are not taken yet, so a flood costs no memory.
        Ending the iteration early closes the engine's iterator.
        """
        loop, engine = self._loop, self._engine
        if loop is None or engine is None:
            raise EngineClosedError
        stream = _Stream[Item](asyncio.get_running_loop())

        async def pump() -> None:
            with self._kept():
                await stream.pump(function(engine))

        future = asyncio.run_coroutine_threadsafe(pump(), loop)
        try:
            while True:
                await stream.arrived.wait()
                items, is_ended = stream.take(loop)
                if items:
                    yield items
                if is_ended:
                    await asyncio.wrap_future(future)
                    return
        finally:
            future.cancel()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep the current task of the engine's loop from being collected before it has ended.

        Loops refer to tasks weakly, and nobody here waits any more for one that was cancelled and
        has yet to end its worker and to remove what that has half done.
        """
        task = asyncio.current_task()
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    def publish(self, key: str, state: EngineState) -> None:
        """Hand state up; a newer state of the same key replaces one that was not drained."""
        with self._lock:
            self._latest.pop(key, None)
            self._latest[key] = state
            wakes, self._is_woken = not self._is_woken, True
        if wakes and not self._is_stopping:
            self._wake()

    def drain(self) -> tuple[EngineState, ...]:
        """Take all state that waits, oldest first. Call on the interface's thread."""
        with self._lock:
            latest, self._latest, self._is_woken = self._latest, {}, False
        return tuple(latest.values())

    @property
    def has_waiting_state(self) -> bool:
        """Whether something is published that was not drained."""
        with self._lock:
            return bool(self._latest)

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._engine is not None

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except EngineError as error:
            self.has_failed = True
            self.publish("engine", EngineFailed(message=error.message, hint=error.hint))
        # Whatever ends the engine must be seen, or the screen would look alive and be dead.
        except BaseException as error:
            self.has_failed = True
            self.publish(
                "engine",
                EngineFailed(
                    message=f"the engine stopped: {type(error).__name__}: {error}",
                    hint="Containers run on; quit with q and start lamella again",
                ),
            )
        finally:
            with self._lock:
                self._engine = None
                self._loop = None

    async def _run(self) -> None:
        stop = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._stop = stop
        if self._is_stopping:
            return
        async with contextlib.AsyncExitStack() as stack:
            opening = asyncio.ensure_future(stack.enter_async_context(self._opener()))
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not opening.done():
                    opening.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await opening
                    return
                engine = opening.result()
                # Before anybody hears of it: what is asked for then must find it.
                self._engine = engine
                self.publish("engine", EngineOpened(host=engine.host))
                running = asyncio.ensure_future(self._task.run(engine))
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    await running
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
            finally:
                self._engine = None
                stopping.cancel()
                await _cancel_others()


async def _cancel_others() -> None:
    """End the calls that are still running, before the engine closes under them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Stream(Generic[Item]):
    """The queue of one stream: filled on the engine's loop, emptied on the interface's."""

    def __init__(self, reader_loop: asyncio.AbstractEventLoop) -> None:
        self._reader_loop = reader_loop
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._is_ended = False
        self._room = asyncio.Event()
        self.arrived = asyncio.Event()

    async def pump(self, source: AsyncIterator[Item]) -> None:
        """Read the source to its end; runs on the engine's loop."""
        try:
            async for item in source:
                with self._lock:
                    self._items.append(item)
                self._notify()
                # Again and again: the room that is told of may be that of an earlier look.
                while self._is_full():
                    self._room.clear()
                    if self._is_full():
                        await self._room.wait()
        finally:
            with self._lock:
                self._is_ended = True
            self._notify()
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def _is_full(self) -> bool:
        with self._lock:
            return len(self._items) >= _STREAM_CAPACITY

    def _notify(self) -> None:
        # The interface may have closed its loop already: then nobody wants to know.
        with contextlib.suppress(RuntimeError):
            self._reader_loop.call_soon_threadsafe(self.arrived.set)

    def take(self, engine_loop: asyncio.AbstractEventLoop) -> tuple[tuple[Item, ...], bool]:
        """Take everything, and whether that was the end; runs on the interface's loop."""
        self.arrived.clear()
        with self._lock:
            items, is_ended = tuple(self._items), self._is_ended
            self._items.clear()
        with contextlib.suppress(RuntimeError):
            engine_loop.call_soon_threadsafe(self._room.set)
        return items, is_ended
