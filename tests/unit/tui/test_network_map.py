"""The map of a network, drawn side by side and from top to bottom."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.types import (
    ContainerStatus,
    Network,
    NetworkDetails,
    NetworkDriver,
    NetworkMember,
    NetworkSubnet,
    PublishedPort,
)
from tests.fakes import FakeEngine
from tui.network_map import MapMember, NetworkPicture, map_lines, picture_of

NETWORK = Network(
    network_id="3f2a91bc0d1e" + "0" * 52,
    name="backend",
    driver=NetworkDriver.BRIDGE,
    created_at=0,
    subnets=(NetworkSubnet(subnet="10.80.4.0/22", gateway="10.80.4.1"),),
    bridge="lm-3f2a91bc0d1e",
)
WEB = MapMember(
    container_id="a" * 64,
    name="web-1",
    is_running=True,
    ipv4_address="10.80.4.2",
    ports=(PublishedPort(container_port=80, host_port=8080),),
)
STOPPED = MapMember(container_id="b" * 64, name="job", is_running=False)


def picture(*members, network=NETWORK, **options):
    return NetworkPicture(network=network, members=members, host_name="tower", **options)


def drawn(shown, width, *, is_ascii=False):
    lines = map_lines(shown, width, is_ascii=is_ascii)
    return ["".join(cell.text for cell in cells).rstrip() for cells, _member in lines]


def test_side_by_side_the_way_leads_from_the_world_to_the_member():
    lines = drawn(picture(WEB), 110)
    assert lines == [
        "┌───────┐        ┌───────┐        ┌───────────────────┐",
        "│ world ├────────┤ host  ├────────┤ backend           ├─── web-1  10.80.4.2"
        "        8080->80",
        "└───────┘  NAT   │ tower │        │ lm-3f2a91bc0d1e   │",
        "                 └───────┘        │ 10.80.4.0/22      │",
        "                                  │ gateway 10.80.4.1 │",
        "                                  └───────────────────┘",
    ]


def test_the_trunk_goes_on_to_every_member_and_ends_at_the_last():
    second = replace(WEB, container_id="c" * 64, name="web-2", ports=())
    lines = drawn(picture(WEB, second, STOPPED), 110)
    column = lines[1].index("┬")
    assert [line[column : column + 2] for line in lines[1:4]] == ["┬─", "├─", "└┄"]
    assert lines[3].endswith("└┄ job    does not run")
    assert column + 1 == lines[1].index("web-1") - 2


def test_from_top_to_bottom_it_fits_eighty_columns():
    assert drawn(picture(WEB, STOPPED), 70) == [
        "world",
        "│ NAT: out as the host, in by published ports",
        "host  tower",
        "│",
        "backend  lm-3f2a91bc0d1e  10.80.4.0/22  gateway 10.80.4.1",
        "├─ web-1  10.80.4.2        8080->80",
        "└┄ job    does not run",
    ]


def test_without_unicode_everything_is_drawn_in_ascii():
    for width in (110, 70):
        text = "\n".join(drawn(picture(WEB, STOPPED), width, is_ascii=True))
        assert text.isascii()
        assert "+- web-1" in text
        assert "`. job" in text


@pytest.mark.parametrize("width", [110, 70])
def test_an_internal_network_is_cut_off_from_the_world(width):
    internal = replace(NETWORK, is_internal=True)
    text = "\n".join(drawn(picture(WEB, network=internal), width))
    assert "internal" in text
    assert "NAT" not in text
    assert "x" in text.splitlines()[1]


def test_one_without_masquerade_is_said_to_be_routed():
    key = "com.docker.network.bridge.enable_ip_masquerade"
    routed = replace(NETWORK, options=((key, "false"),))
    for width in (110, 70):
        text = "\n".join(drawn(picture(WEB, network=routed), width))
        assert "routed" in text
        assert "NAT" not in text


def test_an_empty_one_says_which_key_fills_it():
    for width in (110, 70):
        assert "nobody yet: a connects one" in "\n".join(drawn(picture(), width))


def test_those_that_are_no_bridge_say_what_their_containers_have():
    host = Network(network_id="h", name="host", driver=NetworkDriver.HOST, created_at=0)
    none = Network(network_id="n", name="none", driver=NetworkDriver.NONE, created_at=0)
    for width in (110, 70):
        text = "\n".join(drawn(picture(WEB, network=host), width))
        assert "tower: its addresses and its ports" in text
        assert "web-1" in text
        text = "\n".join(drawn(picture(network=none), width))
        assert "loopback alone" in text
        assert "lamella run --network none" in text


def test_both_addresses_of_a_member_are_shown_below_each_other():
    member = replace(WEB, ipv6_address="fd12:3456::2")
    lines = drawn(picture(member, STOPPED), 110)
    (first,) = (line for line in lines if "10.80.4.2 " in line)
    second = lines[lines.index(first) + 1]
    assert second.index("fd12:3456::2") == first.index("10.80.4.2")


def test_what_is_said_of_a_member_goes_on_in_the_next_line_and_is_not_cut():
    member = replace(
        WEB,
        ports=tuple(PublishedPort(container_port=80 + 2 * n, host_port=8080 + n) for n in range(6)),
        aliases=("api", "www"),
        guests=("sidecar",),
        other_networks=("frontend",),
    )
    for width in (110, 70):
        lines = drawn(picture(member), width)
        text = "\n".join(lines)
        for number in range(6):
            assert f"{8080 + number}->{80 + 2 * number}" in text
        assert "as api, www" in text
        assert "shared with sidecar" in text
        assert "also in frontend" in text
        assert max(map(cell_len, lines)) <= width


def test_what_keeps_it_from_working_is_said_below():
    lines = drawn(picture(WEB, warnings=("The host forwards nothing",)), 110)
    assert lines[-1] == "! The host forwards nothing"


def test_a_warning_is_folded_and_not_cut():
    words = "The packets of containers are dropped by the rules of another program. " * 3
    for width in (110, 70):
        lines = drawn(picture(WEB, warnings=(words,)), width)
        begin = next(n for n, line in enumerate(lines) if line.startswith("! "))
        assert " ".join(line[2:] for line in lines[begin:]) == words.strip()
        assert all(line.startswith("  ") for line in lines[begin + 1 :])
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [110, 70])
def test_an_ordinary_user_has_no_bridge_and_none_is_drawn(width):
    member = replace(WEB, ipv4_address="")
    assert drawn(picture(member, STOPPED, is_rootless=True), width) == [
        "world",
        "│ as a program of yours: out by itself, in by published ports",
        "host  tower: an ordinary user has no bridges",
        "├─ web-1  8080->80",
        "└┄ job    does not run",
    ]


NAMES = st.text(min_size=1, max_size=140)


@given(
    names=st.lists(NAMES, min_size=1, max_size=6),
    network_name=NAMES,
    alias=NAMES,
    width=st.integers(50, 160),
    is_ascii=st.booleans(),
)
def test_hostile_names_neither_reach_the_terminal_nor_break_the_lines(
    names, network_name, alias, width, is_ascii
):
    members = [
        replace(WEB, container_id=f"{n:064x}", name=name, aliases=(alias,), ports=())
        for n, name in enumerate(names)
    ]
    network = replace(NETWORK, name=network_name)
    lines = drawn(picture(*members, network=network), width, is_ascii=is_ascii)
    text = "".join(lines)
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in text)
    assert "\u202e" not in text
    for _cells, member in map_lines(picture(*members, network=network), width):
        assert member is None or member in members


def test_the_picture_puts_together_who_runs_who_rests_and_who_shares():
    fake = FakeEngine()
    fake.add_image("web:latest")

    def summary(name, *networks, status=ContainerStatus.RUNNING, ports=()):
        identity = fake.add_container(name, image="web:latest", status=status)
        found = fake.containers[identity].summary
        return replace(found, network_names=networks, ports=ports)

    web = summary("web", "backend", "frontend", ports=WEB.ports)
    guest = summary("guest", f"container:{web.container_id}")
    rests = summary("a-rests", "backend", status=ContainerStatus.EXITED)
    other = summary("other", "bridge")
    details = NetworkDetails(
        network=NETWORK,
        members=(
            NetworkMember(
                container_id=web.container_id,
                container_name="web",
                mac_address="02:4c:00:00:00:02",
                ipv4_address="10.80.4.2/22",
                ipv6_address="",
                aliases=("www",),
            ),
        ),
        warnings=("a warning",),
    )
    shown = picture_of(details, (rests, guest, other, web), host_name="tower", is_rootless=False)
    assert shown.members == (
        MapMember(
            container_id=web.container_id,
            name="web",
            is_running=True,
            ipv4_address="10.80.4.2",
            ports=WEB.ports,
            aliases=("www",),
            other_networks=("frontend",),
            guests=("guest",),
        ),
        MapMember(container_id=rests.container_id, name="a-rests", is_running=False),
    )
    assert shown.warnings == ("a warning",)
