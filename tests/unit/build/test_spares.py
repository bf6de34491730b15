"""What a build will want is made ahead, while nothing is going on."""

from __future__ import annotations

import asyncio

from engine.build.spares import SpareKeeper
from engine.errors import EngineError


class Made:
    """Makes things when it is let, and counts those that there are."""

    def __init__(self) -> None:
        self.may_make = asyncio.Event()
        self.may_make.set()
        self.begun = asyncio.Event()
        self.made = asyncio.Event()
        self.kinds: list[str] = []
        self.count = 0
        self.fails = False

    async def make(self, kind: str) -> str:
        self.begun.set()
        await self.may_make.wait()
        if self.fails:
            self.made.set()
            raise EngineError("there is none to be had")
        self.kinds.append(kind)
        self.count += 1
        self.made.set()
        return kind

    async def end(self, _thing: str) -> None:
        await asyncio.sleep(0)
        self.count -= 1


def always(_thing: str) -> bool:
    return True


async def test_the_next_one_is_made_when_the_last_user_has_gone():
    made = Made()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("first"):
        with keeper.using("second"):
            assert await keeper.take(always) is None
        for _ in range(10):
            await asyncio.sleep(0)
        assert made.kinds == []
    await made.made.wait()

    assert made.kinds == ["first"]
    with keeper.using("first"):
        assert await keeper.take(always) == "first"
        assert await keeper.take(always) is None
    await keeper.close()


async def test_nothing_is_made_before_it_is_quiet():
    made = Made()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=1000)
    for _ in range(3):
        with keeper.using("one"):
            await asyncio.sleep(0)
    await keeper.close()

    assert not made.begun.is_set()


async def test_who_comes_while_it_is_made_waits_for_it():
    made = Made()
    made.may_make.clear()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("one"):
        pass
    await made.begun.wait()
    with keeper.using("one"):
        taking = asyncio.create_task(keeper.take(always))
        await asyncio.sleep(0)
        assert not taking.done()
        made.may_make.set()
        assert await taking == "one"
    await keeper.close()


async def test_one_that_cannot_be_made_is_nobodys_trouble():
    made = Made()
    made.fails = True
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("one"):
        pass
    await made.made.wait()

    assert await keeper.take(always) is None
    await keeper.close()


async def test_closing_ends_the_one_that_waits_and_the_one_that_is_made():
    made = Made()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("one"):
        pass
    await made.made.wait()
    await keeper.close()
    assert made.count == 0

    made = Made()
    made.may_make.clear()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("one"):
        pass
    await made.begun.wait()
    await keeper.close()
    assert made.kinds == []


async def test_a_closed_one_makes_nothing_more():
    made = Made()
    keeper = SpareKeeper(made.make, made.end, quiet_seconds=0)
    with keeper.using("one"):
        await keeper.close()
    for _ in range(10):
        await asyncio.sleep(0)

    assert not made.begun.is_set()
