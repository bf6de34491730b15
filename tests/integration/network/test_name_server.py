"""The resolver of a container: a process that answers in its namespace and asks from the host's."""

import os
import socket
import struct
from pathlib import Path

import pytest

from engine.runtime.network_view import SeenNetwork, forget_container, remove_member
from tests.processes import ended
from tests.questions import (
    AAAA,
    ANY,
    NAME_ERROR,
    NO_ERROR,
    PTR,
    SERVER_FAILURE,
    TXT,
    A,
    Answer,
    ask,
    ask_by_tcp,
    asking,
    extension,
    question,
    wire,
)

# --- members ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        ("web", A, ["10.77.0.2"]),
        ("WeB", A, ["10.77.0.2"]),
        ("web", AAAA, ["fd00::2"]),
        ("web", ANY, ["10.77.0.2", "fd00::2"]),
        ("web.front", A, ["10.77.0.2"]),
        ("a" * 12, A, ["10.77.0.2"]),
        # The first network that knows a name has it.
        ("www", A, ["10.77.0.2"]),
        ("www.back.end", A, ["10.78.0.2"]),
        ("db.main", A, ["10.78.0.2"]),
        ("db.main.back.end", A, ["10.78.0.2"]),
        # Known, but without such a record: nobody else is asked.
        ("cache-1", AAAA, []),
        ("web", TXT, []),
    ],
)
def test_a_member_is_found(named, name, kind, addresses):
    for answer in (ask(named, question(name, kind)), *ask_by_tcp(named, question(name, kind))):
        assert answer.code == NO_ERROR
        assert answer.query_id == 77
        assert sorted(answer.addresses) == addresses
    assert not named.world.name_server.questions


def test_those_who_share_an_alias_take_turns(named):
    found = [tuple(ask(named, question("cache")).addresses) for _turn in range(4)]

    assert {frozenset(each) for each in found} == {frozenset({"10.77.0.3", "10.77.0.4"})}
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("2.0.77.10.in-addr.arpa", "web.front"),
        ("2.0.78.10.IN-ADDR.arpa", "db.main.back.end"),
        (".".join("2" + "0" * 27 + "00df") + ".ip6.arpa", "web.front"),
    ],
)
def test_an_address_has_a_name(named, name, owner):
    assert ask(named, question(name, PTR)).contents == [(PTR, wire(owner))]


def test_libc_finds_members_and_the_world(served):
    served.write_member("net", "a" * 64, "web", addresses=["10.77.0.2"])
    served.write_view(
        networks=(SeenNetwork(name="net", directory=str(served.networks_directory / "net")),)
    )
    served.serve(port=53)

    web = served.world.web
    found = served.look_up("web", "web.net", "web.example.test", "nobody.example.test")
    assert [sorted(each) for each in found] == [
        ["10.77.0.2"],
        ["10.77.0.2"],
        [web.address4, web.address6],
        ["Name or service not known"],
    ]


def test_members_that_come_go_and_are_renamed_show_at_the_next_question(named):
    for turn in range(20):
        named.write_member("n" * 64, "e" * 64, f"new-{turn}", addresses=[f"10.77.1.{turn}"])
        assert ask(named, question(f"new-{turn}")).addresses == [f"10.77.1.{turn}"]
        assert ask(named, question(f"new-{turn - 1}")).code == NAME_ERROR
    remove_member(str(named.networks_directory / ("n" * 64)), "e" * 64)
    assert ask(named, question("new-19")).code == NAME_ERROR


def test_a_network_that_is_left_is_seen_no_more(named):
    named.write_view(networks=named.networks[1:])
    assert ask(named, question("www")).addresses == ["10.78.0.2"]
    assert ask(named, question("web")).code == NAME_ERROR

    named.write_view(networks=named.networks)
    assert ask(named, question("web")).addresses == ["10.77.0.2"]


def test_who_ended_is_forgotten_in_all_networks(named):
    for network in ("n" * 64, "m" * 64):
        named.write_member(network, "f" * 64, "gone", addresses=["10.77.9.9"])
    assert ask(named, question("gone")).addresses == ["10.77.9.9"]

    forget_container(str(named.run_directory), "f" * 64)

    assert not list(named.networks_directory.glob(f"*/{'f' * 64}"))
    assert not list(named.run_directory.glob("network.json"))
    assert len(list(named.networks_directory.glob("*/*"))) == 4


def test_what_others_left_among_the_names_harms_nobody(named):
    directory = named.networks_directory / ("n" * 64)
    (directory / "broken").write_bytes(b"{")
    (directory / "other").write_bytes(b'{"names":[1],"addresses":"x"}')
    (directory / "texts").write_text('{"names":["odd","' + "l" * 64 + '",""],"addresses":["?"]}')
    os.mkfifo(directory / "fifo")
    (directory / "link").symlink_to("/dev/zero")

    assert ask(named, question("web")).addresses == ["10.77.0.2"]
    assert ask(named, question("odd")).addresses == []
    assert named.is_serving()


def test_many_addresses_are_cut_for_a_datagram_and_whole_by_tcp(named):
    for number in range(60):
        named.write_member("n" * 64, f"{number:064}", "many", addresses=[f"10.77.2.{number}"])

    short = ask(named, question("many"))
    long = ask(named, question("many", extension=extension()))
    (by_tcp,) = ask_by_tcp(named, question("many"))

    assert short.is_truncated
    assert len(short.message) <= 512
    assert len(short.addresses) == (512 - 12 - 10) // 16
    for answer in (long, by_tcp):
        assert not answer.is_truncated
        assert len(set(answer.addresses)) == 60


# --- others -----------------------------------------------------------------------------------


def test_other_names_are_asked_of_the_hosts_server(named):
    web = named.world.web

    assert ask(named, question("web.example.test")).addresses == [web.address4]
    assert ask(named, question("web.example.test", AAAA)).addresses == [web.address6]
    assert ask(named, question("nobody.example.test")).code == NAME_ERROR
    assert ask_by_tcp(named, question("web.example.test"))[0].addresses == [web.address4]
    assert {each.source for each in named.world.name_server.questions} == {
        named.world.machine.address4
    }
    assert [each.is_tcp for each in named.world.name_server.questions] == [False] * 3 + [True]


def test_every_question_has_a_port_and_an_id_of_its_own(named):
    for _question in range(40):
        ask(named, question("web.example.test", query_id=1))

    asked = named.world.name_server.questions
    assert len({each.source_port for each in asked}) > 35
    assert len({each.query_id for each in asked}) > 35


def test_what_is_cut_by_the_server_is_cut_here_and_whole_by_tcp(named):
    names = named.world.name_server
    names.truncated.add("web.example.test")
    names.padding = 200

    assert ask(named, question("web.example.test")).is_truncated
    (whole,) = ask_by_tcp(named, question("web.example.test"))
    assert whole.addresses == [named.world.web.address4]
    assert len(whole.contents) == 201


def test_several_questions_on_one_connection_are_all_answered(named):
    messages = [question("web.example.test", query_id=each) for each in range(1, 31)]
    messages += [question("web", query_id=each) for each in range(31, 61)]

    answers = ask_by_tcp(named, *messages)

    assert sorted(each.query_id for each in answers) == list(range(1, 61))
    assert all(each.code == NO_ERROR for each in answers)


def test_the_next_server_is_asked_where_one_is_silent_or_nobody(named):
    machine, names = named.world.machine, named.world.names
    with machine.listen(machine.address4, 53, socket.SOCK_DGRAM):  # silent
        for first in (machine.address4, "127.0.0.1", "2001:db8:9::9", "fe80::1%nolink"):
            named.write_view(networks=named.networks, servers=(first, names.address4))
            assert ask(named, question("web.example.test")).addresses == [
                named.world.web.address4
            ], first


def test_servers_that_fail_say_so_in_the_end(named):
    named.world.name_server.silent.add("slow.example.test")
    named.write_view(networks=named.networks, servers=())
    assert ask(named, question("slow.example.test")).code == SERVER_FAILURE
    assert ask(named, question("web")).addresses == ["10.77.0.2"]


def test_a_server_of_ones_own_is_asked_and_not_the_hosts(named):
    named.world.resolver.write_text("nameserver 127.0.0.1\n")
    named.write_view(networks=named.networks, servers=(named.world.names.address6,))

    assert ask(named, question("web.example.test")).addresses == [named.world.web.address4]
    (asked,) = named.world.name_server.questions
    assert asked.source == named.world.machine.address6


def test_a_new_resolver_of_the_host_is_asked_from_then_on(named):
    named.world.resolver.write_text("# nobody yet\n")
    assert ask(named, question("web.example.test")).code == SERVER_FAILURE
    named.world.resolver.write_text(f"nameserver {named.world.names.address4} # here\n")
    assert ask(named, question("web.example.test")).code == NO_ERROR


def test_a_container_of_internal_networks_asks_nobody(named):
    named.write_view(networks=named.networks, is_forwarding=False)

    assert ask(named, question("web")).addresses == ["10.77.0.2"]
    assert ask(named, question("secret.example.test")).code == SERVER_FAILURE
    assert ask_by_tcp(named, question("secret.example.test"))[0].code == SERVER_FAILURE
    (named.run_directory / "network.json").unlink()
    assert ask(named, question("secret.example.test")).code == SERVER_FAILURE
    assert not named.world.name_server.questions


def test_a_false_answer_is_waited_past(named):
    """Wrong ids, wrong questions and what is no answer at all come before the right one."""
    world = named.world
    with world.machine.listen(world.machine.address4, 53, socket.SOCK_DGRAM) as forger:
        forger.settimeout(20)
        named.write_view(networks=named.networks, servers=(world.machine.address4,))
        with asking(named) as client:
            client.send(question("bank.example.test"))
            asked, address = forger.recvfrom(4096)
            record = struct.pack("!HHHIH", 0xC00C, A, 1, 60, 4) + b"\x06\x06\x06\x06"
            counts = struct.pack("!HHHH", 1, 1, 0, 0)
            wrong_id = struct.pack("!HH", (asked[0] << 8 | asked[1]) ^ 1, 0x8180)
            right_id = asked[:2] + b"\x81\x80"
            for message in (
                wrong_id + counts + asked[12:] + record,
                right_id + counts + question("other.example.test")[12:] + record,
                asked,
                b"",
                right_id,
                os.urandom(600),
            ):
                forger.sendto(message, address)
            genuine = struct.pack("!HHHIH", 0xC00C, A, 1, 60, 4) + b"\x01\x02\x03\x04"
            forger.sendto(right_id + counts + asked[12:] + genuine, address)
            assert Answer(client.recv(4096)).addresses == ["1.2.3.4"]


# --- the process ------------------------------------------------------------------------------


def test_the_server_has_no_rights_and_only_its_sockets(named):
    assert ask(named, question("web")).code == NO_ERROR

    status = Path(f"/proc/{named.server_id}/status").read_text()
    for found in ("CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"):
        assert found in status
    # The three of every process, two sockets, and what waits for them.
    assert named.descriptors() == 6


async def test_the_server_ends_with_its_monitor(named):
    assert ask(named, question("web")).code == NO_ERROR

    named.process.kill()

    await ended(named.server_id)


def test_the_server_is_small(named):
    assert ask(named, question("web.example.test")).code == NO_ERROR
    assert named.memory_bytes() < 12 << 20
