"""Ports as `docker ps` writes them."""

from dataclasses import replace

import pytest

from engine.types import ContainerRequest, ContainerStatus, PublishedPort
from tests.fakes import FakeEngine
from tui.cli.port_texts import container_mappings, mappings, ports_text


def container(*, ports=(), exposed=(), networks=("bridge",), status=ContainerStatus.RUNNING):
    fake = FakeEngine()
    fake.add_image("web:latest")
    summary = fake._add(ContainerRequest(image="web:latest"), "web").summary
    return replace(
        summary, ports=ports, exposed_ports=exposed, network_names=networks, status=status
    )


def published(inside, outside, *, address="", protocol="tcp"):
    return PublishedPort(
        container_port=inside, host_port=outside, host_address=address, protocol=protocol
    )


@pytest.mark.parametrize(
    ("ports", "exposed", "text"),
    [
        ((), (), ""),
        ((published(80, 8080),), (), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ((published(80, 80, address="127.0.0.1"),), (), "127.0.0.1:80->80/tcp"),
        ((published(80, 81, address="::1"),), ("80/tcp",), "[::1]:81->80/tcp"),
        (
            tuple(published(port, port, address="0.0.0.0") for port in (82, 80, 81, 90)),
            (),
            "0.0.0.0:80-82->80-82/tcp, 0.0.0.0:90->90/tcp",
        ),
        ((published(80, 80, address="::"),), (), "[::]:80->80/tcp"),
        (
            (published(53, 53, address="0.0.0.0", protocol="udp"),),
            ("53/tcp", "54/tcp", "9/sctp"),
            "9/sctp, 53-54/tcp, 0.0.0.0:53->53/udp",
        ),
        # What changes its number stands behind the others and is joined with nothing.
        (
            (published(80, 8080, address="0.0.0.0"), published(81, 8081, address="0.0.0.0")),
            ("9000/tcp",),
            "9000/tcp, 0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp",
        ),
    ],
)
def test_neighbours_that_keep_their_number_are_one_range(ports, exposed, text):
    assert ports_text(container(ports=ports, exposed=exposed)) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ContainerStatus.RUNNING, "80/tcp"),
        (ContainerStatus.PAUSED, "80/tcp"),
        (ContainerStatus.CREATED, ""),
        (ContainerStatus.EXITED, ""),
    ],
)
def test_a_container_that_rests_listens_on_nothing(status, text):
    assert ports_text(container(exposed=("80/tcp",), status=status)) == text


@pytest.mark.parametrize("network", ["host", "none", "container:" + "a" * 64])
def test_what_is_exposed_says_nothing_where_the_network_is_another_ones(network):
    assert ports_text(container(exposed=("80/tcp",), networks=(network,))) == ""


def test_what_an_image_calls_a_port_and_is_none_is_left_out():
    exposed = ("0/tcp", "65536/tcp", "²/tcp", "\x1b[2J/tcp", "-1/tcp", "8080")
    assert [one.container_side for one in container_mappings(container(exposed=exposed))] == [
        "8080/tcp"
    ]


def test_every_address_of_the_host_is_ipv4_first():
    found = mappings((published(80, 8080, address="2001:db8::1"), published(80, 8080)))
    assert [one.host_side for one in found] == ["0.0.0.0:8080", "[::]:8080", "[2001:db8::1]:8080"]
