import asyncio
import gc
import os
import threading

import pytest

from engine.images.blocking import BlockingCalls
from engine.operations import CancelledRead, carry_through, open_in_thread

DEADLINE_SECONDS = 60


async def test_work_is_carried_through_however_often_its_caller_is_cancelled():
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), []

    async def work():
        begun.set()
        await may_end.wait()
        ended.append("work")

    caller = asyncio.create_task(carry_through(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == ["work"]


async def test_what_the_work_raises_goes_before_the_cancellation():
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        await may_end.wait()
        raise ValueError("of the work")

    caller = asyncio.create_task(carry_through(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(ValueError, match="of the work"):
        await caller


async def test_the_result_comes_back():
    async def work():
        return 7

    assert await carry_through(work()) == 7


async def test_work_that_nobody_waits_for_any_more_ends_without_a_word():
    loop = asyncio.get_running_loop()
    said = []
    loop.set_exception_handler(lambda _loop, context: said.append(context))
    may_end = threading.Event()

    def work():
        may_end.wait()
        raise CancelledRead

    with BlockingCalls("test", thread_count=1, end=may_end.set) as calls:
        waiting = calls.run(work)
        # The first Ctrl-C cancels; the second is thrown at whatever runs.
        step = waiting.__await__()
        next(step)
        with pytest.raises(KeyboardInterrupt):
            step.throw(KeyboardInterrupt())
        may_end.set()
    await asyncio.to_thread(calls._threads.shutdown)
    # The thread's word reaches the loop, and the future goes.
    await asyncio.sleep(0)
    del step, waiting
    gc.collect()
    assert said == []


async def test_what_a_thread_opens_for_nobody_any_more_is_closed():
    begun = threading.Event()
    may_open = threading.Event()
    opened: list[int] = []

    def open_late() -> int:
        begun.set()
        may_open.wait()
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return opened[0]

    opening = asyncio.create_task(open_in_thread(open_late))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    may_open.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not opened or _is_open(opened[0]):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_what_a_thread_cannot_open_is_told():
    with pytest.raises(FileNotFoundError):
        await open_in_thread(lambda: os.open("/nowhere", os.O_RDONLY))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
