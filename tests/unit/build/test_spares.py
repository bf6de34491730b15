"""What a build will want is made ahead, while nothing is going on."""

from __future__ import annotations

import asyncio

import pytest

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


def keeper_of(made: Made, *, quiet_seconds: float = 0) -> SpareKeeper[str, str]:
    return SpareKeeper(made.make, made.end, quiet_seconds=quiet_seconds)


async def use(keeper: SpareKeeper[str, str], kind: str = "one") -> str | None:
    with keeper.in_use():
        return await keeper.take(kind, lambda thing: thing == kind)


async def at_work() -> tuple[Made, SpareKeeper[str, str]]:
    """A keeper that is making one, which may not be through yet."""
    made = Made()
    made.may_make.clear()
    keeper = keeper_of(made)
    await use(keeper)
    await made.begun.wait()
    return made, keeper


async def turns() -> None:
    """Let everything go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_next_one_is_made_when_the_last_user_has_gone():
    made = Made()
    keeper = keeper_of(made)
    with keeper.in_use():
        assert await use(keeper) is None
        await turns()
        assert made.kinds == []
    await made.made.wait()

    assert made.kinds == ["one"]
    with keeper.in_use():
        assert await keeper.take("one", always) == "one"
        assert await keeper.take("one", always) is None
    await keeper.close()


async def test_who_wanted_none_has_none_made():
    made = Made()
    keeper = keeper_of(made)
    with keeper.in_use():
        pass
    await turns()
    assert not made.begun.is_set()
    await use(keeper)
    await made.made.wait()
    # It stays for whoever comes after that.
    with keeper.in_use():
        pass
    await turns()
    assert made.kinds == ["one"]
    assert await use(keeper) == "one"
    await keeper.close()


async def test_nothing_is_made_before_it_is_quiet():
    made = Made()
    loop = asyncio.get_running_loop()
    keeper = keeper_of(made, quiet_seconds=0.05)
    await use(keeper)
    ended_at = loop.time()
    await made.begun.wait()
    assert loop.time() - ended_at >= 0.05
    await keeper.close()

    made = Made()
    keeper = keeper_of(made, quiet_seconds=1000)
    await use(keeper)
    await turns()
    assert not made.begun.is_set()
    await keeper.close()


async def test_one_of_another_kind_is_ended():
    made = Made()
    keeper = keeper_of(made)
    await use(keeper)
    await made.made.wait()
    made.made.clear()

    assert await use(keeper, "another") is None
    await made.made.wait()
    assert (made.kinds, made.count) == (["one", "another"], 1)
    await keeper.close()
    assert made.count == 0


async def test_who_comes_while_it_is_made_waits_for_it():
    made, keeper = await at_work()
    taking = asyncio.create_task(use(keeper))
    await turns()
    assert not taking.done()
    made.may_make.set()
    assert await taking == "one"
    await keeper.close()


async def test_only_one_is_made_at_once_whoever_gives_up_waiting_for_it():
    made, keeper = await at_work()
    made.begun.clear()
    taking = asyncio.create_task(use(keeper))
    await turns()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await turns()
    assert not made.begun.is_set()

    before = asyncio.all_tasks()
    await keeper.close()
    assert asyncio.all_tasks() < before
    made.may_make.set()
    await turns()
    assert made.kinds == []


async def test_one_that_cannot_be_made_is_nobodys_trouble():
    made = Made()
    made.fails = True
    keeper = keeper_of(made)
    await use(keeper)
    await made.made.wait()

    assert await use(keeper) is None
    await keeper.close()


async def test_closing_ends_the_one_that_waits():
    made = Made()
    keeper = keeper_of(made)
    await use(keeper)
    await made.made.wait()
    await keeper.close()
    assert made.count == 0


async def test_closing_waits_for_the_end_however_often_it_is_cancelled():
    made, keeper = await at_work()
    closing = asyncio.create_task(keeper.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    made.may_make.set()
    await turns()
    assert made.kinds == []


async def test_a_closed_one_makes_nothing_more():
    made = Made()
    keeper = keeper_of(made)
    with keeper.in_use():
        assert await keeper.take("one", always) is None
        await keeper.close()
    await turns()

    assert not made.begun.is_set()
