import asyncio

import pytest

from engine.operations import carry_through


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
