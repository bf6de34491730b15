"""hosts and resolv.conf of a container, by Docker's rules."""

from functools import partial

import pytest

from engine.containers import network_files
from engine.containers.network_files import (
    ContainerPlace,
    change_hosts,
    renew_network_files,
    renew_resolver,
    write_network_files,
)
from engine.network.hosts import OwnLines, changed_hosts, hosts_text, shared_hosts_text
from engine.network.resolver import (
    HostResolver,
    own_resolver_text,
    resolver_text,
    shared_resolver_text,
)
from engine.types import NetworkOptions

OFFICE = HostResolver(
    text="# the office\nnameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    "search office.example\noptions edns0 timeout:1\n"
)
STUB = HostResolver(
    text="nameserver 127.0.0.53\nsearch lan\n", upstream_text="nameserver 192.0.2.9\nsearch lan\n"
)
NONE = NetworkOptions()
OWN = NetworkOptions(
    dns_servers=("192.0.2.1", "127.0.0.1"), dns_search=("a.example", "b"), dns_options=("ndots:3",)
)


def words(text):
    return [line.split() for line in text.splitlines()]


# --- resolv.conf ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "options", "has_ipv6", "lines"),
    [
        (
            OFFICE,
            NONE,
            False,
            ["nameserver 192.0.2.53", "search office.example", "options edns0 timeout:1"],
        ),
        (
            OFFICE,
            NONE,
            True,
            [
                "nameserver 192.0.2.53",
                "nameserver 2001:db8::53",
                "search office.example",
                "options edns0 timeout:1",
            ],
        ),
        # What systemd-resolved asks, where its stub is all that the host asks.
        (STUB, NONE, False, ["nameserver 192.0.2.9", "search lan"]),
        (
            HostResolver(text="nameserver 127.0.0.1\nsearch lan\n"),
            NONE,
            False,
            ["nameserver 8.8.8.8", "nameserver 8.8.4.4", "search lan"],
        ),
        (
            HostResolver(),
            NONE,
            True,
            [
                "nameserver 8.8.8.8",
                "nameserver 8.8.4.4",
                "nameserver 2001:4860:4860::8888",
                "nameserver 2001:4860:4860::8844",
            ],
        ),
        # Who asks for a loopback address gets it.
        (
            OFFICE,
            OWN,
            False,
            [
                "nameserver 192.0.2.1",
                "nameserver 127.0.0.1",
                "search a.example b",
                "options ndots:3",
            ],
        ),
        (
            OFFICE,
            NetworkOptions(dns_search=(".",)),
            False,
            ["nameserver 192.0.2.53", "options edns0 timeout:1"],
        ),
    ],
)
def test_a_container_of_the_default_network_asks_servers_that_it_can_reach(
    host, options, has_ipv6, lines
):
    assert resolver_text(host, options, has_ipv6=has_ipv6).splitlines() == lines


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            NONE,
            ["nameserver 127.0.0.11", "search office.example", "options edns0 timeout:1 ndots:0"],
        ),
        (OWN, ["nameserver 127.0.0.11", "search a.example b", "options ndots:3"]),
        (
            NetworkOptions(dns_search=(".",), dns_options=("rotate",)),
            ["nameserver 127.0.0.11", "options rotate ndots:0"],
        ),
    ],
)
def test_a_container_of_a_network_of_people_asks_its_own_resolver(options, lines):
    assert own_resolver_text(OFFICE, options).splitlines() == lines


def test_a_container_in_the_hosts_network_has_the_hosts_but_for_what_was_asked_for():
    assert shared_resolver_text(STUB, NONE) == STUB.text
    assert words(shared_resolver_text(STUB, NetworkOptions(dns_search=("x",)))) == [
        ["nameserver", "127.0.0.53"],
        ["search", "x"],
    ]
    assert words(shared_resolver_text(OFFICE, OWN))[:2] == [
        ["nameserver", "192.0.2.1"],
        ["nameserver", "127.0.0.1"],
    ]


# --- hosts ------------------------------------------------------------------------------------

WEB = OwnLines(names=("c0ffee", "web"), addresses=("10.80.0.2", "fd00::2"))


def test_a_container_is_found_at_its_addresses_and_what_was_asked_for_comes_before():
    text = hosts_text(
        WEB,
        extra_hosts=(("db", "192.0.2.7"), ("host", "host-gateway"), ("v6", "2001:db8::1")),
        gateways=("10.80.0.1", "fd00::1"),
    )
    assert words(text)[:2] == [
        ["127.0.0.1", "localhost"],
        ["::1", "localhost", "ip6-localhost", "ip6-loopback"],
    ]
    assert words(text)[6:] == [
        ["192.0.2.7", "db"],
        ["10.80.0.1", "host"],
        ["fd00::1", "host"],
        ["2001:db8::1", "v6"],
        ["10.80.0.2", "c0ffee", "web"],
        ["fd00::2", "c0ffee", "web"],
    ]


def test_a_container_without_a_network_is_found_at_its_loopback():
    assert words(hosts_text(OwnLines(names=("web", "web"))))[-1] == ["127.0.0.1", "web"]


def test_the_hosts_hosts_are_kept_as_they_are():
    assert shared_hosts_text("10.0.0.1 nas # mine") == "10.0.0.1 nas # mine"
    assert (
        shared_hosts_text("10.0.0.1 nas", extra_hosts=(("db", "192.0.2.7"),))
        == "10.0.0.1 nas\n192.0.2.7\tdb\n"
    )


def test_only_the_own_lines_follow_a_change():
    before = hosts_text(WEB) + "10.80.0.2 written-by-a-program\n10.9.9.9\tc0ffee web\n"
    after = OwnLines(names=("c0ffee", "renamed"), addresses=("10.81.0.2",))

    text = changed_hosts(before, before=WEB, after=after)

    assert "10.80.0.2 written-by-a-program\n10.9.9.9\tc0ffee web\n" in text
    assert text.splitlines()[-1] == "10.81.0.2\tc0ffee renamed"
    assert "fd00::2" not in text
    assert (
        changed_hosts(text, before=after, after=WEB).splitlines()
        == [line for line in before.splitlines() if line not in WEB.lines] + WEB.lines
    )


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path, monkeypatch):
    (tmp_path / "host").mkdir()
    resolver, hosts = tmp_path / "host" / "resolv.conf", tmp_path / "host" / "hosts"
    resolver.write_text(OFFICE.text)
    hosts.write_text("127.0.0.1 localhost\n192.0.2.10 machine\n")
    monkeypatch.setattr(network_files, "HOST_RESOLVER_PATH", str(resolver))
    monkeypatch.setattr(network_files, "HOST_HOSTS_PATH", str(hosts))
    monkeypatch.setattr(network_files, "SYSTEMD_RESOLVER_PATH", str(tmp_path / "none"))
    return resolver


@pytest.fixture
def made(host, tmp_path):
    write_network_files(tmp_path, hostname="c0ffee", name="web")
    return tmp_path


NAMES = ("c0ffee", "web")
PLACE = ContainerPlace(names=NAMES, addresses=("10.80.0.2",), gateways=("10.80.0.1",))


def test_the_files_keep_their_inodes_and_modes(made):
    files = [made / name for name in ("hosts", "hostname", "resolv.conf")]
    before = [(path.stat().st_ino, path.stat().st_mode) for path in files]
    renew_network_files(made, NONE, PLACE)
    change_hosts(made, before=PLACE, after=ContainerPlace(names=NAMES))
    assert [(path.stat().st_ino, path.stat().st_mode) for path in files] == before
    assert (made / "hosts").stat().st_mode & 0o777 == 0o644


def test_a_shorter_content_leaves_nothing_of_the_longer_one(made):
    renew_network_files(made, NetworkOptions(extra_hosts=(("x" * 200, "192.0.2.7"),)), PLACE)
    renew_network_files(made, NONE, PLACE)
    assert (made / "hosts").read_text() == hosts_text(PLACE.own_lines)


def test_what_a_program_wrote_into_resolv_conf_stays_and_hosts_begin_anew(made):
    renew_network_files(made, NONE, PLACE)
    (made / "resolv.conf").write_text("nameserver 192.0.2.99\n")
    with (made / "hosts").open("a") as hosts:
        hosts.write("10.0.0.9 mine\n")

    renew_network_files(made, NONE, PLACE)

    assert (made / "resolv.conf").read_text() == "nameserver 192.0.2.99\n"
    assert "mine" not in (made / "hosts").read_text()


def test_resolv_conf_follows_the_host_from_start_to_start_and_networks_meanwhile(made, host):
    renew_network_files(made, NONE, PLACE)
    assert "192.0.2.53" in (made / "resolv.conf").read_text()
    host.write_text("nameserver 192.0.2.54\n")
    renew_network_files(made, NONE, PLACE)
    assert (made / "resolv.conf").read_text() == "nameserver 192.0.2.54\n"

    named = ContainerPlace(names=NAMES, addresses=("10.81.0.2",), resolver="127.0.0.11")
    renew_resolver(made, NONE, named)
    assert words((made / "resolv.conf").read_text())[0] == ["nameserver", "127.0.0.11"]
    renew_resolver(made, NONE, ContainerPlace(names=NAMES))
    assert words((made / "resolv.conf").read_text())[0][0] == "#"


def test_who_asks_public_servers_is_told_so(made, host):
    renew = partial(renew_network_files, made)
    assert renew(NONE, PLACE) == ()
    host.write_text("nameserver 127.0.0.1\n")

    (told,) = renew(NONE, PLACE)

    assert "8.8.8.8" in told
    assert "8.8.8.8" in (made / "resolv.conf").read_text()
    assert renew(NetworkOptions(dns_servers=("192.0.2.1",)), PLACE) == ()
    assert renew(NetworkOptions(mode="host"), ContainerPlace(names=NAMES)) == ()
    assert renew(NetworkOptions(mode="none"), ContainerPlace(names=NAMES)) == ()
    named = ContainerPlace(names=NAMES, addresses=("10.81.0.2",), resolver="127.0.0.11")
    assert renew(NONE, named) == ()


def test_a_container_in_the_hosts_network_has_the_hosts_files(made, host):
    options = NetworkOptions(mode="host", extra_hosts=(("db", "192.0.2.7"),))
    renew_network_files(made, options, ContainerPlace(names=NAMES))
    assert (made / "resolv.conf").read_text() == host.read_text()
    assert (made / "hosts").read_text().splitlines()[1:] == [
        "192.0.2.10 machine",
        "192.0.2.7\tdb",
    ]


def test_bytes_of_any_kind_in_hosts_come_through_a_change(made):
    renew_network_files(made, NONE, PLACE)
    with (made / "hosts").open("ab") as hosts:
        hosts.write(b"10.0.0.9 \xff\xfe\n")
    change_hosts(made, before=PLACE, after=ContainerPlace(names=NAMES))
    assert b"10.0.0.9 \xff\xfe\n" in (made / "hosts").read_bytes()
