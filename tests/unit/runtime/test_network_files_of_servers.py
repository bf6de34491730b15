"""What engines write for network servers, and how changes of it are noticed."""

import os

import pytest

from engine.runtime.host_resolver import UpstreamOrder, parse_resolver
from engine.runtime.network_view import (
    MemberNames,
    NetworkView,
    SeenNetwork,
    WatchedContent,
    read_members,
    read_view,
    write_member,
    write_view,
)


def test_a_view_is_read_as_it_was_written(tmp_path):
    view = NetworkView(
        networks=(SeenNetwork(name="front", directory="/run/front"),),
        servers=("192.0.2.53",),
        is_forwarding=False,
        addresses=("10.77.0.2", "fd00::2"),
    )
    write_view(str(tmp_path), view)

    assert read_view(str(tmp_path)) == view
    assert [path.name for path in tmp_path.iterdir()] == ["network.json"]
    assert (tmp_path / "network.json").stat().st_mode & 0o777 == 0o600


def test_without_a_view_nobody_outside_is_asked(tmp_path):
    assert read_view(str(tmp_path)) == NetworkView(is_forwarding=False)
    (tmp_path / "network.json").write_text("[]")
    assert read_view(str(tmp_path)) == NetworkView(is_forwarding=False)


def test_members_are_in_the_order_of_their_ids_and_unfinished_files_are_none(tmp_path):
    one, two = (MemberNames(names=(name,), addresses=("10.0.0.1",)) for name in ("one", "two"))
    write_member(str(tmp_path / "net"), "b", two)
    write_member(str(tmp_path / "net"), "a", one)
    (tmp_path / "net" / "c.123.tmp").write_text('{"names":["half"]}')

    assert read_members(str(tmp_path / "net")) == (one, two)
    assert read_members(str(tmp_path / "other")) == ()


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    moment = path.stat().st_mtime_ns
    watched = WatchedContent(str(path), lambda _path: path.read_text())
    assert watched.get() == "one"
    # The same length, place and time: what a file looks like that is written twice in a tick.
    path.write_text("two")
    os.utime(path, ns=(moment, moment))
    assert watched.get() == "two"


def test_what_has_not_changed_is_not_read_again(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    os.utime(path, ns=(10**9, 10**9))
    reads = []
    watched = WatchedContent(str(path), lambda read: reads.append(read) or len(reads))

    assert [watched.get(), watched.get()] == [1, 1]
    path.unlink()
    assert watched.get() == 2


@pytest.mark.parametrize(
    ("text", "servers", "search", "options"),
    [
        ("", (), (), ()),
        ("nameserver 192.0.2.1\nnameserver ::1", ("192.0.2.1", "::1"), (), ()),
        ("nameserver fe80::1%eth0", ("fe80::1%eth0",), (), ()),
        ("nameserver dns.example\nnameserver\nnameserver 1.2.3", (), (), ()),
        ("#nameserver 192.0.2.1\n;nameserver 192.0.2.2", (), (), ()),
        ("\tnameserver\t192.0.2.1 # the office", ("192.0.2.1",), (), ()),
        ("search a b\ndomain c d", (), ("c",), ()),
        ("domain c\nsearch a b ; both", (), ("a", "b"), ()),
        ("options ndots:2 rotate\noptions rotate edns0", (), (), ("ndots:2", "rotate", "edns0")),
        ("nameserver 192.0.2.1\r\n\0\n\xff", ("192.0.2.1",), (), ()),
    ],
)
def test_a_resolv_conf_is_read_as_libc_reads_it(text, servers, search, options):
    resolver = parse_resolver(text)
    assert (resolver.servers, resolver.search, resolver.options) == (servers, search, options)


def test_a_server_that_was_silent_is_asked_last_until_it_answers():
    order = UpstreamOrder()
    texts = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.4")
    first, second, third = order.of(texts)
    assert [each.address[0] for each in (first, second, third)] == list(texts[:3])

    order.note_silence(first)
    assert order.of(texts) == (second, third, first)
    order.note_answer(first)
    assert order.of(texts) == (first, second, third)
