"""What was made for one build and can serve the next one stays for a while."""

from __future__ import annotations

import asyncio

from engine.build.idle import IdleKeeper


class Ended:
    """Ends things, and remembers in which order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.has_ended = asyncio.Event()

    async def __call__(self, name: str) -> None:
        await asyncio.sleep(0)
        self.names.append(name)
        self.has_ended.set()


def always(_name: str) -> bool:
    return True


async def test_one_is_kept_until_somebody_comes_for_it():
    ended = Ended()
    keeper = IdleKeeper(ended)
    await keeper.keep("first")

    assert await keeper.take(always) == "first"
    assert await keeper.take(always) is None
    await keeper.close()
    assert ended.names == []


async def test_a_second_one_is_ended_before_it_would_be_kept():
    ended = Ended()
    keeper = IdleKeeper(ended)
    await keeper.keep("first")
    await keeper.keep("second")

    assert ended.names == ["second"]
    await keeper.close()
    assert ended.names == ["second", "first"]


async def test_one_that_does_not_serve_is_ended():
    ended = Ended()
    keeper = IdleKeeper(ended)
    await keeper.keep("first")

    assert await keeper.take(lambda name: name != "first") is None
    assert ended.names == ["first"]
    await keeper.close()


async def test_one_that_nobody_comes_for_ends_by_itself():
    ended = Ended()
    keeper = IdleKeeper(ended, idle_seconds=0)
    await keeper.keep("first")

    await ended.has_ended.wait()
    assert await keeper.take(always) is None
    await keeper.close()
    assert ended.names == ["first"]


async def test_closing_waits_for_what_is_ending_already():
    ended = Ended()
    keeper = IdleKeeper(ended, idle_seconds=0)
    await keeper.keep("first")
    while keeper._kept is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await keeper.close()

    assert ended.names == ["first"]
