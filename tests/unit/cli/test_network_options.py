"""Options of `run` about networks, as Docker reads them."""

import pytest

from engine.errors import InvalidInputError
from engine.types import AttachmentRequest, NetworkOptions, PublishedPort
from tui.cli.network_options import NETWORK_OPTIONS, published_ports, read_network
from tui.cli.options import parse


def read(*words):
    return read_network(parse(words, NETWORK_OPTIONS, command="run"))


def port(container, host=0, *, end=0, protocol="tcp", address=""):
    return PublishedPort(
        container_port=container,
        host_port=host,
        host_port_end=end,
        protocol=protocol,
        host_address=address,
    )


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [port(80)]),
        ("8080:80", [port(80, 8080)]),
        ("8080:80/UDP", [port(80, 8080, protocol="udp")]),
        ("127.0.0.1:8080:80", [port(80, 8080, address="127.0.0.1")]),
        ("127.0.0.1::80", [port(80, address="127.0.0.1")]),
        ("0:80", [port(80)]),
        ("127.0.0.1:0:80", [port(80, address="127.0.0.1")]),
        ("[::1]:8080:80", [port(80, 8080, address="::1")]),
        ("[::1]::80/sctp", [port(80, address="::1", protocol="sctp")]),
        ("80-82", [port(80), port(81), port(82)]),
        ("8000-8002:80-82", [port(80, 8000), port(81, 8001), port(82, 8002)]),
        ("8000-8010:80", [port(80, 8000, end=8010)]),
        ("1:65535", [port(65535, 1)]),
    ],
)
def test_a_port_is_read_as_docker_reads_it(text, ports):
    assert published_ports(text) == tuple(ports)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("8080:x", "invalid containerPort: x"),
        ("x:80", "invalid hostPort: x"),
        ("0", "invalid containerPort: 0"),
        ("80:65536", "invalid containerPort: 65536"),
        ("70000:80", "invalid hostPort: 70000"),
        ("82-80", "invalid containerPort: 82-80"),
        ("80/icmp", "invalid proto: icmp"),
        ("80/", "invalid proto: "),
        (
            "8000-8001:80-82",
            "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
        ),
        ("\u0661:80", "invalid hostPort: \u0661"),
    ],
)
def test_what_is_no_port_is_refused_in_dockers_words(text, message):
    with pytest.raises(InvalidInputError) as error:
        published_ports(text)
    assert error.value.message == message
    assert error.value.hint


def test_without_options_nothing_is_asked_for():
    assert read() == NetworkOptions()


@pytest.mark.parametrize("mode", ["host", "none", "container:web"])
def test_a_mode_is_no_network(mode):
    assert read("--network", mode) == NetworkOptions(mode=mode)
    assert read(f"--net={mode}") == NetworkOptions(mode=mode)


def test_settings_are_those_of_the_first_network():
    options = read(
        *("--network", "front", "--network", "name=back,alias=db,alias=sql,ip=10.0.0.9"),
        *("--network-alias", "web", "--ip", "10.1.0.7", "--mac-address", "02:00:00:00:00:07"),
    )
    assert options.attachments == (
        AttachmentRequest(
            network="front",
            aliases=("web",),
            ipv4_address="10.1.0.7",
            mac_address="02:00:00:00:00:07",
        ),
        AttachmentRequest(network="back", aliases=("db", "sql"), ipv4_address="10.0.0.9"),
    )
    assert read("--ip6", "fd00::7").attachments == (
        AttachmentRequest(network="bridge", ipv6_address="fd00::7"),
    )


def test_names_and_hosts_are_taken_as_they_are_said():
    options = read(
        *("--dns", "192.0.2.1", "--dns", "::1", "--dns-search", ".", "--dns-option", "ndots:2"),
        *("--add-host", "db:192.0.2.7", "--add-host", "v6=[2001:db8::1]"),
        *("--add-host", "v6:2001:db8::2", "--add-host", "host:host-gateway"),
        *("-P", "--expose", "80", "--expose", "8000-8010/udp"),
    )
    assert options == NetworkOptions(
        dns_servers=("192.0.2.1", "::1"),
        dns_search=(".",),
        dns_options=("ndots:2",),
        extra_hosts=(
            ("db", "192.0.2.7"),
            ("v6", "2001:db8::1"),
            ("v6", "2001:db8::2"),
            ("host", "host-gateway"),
        ),
        publishes_all=True,
        exposed_ports=("80", "8000-8010/udp"),
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--network", "host", "--network", "front"),
        ("--network", "none", "--ip", "10.0.0.7"),
        ("--network", "container:web", "--network-alias", "x"),
        ("--network", "name=front,ip=10.0.0.7", "--ip", "10.0.0.8"),
        ("--network", "name=front,colour=red"),
        ("--network", "name=front,alias"),
        ("--network", "alias=x"),
        ("--add-host", "db"),
        ("--add-host", ":192.0.2.7"),
        ("--add-host", "db:"),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_hint(words):
    with pytest.raises(InvalidInputError) as error:
        read(*words)
    assert error.value.hint
