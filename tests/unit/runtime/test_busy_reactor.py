"""The reactor of processes with many connections."""

import os

import pytest

from engine.runtime.busy_reactor import BusyReactor
from engine.runtime.reactor import READABLE, WRITABLE


@pytest.fixture
def reactor():
    reactor = BusyReactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_deadlines_fire_in_their_order_and_cancelled_ones_never(reactor):
    fired = []
    for seconds in (0.02, 0.0, 0.01):
        reactor.after(seconds, lambda seconds=seconds: fired.append(seconds))
    reactor.after(0.005, lambda: fired.append("cancelled")).cancel()
    reactor.after(0.03, reactor.stop)

    reactor.run()

    assert fired == [0.0, 0.01, 0.02]


def test_cancelled_deadlines_are_not_kept_until_their_moment(reactor):
    kept = [reactor.after(1000, reactor.stop) for _deadline in range(300)]
    for _deadline in range(100_000):
        reactor.after(1000, reactor.stop).cancel()

    assert len(reactor._heap) < 2000
    assert all(deadline.is_pending for deadline in kept)
    reactor.after(0, reactor.stop)
    reactor.run()


def test_only_what_is_expected_is_told(reactor, pipe):
    reading, writing = pipe
    told = []

    def told_writable(_events):
        told.append("writable")
        reactor.expect(writing, 0)
        os.write(writing, b"x")

    def told_readable(_events):
        told.append(os.read(reading, 10))
        reactor.forget(reading)
        os.write(writing, b"y")
        reactor.after(0.01, reactor.stop)

    reactor.watch(reading, told_readable, READABLE)
    reactor.watch(writing, told_writable, WRITABLE)
    reactor.run()

    assert told == ["writable", b"x"]
    # Forgotten twice, and what never was there.
    reactor.forget(reading)
    reactor.forget(writing)
    reactor.forget(12345)
