"""Proxies of published ports in one process: what is forgotten, and when."""

import contextlib
import os
import socket

import pytest

from engine.runtime.busy_reactor import BusyReactor
from engine.runtime.datagram_proxy import DatagramProxy
from engine.runtime.port_proxy import ConnectionRoom, PipePool, Target, find_target

IDLE_SECONDS = 0.3


@pytest.fixture
def reactor():
    with contextlib.closing(BusyReactor()) as reactor:
        yield reactor


def datagrams():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


@pytest.fixture
def inside():
    """Where the port leads to."""
    with datagrams() as made:
        yield made


@pytest.fixture
def bound():
    with datagrams() as made:
        yield made


@contextlib.contextmanager
def proxied(reactor, bound, inside, **options):
    def target():
        return Target(family=socket.AF_INET, address=places[0].getsockname()) if places else None

    places = [inside]
    proxy = DatagramProxy(reactor, bound, find_target=target, **options)
    yield places
    # What a process does by ending.
    for client in proxy._clients.values():
        client.onward.close()


def port_seen(reactor, bound, inside, client):
    """From where the target hears a datagram of the client, which hears its answer."""
    seen = []

    def hear(_events):
        content, address = inside.recvfrom(100)
        seen.append(address[1])
        inside.sendto(b"heard " + content, address)

    client.sendto(b"x", bound.getsockname())
    reactor.watch(inside.fileno(), hear)
    reactor.watch(client.fileno(), lambda _events: reactor.stop())
    reactor.run()
    reactor.forget(inside.fileno())
    reactor.forget(client.fileno())
    assert client.recv(100) == b"heard x"
    return seen[0]


def let_pass(reactor, seconds):
    reactor.after(seconds, reactor.stop)
    reactor.run()


def test_a_sender_is_forgotten_when_it_was_silent(reactor, bound, inside):
    with proxied(reactor, bound, inside, idle_seconds=IDLE_SECONDS), datagrams() as client:
        port_seen(reactor, bound, inside, client)
        before = len(os.listdir("/proc/self/fd"))
        let_pass(reactor, IDLE_SECONDS * 3)
        assert len(os.listdir("/proc/self/fd")) == before - 1
        # Nobody is looked for any more, and a new look begins with the next one.
        assert port_seen(reactor, bound, inside, client)
        let_pass(reactor, IDLE_SECONDS * 3)
        assert len(os.listdir("/proc/self/fd")) == before - 1


def test_the_sender_that_spoke_last_is_kept(reactor, bound, inside):
    with (
        proxied(reactor, bound, inside, most_clients=2),
        datagrams() as one,
        datagrams() as two,
        datagrams() as three,
    ):
        ports = {each: port_seen(reactor, bound, inside, each) for each in (one, two)}
        assert port_seen(reactor, bound, inside, one) == ports[one]
        port_seen(reactor, bound, inside, three)
        before = len(os.listdir("/proc/self/fd"))
        assert port_seen(reactor, bound, inside, one) == ports[one]
        port_seen(reactor, bound, inside, two)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_sender_is_led_to_where_the_container_is_by_now(reactor, bound, inside):
    with (
        datagrams() as other,
        datagrams() as client,
        proxied(reactor, bound, inside) as places,
    ):
        port_seen(reactor, bound, inside, client)
        before = len(os.listdir("/proc/self/fd"))
        places[0] = other
        assert port_seen(reactor, bound, other, client)
        assert len(os.listdir("/proc/self/fd")) == before
        # Nowhere: it is forgotten, and what it says is lost.
        places.clear()
        client.sendto(b"lost", bound.getsockname())
        let_pass(reactor, 0.01)
        assert len(os.listdir("/proc/self/fd")) == before - 1
        places.append(inside)
        assert port_seen(reactor, bound, inside, client)


def test_a_pipe_with_something_in_it_is_not_given_to_anybody_else():
    pipes = PipePool(most_kept=1)
    one, two, three = pipes.take(), pipes.take(), pipes.take()
    os.write(one[1], b"secret")

    pipes.give_back(one, is_empty=False)
    pipes.give_back(two, is_empty=True)
    pipes.give_back(three, is_empty=True)

    assert pipes.take() == two
    for end in (*one, *three):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
    pipes.give_back(two, is_empty=False)


def test_who_waits_for_room_is_told_once_when_somebody_leaves():
    told = []
    room = ConnectionRoom(2)
    room.enter()
    assert not room.is_full(lambda: told.append("too early"))
    room.enter()
    assert room.is_full(lambda: told.append("one"))
    assert room.is_full(lambda: told.append("two"))

    room.leave()
    room.leave()

    assert told == ["one", "two"]


@pytest.mark.parametrize(
    ("addresses", "family", "found"),
    [
        (("10.0.0.2", "fd00::2"), socket.AF_INET, ("10.0.0.2", 80)),
        (("10.0.0.2", "fd00::2"), socket.AF_INET6, ("fd00::2", 80, 0, 0)),
        (("10.0.0.2",), socket.AF_INET6, ("10.0.0.2", 80)),
        (("10.0.0.2", "10.1.0.2"), socket.AF_INET, ("10.0.0.2", 80)),
        ((), socket.AF_INET, None),
    ],
)
def test_a_port_leads_to_the_address_of_the_same_family_if_there_is_one(addresses, family, found):
    target = find_target(addresses, 80, family=family)
    assert (target.address if target else None) == found
