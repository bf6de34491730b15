"""What is drawn for networks, and what of containers' traffic the rules of the host are told."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInputError
from engine.network.attachments import check_network_options, expand_exposed
from engine.network.stores import subnet_turn
from engine.network.subnets import draw_ipv4_subnet, draw_ipv6_subnet
from engine.runtime.network_rules import change_container, container_elements, link_local
from engine.runtime.spec import InterfaceSpec, NetworkSpec, PortSpec
from engine.types import AttachmentRequest, NetworkOptions, PublishedPort

OTHERS = [ipaddress.ip_network(f"172.{number}.0.0/16") for number in range(17, 32)]
OTHERS += [ipaddress.ip_network("10.88.0.0/16"), ipaddress.ip_network("10.89.0.0/16")]


@given(
    st.lists(
        st.builds(
            lambda number, length: ipaddress.ip_network((number, length), strict=False),
            st.integers(0, 2**32 - 1),
            st.integers(8, 32),
        ),
        max_size=30,
    )
)
def test_what_is_drawn_is_free(taken):
    try:
        drawn = ipaddress.ip_network(draw_ipv4_subnet(taken).subnet)
    except InvalidInputError:
        # Then every pool is covered by something.
        assert any(one.overlaps(ipaddress.ip_network("10.80.0.0/13")) for one in taken)
        return
    assert not any(drawn.overlaps(one) for one in (*taken, *OTHERS))
    assert drawn.is_private


def test_stores_begin_to_look_at_different_places():
    assert subnet_turn(Path("/var/lib/lamella")) == 0
    turns = {subnet_turn(Path(f"/srv/{number}")) for number in range(8)}
    drawn = {draw_ipv4_subnet([], turn=turn).subnet for turn in turns}
    assert len(drawn) == 8
    # Whatever the turn, all of the pools are looked through.
    everything = [ipaddress.ip_network("10.80.0.0/14"), ipaddress.ip_network("10.84.0.0/15")]
    for turn in turns:
        drawn_last = ipaddress.ip_network(draw_ipv4_subnet(everything, turn=turn).subnet)
        assert drawn_last.subnet_of(ipaddress.ip_network("10.86.0.0/15"))


def test_routes_to_everywhere_take_nothing():
    everywhere = [ipaddress.ip_network(text) for text in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")]
    assert draw_ipv4_subnet(everywhere) == draw_ipv4_subnet([])
    with pytest.raises(InvalidInputError, match="non-overlapping IPv4 address pool"):
        draw_ipv4_subnet(
            [
                ipaddress.ip_network(text)
                for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
            ]
        )


def test_every_store_has_an_ipv6_site_of_its_own():
    one = ipaddress.ip_network(draw_ipv6_subnet("store", "one").subnet)
    two = ipaddress.ip_network(draw_ipv6_subnet("store", "two").subnet)
    other = ipaddress.ip_network(draw_ipv6_subnet("other", "one").subnet)
    assert one.prefixlen == 64
    assert one.network_address in ipaddress.ip_network("fd00::/8")
    assert one.network_address.packed[:6] == two.network_address.packed[:6]
    assert one.network_address.packed[:6] != other.network_address.packed[:6]


def test_a_link_local_address_follows_from_the_hardware_address():
    expected = ipaddress.IPv6Address("fe80::211:22ff:fe33:4455").packed
    assert link_local("00:11:22:33:44:55") == expected


def interface(number, **options):
    return InterfaceSpec(
        network_id="1" * 64, name=f"eth{number}", host_name=f"lmv{number}", bridge="lm-0",
        mac_address="02:4c:0a:50:00:02", ipv4_address=f"10.80.0.{number}/22", **options,
    )  # fmt: skip


def port(address, **options):
    return PortSpec(
        host_address=address, host_port=8080, container_port=80, protocol="tcp",
        ipv4_target="10.80.0.2", **options,
    )  # fmt: skip


def test_the_loopback_is_no_matter_of_rules():
    for address in ("127.0.0.1", "127.8.8.8", "::1"):
        assert container_elements("c", (), (port(address, ipv6_target="fd00::2"),)) == {}
    elements = container_elements("c", (), (port("", ipv6_target="fd00::2"),))
    assert {name for _family, name in elements} == {"ports4", "ports6"}
    elements = container_elements("c", (), (port("192.0.2.1", ipv6_target="fd00::2"),))
    assert {name for _family, name in elements} == {"address_ports4"}


def test_one_that_may_do_anything_is_not_guarded():
    assert container_elements("c", (interface(2, is_guarded=False),), ()) == {}


def test_a_change_is_no_more_than_the_difference():
    before = NetworkSpec(table="t", interfaces=(interface(2),))
    assert change_container("c", before, before) == []
    after = NetworkSpec(table="t", interfaces=(interface(2), interface(3)))
    added = change_container("c", before, after)
    # Begin, two sets, end.
    assert len(added) == 4
    assert not any(b"lmv2" in one for one in added)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ((80, "tcp"),)),
        ("53/udp", ((53, "udp"),)),
        ("8000-8002/sctp", ((8000, "sctp"), (8001, "sctp"), (8002, "sctp"))),
    ],
)
def test_exposed_ports_are_read(text, ports):
    assert expand_exposed(text) == ports


@pytest.mark.parametrize("text", ["", "0", "65536", "80-70", "80/icmp", "x", "80-", "-80", "80/"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(InvalidInputError, match="invalid range format for --expose"):
        expand_exposed(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "container:"}, "invalid network mode"),
        ({"mode": "disconnected"}, "invalid network mode"),
        ({"mode": "somewhere"}, "invalid network mode"),
        ({"mode": "host", "attachments": (AttachmentRequest(network="n"),)}, "cannot attach both"),
        (
            {"mode": "container:x", "published_ports": (PublishedPort(container_port=1),)},
            "port pub",
        ),
        ({"mode": "container:x", "dns_servers": ("1.1.1.1",)}, "dns and the network mode"),
        ({"mode": "container:x", "extra_hosts": (("a", "1.1.1.1"),)}, "custom host-to-IP"),
        ({"published_ports": (PublishedPort(container_port=0),)}, "invalid containerPort"),
        ({"published_ports": (PublishedPort(container_port=1, host_port=70000),)}, "hostPort"),
        ({"published_ports": (PublishedPort(container_port=1, protocol="icmp"),)}, "invalid proto"),
        ({"published_ports": (PublishedPort(container_port=1, host_address="x"),)}, "invalid IP"),
        (
            {"published_ports": (PublishedPort(container_port=1, host_port=9, host_port_end=8),)},
            "invalid hostPort: 9-8",
        ),
        ({"dns_servers": ("one.one",)}, "one.one is not an ip address"),
        ({"dns_search": ("no good",)}, "not a valid domain"),
        ({"extra_hosts": (("name", "nowhere"),)}, "invalid IP address in add-host"),
        (
            {"attachments": (AttachmentRequest(network="n", mac_address="01:00:00:00:00:01"),)},
            "not a valid mac address",
        ),
        (
            {"attachments": (AttachmentRequest(network="n", mac_address="00:00:00:00:00:00"),)},
            "not a valid mac address",
        ),
        ({"attachments": (AttachmentRequest(network="n", ipv4_address="fd00::1"),)}, "IPv4"),
        ({"attachments": (AttachmentRequest(network="n", aliases=("a b",)),)}, "network alias"),
    ],
)
def test_what_can_work_nowhere_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        check_network_options(NetworkOptions(**options), hostname=None)


def test_a_host_name_is_the_other_containers():
    with pytest.raises(InvalidInputError, match="hostname and the network mode"):
        check_network_options(NetworkOptions(mode="container:x"), hostname="mine")
    check_network_options(NetworkOptions(mode="host"), hostname="mine")
