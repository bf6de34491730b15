import contextlib
import json
import os

import pytest

from engine.events import Event, EventBus, EventSubject
from engine.store.event_log import EventTail, append_event, decode_event, trim_event_log


def event(action):
    return Event(
        time_ns=1, subject=EventSubject.CONTAINER, action=action, subject_id="a" * 64, name="web"
    )


class Tailed:
    """A log that is tailed, and what came of it."""

    def __init__(self, path, subscription):
        self.path = path
        self._subscription = subscription

    def append(self, *actions):
        for action in actions:
            append_event(self.path, event(action))

    async def next(self):
        return (await anext(aiter(self._subscription))).action

    async def next_ones(self, count):
        return [await self.next() for _ in range(count)]


@pytest.fixture
async def tailed(tmp_path):
    bus, path = EventBus(), tmp_path / "events.jsonl"
    append_event(path, event("before"))
    async with EventTail(path, bus):
        with bus.subscribe() as subscription:
            yield Tailed(path, subscription)


async def test_events_come_in_their_order_and_without_those_from_before(tailed):
    tailed.append("start", "pause", "die")
    assert await tailed.next_ones(3) == ["start", "pause", "die"]


async def test_a_line_written_in_pieces_is_one_event(tailed):
    line = b'{"time_ns":1,"subject":"container","action":"start","subject_id":"a"}\n'
    with tailed.path.open("ab", buffering=0) as log:
        log.write(line[:30])
        log.write(line[30:])
    tailed.append("die")
    assert await tailed.next_ones(2) == ["start", "die"]


async def test_half_a_line_of_a_full_disk_costs_no_later_event(tailed):
    with tailed.path.open("ab", buffering=0) as log:
        log.write(b'{"time_ns":1,"subject":"container","act')
    tailed.append("die", "destroy")
    assert await tailed.next_ones(2) == ["die", "destroy"]


async def test_lines_that_are_no_events_are_passed_over(tailed):
    with tailed.path.open("ab", buffering=0) as log:
        log.write(b"\n[]\nnull\n\xff\xfe\n" + b"[" * 100_000 + b"\n")
        log.write(b'{"time_ns":1,"subject":"starship","action":"x","subject_id":""}\n')
        log.write(b"x" * 300_000 + b"\n")
    tailed.append("die")
    assert await tailed.next() == "die"


async def test_a_log_that_is_renamed_is_finished_before_the_new_one_is_read(tailed):
    tailed.append("start")
    assert trim_event_log(tailed.path, maximum_bytes=0)
    tailed.append("die")
    assert await tailed.next_ones(2) == ["start", "die"]
    assert not trim_event_log(tailed.path)


async def test_who_still_writes_into_the_renamed_log_is_heard_at_once(tailed):
    late = os.open(tailed.path, os.O_WRONLY | os.O_APPEND)
    with contextlib.closing(os.fdopen(late, "wb", buffering=0)) as log:
        assert trim_event_log(tailed.path, maximum_bytes=0)
        log.write(b'{"time_ns":1,"subject":"container","action":"late","subject_id":"a"}\n')
        assert await tailed.next() == "late"
    tailed.append("die")
    assert await tailed.next() == "die"


async def test_a_log_that_is_cut_short_is_read_from_its_beginning(tailed):
    tailed.append("start")
    assert await tailed.next() == "start"
    tailed.path.write_bytes(b"")
    tailed.append("die")
    assert await tailed.next() == "die"


def test_an_event_survives_being_written_and_read(tmp_path):
    told = Event(
        time_ns=5,
        subject=EventSubject.IMAGE,
        action="tag",
        subject_id="sha256:" + "0" * 64,
        name="line\nbreak",
        attributes=(("exitCode", "0"),),
    )
    append_event(tmp_path / "log", told)
    (line,) = (tmp_path / "log").read_bytes().splitlines()
    assert decode_event(line) == told
    assert json.loads(line)["name"] == "line\nbreak"
