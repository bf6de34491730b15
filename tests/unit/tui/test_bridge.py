"""What crosses between the interface and the engine, and what is left when it is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from tests.fakes import FakeEngine
from tui.bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from engine.api import EngineApi

DEADLINE_SECONDS = 20.0


class _Nothing:
    """Nothing runs beside the calls."""

    async def run(self, _engine: EngineApi) -> None:
        await asyncio.Event().wait()


class _SlowEnd:
    """Work that takes its time to end, and that only what it waits for refers to."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.is_ending = threading.Event()
        self.has_ended = threading.Event()
        self.waiter: Callable[[], asyncio.Future[None] | None] = lambda: None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def work(self, _engine: EngineApi) -> None:
        self.loop = asyncio.get_running_loop()
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            waiter = self.loop.create_future()
            self.waiter = weakref.ref(waiter)
            self.is_ending.set()
            await waiter
            self.has_ended.set()

    async def items(self, engine: EngineApi) -> AsyncIterator[int]:
        yield 1
        await self.work(engine)

    def let_end(self) -> None:
        waiter = self.waiter()
        if waiter is not None:
            waiter.set_result(None)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    opened = asyncio.Event()
    loop = asyncio.get_running_loop()
    made = Bridge(
        FakeEngine().opened,
        wake=lambda: loop.call_soon_threadsafe(opened.set),
        task=_Nothing(),
    )
    made.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not made.is_open:
            await opened.wait()
            await asyncio.sleep(0)
    yield made
    await made.aclose()


async def test_who_hears_that_the_engine_is_open_finds_it() -> None:
    heard: list[bool] = []
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def hear() -> None:
        # On the engine's thread: nothing else of it goes on meanwhile.
        heard.append(made.is_open)
        loop.call_soon_threadsafe(told.set)

    made = Bridge(FakeEngine().opened, wake=hear, task=_Nothing())
    made.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await told.wait()
    await made.aclose()
    assert heard == [True]


async def called(bridge: Bridge, slow: _SlowEnd) -> None:
    await bridge.call(slow.work)


async def streamed(bridge: Bridge, slow: _SlowEnd) -> None:
    async for _items in bridge.stream(slow.items):
        pass


@pytest.mark.parametrize("use", [called, streamed])
async def test_what_was_cancelled_is_kept_until_it_has_ended(
    bridge: Bridge, use: Callable[[Bridge, _SlowEnd], object]
) -> None:
    slow = _SlowEnd()
    using = asyncio.ensure_future(use(bridge, slow))
    assert await asyncio.to_thread(slow.has_begun.wait, DEADLINE_SECONDS)
    using.cancel()
    await asyncio.gather(using, return_exceptions=True)
    del using
    assert await asyncio.to_thread(slow.is_ending.wait, DEADLINE_SECONDS)
    assert slow.loop is not None
    # Behind the step of the task that made it wait.
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), slow.loop))
    gc.collect()
    slow.loop.call_soon_threadsafe(slow.let_end)
    assert await asyncio.to_thread(slow.has_ended.wait, DEADLINE_SECONDS)
