"""Published ports in few words, and the address that a browser gets."""

import pytest

from engine.types import PublishedPort
from tui.short_ports import port_texts, shortest, web_addresses


def port(container, host, *, address="", protocol="tcp", end=0):
    return PublishedPort(
        container_port=container,
        host_port=host,
        host_port_end=end,
        host_address=address,
        protocol=protocol,
    )


@pytest.mark.parametrize(
    ("ports", "texts"),
    [
        ((), ()),
        ((port(80, 8080),), ("8080->80",)),
        ((port(53, 53, protocol="udp"),), ("53->53/udp",)),
        ((port(80, 8080, address="127.0.0.1"),), ("127.0.0.1:8080->80",)),
        ((port(80, 8080, address="::1"),), ("[::1]:8080->80",)),
        # One that is told for IPv4 and for IPv6 is one.
        ((port(80, 8080, address="0.0.0.0"), port(80, 8080, address="::")), ("8080->80",)),
        (tuple(port(80 + n, 8080 + n) for n in range(3)), ("8080-8082->80-82",)),
        # They follow each other on one side only.
        ((port(80, 8080), port(81, 8090)), ("8080->80", "8090->81")),
        ((port(80, 8080), port(81, 8081, protocol="udp")), ("8080->80", "8081->81/udp")),
        ((port(80, 80), port(81, 81, address="10.0.0.1")), ("80->80", "10.0.0.1:81->81")),
        # Two of the host's lead to one.
        ((port(80, 8080), port(80, 8081)), ("8080->80", "8081->80")),
        # Not drawn yet.
        ((port(80, 0),), ("any->80",)),
        ((port(80, 8000, end=8010),), ("8000-8010->80",)),
        ((port(80, 0), port(81, 0)), ("any->80", "any->81")),
    ],
)
def test_ports_are_said_shortly_and_neighbours_together(ports, texts):
    assert port_texts(ports) == texts


def test_the_shortest_form_is_the_hosts_port_and_how_many_more_there_are():
    assert shortest(()) == ""
    assert shortest((port(80, 8080),)) == ":8080"
    both = (port(80, 8080, address="0.0.0.0"), port(80, 8080, address="::"))
    assert shortest((*both, port(443, 8443))) == ":8080 +1"


SSH = {"SSH_CONNECTION": "192.0.2.7 51234 198.51.100.4 22"}


@pytest.mark.parametrize(
    ("published", "environment", "url"),
    [
        (port(80, 8080), {}, "http://localhost:8080/"),
        (port(443, 8443), {}, "https://localhost:8443/"),
        (port(80, 8080, address="10.1.2.3"), {}, "http://10.1.2.3:8080/"),
        (port(80, 8080, address="fd00::1"), {}, "http://[fd00::1]:8080/"),
        # Over SSH the person's own localhost is another machine.
        (port(80, 8080), SSH, "http://198.51.100.4:8080/"),
        (
            port(80, 8080),
            {"SSH_CONNECTION": "2001:db8::7 51234 2001:db8::4 22"},
            "http://[2001:db8::4]:8080/",
        ),
        (port(80, 8080), {"SSH_CONNECTION": "nonsense"}, "http://localhost:8080/"),
    ],
)
def test_a_browser_is_led_to_where_the_person_reaches_the_port(published, environment, url):
    (address,) = web_addresses((published,), environment)
    assert (address.url, address.remark) == (url, "")


def test_a_port_of_the_loopback_is_brought_to_the_persons_end_by_ssh():
    (address,) = web_addresses((port(80, 8080, address="127.0.0.1"),), SSH)
    assert address.url == "http://127.0.0.1:8080/"
    assert "ssh -L 8080:127.0.0.1:8080" in address.remark


def test_what_is_no_tcp_or_not_drawn_yet_has_no_address():
    assert web_addresses((port(53, 53, protocol="udp"), port(80, 0)), {}) == ()
