"""Events from a moment on, over the log, its rename, and what is written meanwhile."""

import asyncio
import contextlib
import time

import pytest

from engine.events import Event, EventSubject
from engine.store.event_history import follow_event_log
from engine.store.event_log import append_event, trim_event_log

DEADLINE_SECONDS = 20


def append(path, *actions, time_ns=None):
    for number, action in enumerate(actions):
        append_event(
            path,
            Event(
                time_ns=time.time_ns() if time_ns is None else time_ns + number,
                subject=EventSubject.CONTAINER,
                action=action,
                subject_id="a" * 64,
            ),
        )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


async def collect(path, **times):
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [
            event.action
            async for batch in follow_event_log(path, **{"since_ns": None, **times})
            for event in batch
        ]


class Following:
    """A reader that is taken from event by event."""

    def __init__(self, path, *, since_ns):
        self._batches = follow_event_log(path, since_ns=since_ns, until_ns=None)
        self._waiting = []

    async def next_ones(self, count):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self._waiting) < count:
                self._waiting += [event.action for event in await anext(self._batches)]
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def aclose(self):
        await self._batches.aclose()


async def test_the_past_between_two_moments_is_given_and_then_the_end(path):
    append(path, "one", "two", "three", "four", time_ns=100)
    assert await collect(path, since_ns=101, until_ns=102) == ["two", "three"]
    assert await collect(path, until_ns=101) == ["one", "two"]
    assert await collect(path, since_ns=103, until_ns=time.time_ns()) == ["four"]


async def test_a_store_without_events_has_none(tmp_path):
    assert await collect(tmp_path / "new" / "events.jsonl", until_ns=1) == []


async def test_the_past_goes_over_into_what_happens_now(path):
    append(path, "one", "two", time_ns=100)
    async with contextlib.aclosing(Following(path, since_ns=101)) as following:
        assert await following.next_ones(1) == ["two"]
        append(path, "three")
        assert await following.next_ones(1) == ["three"]
        append(path, "four", "five")
        assert await following.next_ones(2) == ["four", "five"]


async def test_a_renamed_log_is_read_before_the_one_after_it(path):
    append(path, "one", time_ns=100)
    assert trim_event_log(path, maximum_bytes=0)
    append(path, "two", time_ns=200)
    assert await collect(path, until_ns=1000) == ["one", "two"]
    path.unlink()
    assert await collect(path, until_ns=1000) == ["one"]


async def test_renames_while_it_follows_lose_and_double_nothing(path):
    append(path, "0", time_ns=100)
    async with contextlib.aclosing(Following(path, since_ns=0)) as following:
        assert await following.next_ones(1) == ["0"]
        # Twice between two looks: the file between is `.1` by then.
        append(path, "1")
        assert trim_event_log(path, maximum_bytes=0)
        append(path, "2")
        assert trim_event_log(path, maximum_bytes=0)
        append(path, "3")
        assert await following.next_ones(3) == ["1", "2", "3"]
        assert trim_event_log(path, maximum_bytes=0)
        append(path, "4")
        assert await following.next_ones(1) == ["4"]


async def test_events_that_are_written_during_the_look_back_come_once_each(path):
    append(path, *(f"past {number}" for number in range(3000)), time_ns=1)
    written = [f"past {number}" for number in range(3000)]

    async def write():
        for number in range(500):
            await asyncio.to_thread(append, path, f"now {number}")
            written.append(f"now {number}")

    async with (
        contextlib.aclosing(Following(path, since_ns=0)) as following,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(write())
        seen = await following.next_ones(3500)
    assert seen == written


async def test_it_ends_when_the_time_has_come_though_nothing_happens(path):
    append(path, "one", time_ns=100)
    now = time.time_ns()
    assert await collect(path, since_ns=0, until_ns=now + 50_000_000) == ["one"]
    assert time.time_ns() > now + 50_000_000


async def test_a_reader_that_is_cancelled_leaves_nothing_open(path):
    append(path, "one")
    task = asyncio.create_task(collect(path, since_ns=0, until_ns=None))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
