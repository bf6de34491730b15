"""What the details say of a container's network, and the figures of what comes in and goes out."""

import asyncio
from dataclasses import replace

import pytest

from engine.types import (
    ContainerStats,
    ContainerStatus,
    NetworkAttachment,
    NetworkOptions,
    PublishedPort,
    UserNetwork,
)
from tests.fakes import FakeEngine
from tui.widgets.network_texts import connectivity_lines, network_lines
from tui.widgets.texts import StatsHistory

BACKEND = NetworkAttachment(
    network_id="1",
    network_name="backend",
    ipv4_address="10.80.4.2/24",
    ipv4_gateway="10.80.4.1",
    ipv6_address="fd12::2/64",
    ipv6_gateway="fd12::1",
    mac_address="02:4c:00:00:00:02",
    interface="eth0",
    aliases=("api",),
)
INSIDE = replace(
    BACKEND,
    network_id="2",
    network_name="inside",
    ipv4_address="10.80.5.2/24",
    ipv4_gateway="",
    ipv6_address="",
    ipv6_gateway="",
    interface="eth1",
    aliases=(),
)
AT_REST = replace(
    INSIDE, network_name="backend", ipv4_address="", mac_address="", interface="", aliases=()
)
LIMITS = "There is no limit of memory"
ALONE = "The container has only its loopback device: /dev/net/tun cannot be opened. Have root"
PORT = PublishedPort(container_port=80, host_port=8080)


@pytest.fixture
def details():
    """Makes the details of a container that runs, with changes."""
    fake = FakeEngine()
    fake.add_image("web:latest")
    fake.add_container("web", image="web:latest")
    made = asyncio.run(fake.inspect_container("web"))

    def change(*, summary=None, **changes):
        return replace(made, summary=replace(made.summary, **(summary or {})), **changes)

    return change


def first_line(details):
    names = {"d" * 64: "web-1"}
    label, *rest = (
        "".join(cell.text for cell in line) for line in connectivity_lines(details, names=names)
    )
    return " ".join((label, *(line.strip() for line in rest)))


def said(details):
    lines = ["".join(cell.text for cell in line) for line in network_lines(details)]
    return [first_line(details), *lines]


def test_the_first_line_is_how_it_is_connected(details):
    lines = said(details(attachments=(BACKEND, INSIDE)))
    assert lines[0] == (
        "Connected         10.80.4.2 in backend, 10.80.5.2 in inside, out by 10.80.4.1"
    )
    text = "\n".join(lines)
    assert "backend           10.80.4.2/24  gateway 10.80.4.1\n" in text
    assert "                  fd12::2/64  gateway fd12::1\n" in text
    assert "eth0  02:4c:00:00:00:02" in text
    assert "also called api" in text
    assert "inside            10.80.5.2/24  no gateway: nothing goes out of it" in text


def test_one_in_internal_networks_alone_has_no_way_out(details):
    assert said(details(attachments=(INSIDE,)))[0].endswith("10.80.5.2 in inside, with no way out")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"network": NetworkOptions(mode="host")}, "the host's own network"),
        ({"network": NetworkOptions(mode="none")}, "--network none"),
        (
            {"network": NetworkOptions(mode="container:" + "c" * 64)},
            "the network of cccccccccccc, which it shares",
        ),
        (
            {"network": NetworkOptions(mode="container:" + "d" * 64)},
            "the network of web-1, which it shares",
        ),
        (
            {"summary": {"network_names": ()}, "attachments": ()},
            "it is in no network: n connects it to one",
        ),
        ({"attachments": (AT_REST,), "warnings": (LIMITS, ALONE)}, ALONE),
        ({"attachments": (AT_REST,)}, "! says what the host lacks"),
        (
            {"attachments": (AT_REST,), "summary": {"status": ContainerStatus.EXITED}},
            "it does not run; s starts it in bridge",
        ),
        # The engine has no attachment of one that asked for nothing and does not run.
        (
            {"attachments": (), "summary": {"status": ContainerStatus.CREATED}},
            "it does not run; s starts it in bridge",
        ),
    ],
)
def test_without_a_network_it_says_why_and_what_to_do(details, changes, line):
    assert line in said(details(**changes))[0]


def test_one_that_has_nothing_of_its_own_has_no_heading_for_it(details):
    shared = details(network=NetworkOptions(mode="container:" + "c" * 64), attachments=())
    assert network_lines(shared) == []


def test_an_ordinary_users_is_in_no_network_and_says_who_leads_it_out(details):
    way_out = UserNetwork(program="pasta", addresses=("10.0.2.100", "fd00::100"))
    spoken_for = details(attachments=(), user_network=way_out)
    assert first_line(spoken_for) == (
        "Connected         10.0.2.100, fd00::100, out by pasta, in by published ports"
    )
    alone = details(attachments=(), warnings=(LIMITS, ALONE))
    assert first_line(alone) == f"Not connected     {ALONE}"


def test_a_reason_and_its_remedy_are_not_cut_in_a_narrow_pane(details):
    alone = details(attachments=(), warnings=(ALONE,))
    lines = connectivity_lines(alone, names={})
    texts = ["".join(cell.text for cell in line) for line in lines]
    assert len(texts) > 1
    assert max(map(len, texts)) <= 66
    assert all(text.startswith(" " * 18) for text in texts[1:])


def test_name_servers_are_said_as_the_container_asks_them(details):
    asked = NetworkOptions(
        dns_servers=("9.9.9.9",),
        dns_search=("corp.example",),
        dns_options=("ndots:2",),
        extra_hosts=(("db", "10.0.0.7"), ("up", "host-gateway")),
    )
    text = "\n".join(said(details(attachments=(BACKEND,), network=asked)))
    assert "127.0.0.11: containers of backend by name" in text
    assert "it asks 9.9.9.9 for the rest" in text
    assert "corp.example" in text
    assert "ndots:2" in text
    assert "db  10.0.0.7" in text
    assert "up  host-gateway" in text
    on_bridge = replace(BACKEND, network_name="bridge")
    text = "\n".join(said(details(attachments=(on_bridge,))))
    assert "Name servers      the servers of the host" in text
    assert "127.0.0.11" not in text


def test_ports_are_those_of_now_and_what_is_not_published_is_said(details):
    summary = {"ports": (PORT,), "exposed_ports": ("80/tcp", "443/tcp")}
    text = "\n".join(said(details(attachments=(BACKEND,), summary=summary)))
    assert "Ports             8080->80" in text
    assert "Not published     443/tcp" in text
    resting = {"status": ContainerStatus.EXITED, "exposed_ports": ("80/tcp",)}
    asked = NetworkOptions(published_ports=(PORT,))
    text = "\n".join(said(details(attachments=(AT_REST,), summary=resting, network=asked)))
    assert "8080->80, when it runs" in text
    assert "Not published" not in text


def test_hostile_names_do_not_reach_the_terminal(details):
    hostile = replace(BACKEND, network_name="a\x1b]0;title\x07b\n", aliases=("\x1b[2J",))
    text = "\n".join(
        said(details(attachments=(hostile,), summary={"exposed_ports": ("\x1b[31m",)}))
    )
    assert "\x1b" not in text


# --- figures --------------------------------------------------------------------------------------


def sample(received, sent):
    return ContainerStats(
        container_id="c",
        cpu_percent=1.0,
        memory_bytes=1000,
        memory_limit_bytes=None,
        process_count=1,
        network_received_bytes=received,
        network_sent_bytes=sent,
        block_read_bytes=0,
        block_written_bytes=0,
    )


def network_part(history, **options):
    lines = history.lines(100, is_ascii=True, **options)
    texts = ["".join(cell.text for cell in line) for line in lines]
    return [line for line in texts if line.startswith(("Received", "Sent", "Network", " "))]


def test_rates_are_what_came_since_the_sample_before():
    history = StatsHistory()
    history.add(sample(1_000_000, 0), now=10.0)
    assert "0 B/s, 1.0 MB" in network_part(history)[0]
    history.add(sample(1_004_000, 500), now=12.0)
    received, sent = network_part(history)
    assert "2.0 kB/s, 1.0 MB" in received
    assert "250 B/s, 500 B" in sent
    # Both against one ceiling: what is sent is a quarter of the half.
    assert received.endswith("_@")
    assert sent.endswith("__")


def test_one_that_was_started_anew_counts_from_zero_and_not_below():
    history = StatsHistory()
    history.add(sample(5_000, 5_000), now=1.0)
    history.add(sample(100, 0), now=2.0)
    received, sent = network_part(history)
    assert "0 B/s, 100 B" in received
    assert "0 B/s, 0 B" in sent


def test_whose_figures_they_are_is_said_where_the_network_is_not_its_own():
    history = StatsHistory()
    history.add(sample(1, 1), now=1.0)
    assert "whole host's" in network_part(history, network_names=("host",))[-1]
    assert network_part(history, network_names=("none",)) == ["Network       none"]
    assert len(network_part(history, network_names=("bridge",))) == 2
