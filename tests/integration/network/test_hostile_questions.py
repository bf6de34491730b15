"""What a hostile container sends its resolver, and how much of it is kept."""

import contextlib
import random
import socket
import struct

import pytest

from engine.runtime.name_server import MOST_CONNECTIONS, MOST_OUTSTANDING
from tests.questions import (
    AAAA,
    ANY,
    AXFR,
    FORMAT_ERROR,
    NO_ERROR,
    NOT_IMPLEMENTED,
    OPT,
    PTR,
    REFUSED,
    SERVER_FAILURE,
    TXT,
    A,
    Answer,
    ask,
    asking,
    extension,
    question,
)

# --- bounds -----------------------------------------------------------------------------------


def test_questions_that_wait_are_bounded_and_others_are_answered_meanwhile(named):
    world = named.world
    with world.machine.listen(world.machine.address4, 53, socket.SOCK_DGRAM):  # silent
        named.write_view(networks=named.networks, servers=(world.machine.address4,))
        with asking(named) as client:
            refused = 0
            for number in range(3 * MOST_OUTSTANDING):
                client.send(question(f"x{number}.example.test", query_id=number))
                if number % 50 == 49:
                    # Answered behind the others: the kernel's queue never overflows.
                    assert ask(named, question("web")).addresses == ["10.77.0.2"]
                if number >= MOST_OUTSTANDING:
                    answer = Answer(client.recv(4096))
                    refused += answer.code == SERVER_FAILURE
            assert refused == 2 * MOST_OUTSTANDING
            client.send(question("web", query_id=1 << 15))
            # Those that wait may be given up meanwhile, and are answered then.
            while (answer := Answer(client.recv(4096))).query_id != 1 << 15:
                assert answer.code == SERVER_FAILURE
            assert answer.addresses == ["10.77.0.2"]
            assert named.descriptors() < MOST_OUTSTANDING + 30


def test_who_asks_again_while_it_is_asked_for_is_asked_for_once(named):
    world = named.world
    with world.machine.listen(world.machine.address4, 53, socket.SOCK_DGRAM) as silent:
        silent.settimeout(20)
        named.write_view(networks=named.networks, servers=(world.machine.address4,))
        with asking(named) as client:
            for _again in range(50):
                client.send(question("slow.example.test"))
            client.send(question("web", query_id=9))
            assert Answer(client.recv(4096)).query_id == 9
        silent.recv(4096)
        silent.settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent.recv(4096)


def test_connections_are_bounded_and_the_quiet_ones_give_way(named):
    clients = [asking(named, socket.SOCK_STREAM) for _client in range(MOST_CONNECTIONS * 2)]
    try:
        message = question("web")
        clients[-1].sendall(struct.pack("!H", len(message)) + message)
        assert Answer(clients[-1].recv(4096)[2:]).addresses == ["10.77.0.2"]
        assert clients[0].recv(1) == b""
        assert named.descriptors() < MOST_CONNECTIONS + 30
    finally:
        for client in clients:
            client.close()


def test_who_does_not_read_its_answers_is_not_kept_in_memory(named):
    for number in range(60):
        named.write_member("n" * 64, f"{number:064}", "many", addresses=[f"10.77.2.{number}"])
    before = named.memory_bytes()
    message = question("many")
    framed = struct.pack("!H", len(message)) + message
    clients = [asking(named, socket.SOCK_STREAM) for _client in range(8)]
    try:
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                # More than the kernel's buffers hold of questions and of answers.
                for _turn in range(1000):
                    client.send(framed * 500)
                pytest.fail("everything was taken")
        assert ask(named, question("web")).addresses == ["10.77.0.2"]
        assert named.memory_bytes() < before + (4 << 20)
    finally:
        for client in clients:
            client.close()


# --- hostile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (question("web", AXFR), NO_ERROR),
        (question("x.example.test", AXFR), REFUSED),
        (question("x.example.test", 250), REFUSED),
        (question("x.example.test", OPT), REFUSED),
        (question("x.example.test", 0), REFUSED),
        (question("version.bind", TXT, record_class=3), REFUSED),
        (question("web", flags=0x2900), NOT_IMPLEMENTED),
        (question("web") + b"x", FORMAT_ERROR),
        (question("web")[:-1], FORMAT_ERROR),
        (question("web")[:12], FORMAT_ERROR),
        (b"\0\7\1\0\0\2" + bytes(6) + question("web")[12:] * 2, FORMAT_ERROR),
        (b"\0\7\1\0\0\1" + bytes(6) + b"\xc0\x0c\0\1\0\1", FORMAT_ERROR),
        (b"\0\7\1\0\0\1" + bytes(6) + b"\x3fa" * 40, FORMAT_ERROR),
        (question("web", extension=extension() + extension()), FORMAT_ERROR),
        (question("web", extension=extension()[:-1]), FORMAT_ERROR),
        (question("x." * 127 + "y"), FORMAT_ERROR),
    ],
)
def test_what_is_no_question_for_others_is_refused_in_words(named, message, code):
    assert ask(named, message).code == code
    assert not named.world.name_server.questions


@pytest.mark.parametrize("message", [b"", b"\0", bytes(11), question("web", flags=0x8180)])
def test_what_is_no_question_at_all_is_not_answered(named, message):
    with asking(named) as client:
        client.send(message)
        client.send(question("web", query_id=9))
        assert Answer(client.recv(4096)).query_id == 9


def test_an_unknown_version_of_the_extension_is_named(named):
    answer = ask(named, question("web", extension=extension(extended=1 << 16)))
    assert answer.message.endswith(struct.pack("!HHIH", OPT, 1232, 1 << 24, 0))


def test_a_connection_that_talks_nonsense_is_closed(named):
    for nonsense in (b"\0\0", b"\xff\xff" + b"x" * 100, b"GET / HTTP/1.1\r\n" * 300):
        with asking(named, socket.SOCK_STREAM) as client:
            client.sendall(nonsense)
            client.settimeout(20)
            # Closed with something unread is a reset.
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
    assert ask(named, question("web")).addresses == ["10.77.0.2"]


def hostile_packets(count):
    """Packets that look like questions, to different degrees; the same ones at every run."""
    drawn = random.Random(20080708)
    names = ["web", "www.back.end", "2.0.77.10.in-addr.arpa", "x" * 63, "", "a.b.c.d.e", "\u00fc"]
    corpus = [
        question(name, kind, extension=more)
        for name in names
        for kind in (A, AAAA, PTR, ANY, AXFR, OPT, 0, 0xFFFF)
        for more in (b"", extension(), extension(0xFFFF, 0xFFFFFFFF))
    ]
    corpus += [
        question("web")[:12] + b"\xc0\x0c" + b"\0\1\0\1",
        question("web")[:12] + b"\x01a" * 128 + b"\0\0\1\0\1",
        question("web")[:12] + b"\x3f" + b"\0" * 63 + b"\0\0\1\0\1",
        b"\0" * 12,
        b"\xff" * 512,
    ]
    for _packet in range(count):
        packet = bytearray(drawn.choice(corpus))
        for _change in range(drawn.randrange(6)):
            what = drawn.randrange(5)
            place = drawn.randrange(len(packet) + 1)
            if what == 0 and place < len(packet):
                packet[place] ^= 1 << drawn.randrange(8)
            elif what == 1:
                packet[place:place] = drawn.randbytes(drawn.randrange(20))
            elif what == 2:
                del packet[place:]
            elif what == 3:
                packet += drawn.choice(corpus)[drawn.randrange(12) :]
            elif len(packet) > 12:
                packet[4:12] = drawn.randbytes(8)
        yield bytes(packet[:4096])


@pytest.mark.timeout(300)
def test_a_hundred_thousand_hostile_packets_do_not_stop_it(named):
    process = named.process
    named.write_view(networks=named.networks, is_forwarding=False)
    with asking(named) as client, asking(named) as control:
        client.setblocking(False)
        before = 0
        for number, packet in enumerate(hostile_packets(100_000)):
            with contextlib.suppress(BlockingIOError):
                client.send(packet)
            if number % 20 == 19:
                # Also keeps the queue short, so that all of them are read.
                control.send(question("web", query_id=number & 0xFFFF))
                assert Answer(control.recv(4096)).addresses == ["10.77.0.2"]
                drain(client)
            if number == 10_000:
                before = named.memory_bytes()
    assert process.poll() is None
    assert lost_datagrams(named) == 0
    assert named.memory_bytes() < before + (1 << 20)


def test_hostile_packets_that_are_passed_on_reach_the_server_as_plain_questions(named):
    with asking(named) as client, asking(named) as control:
        client.setblocking(False)
        for number, packet in enumerate(hostile_packets(5_000)):
            client.send(packet)
            if number % 20 == 19:
                control.send(question("web", query_id=number))
                assert Answer(control.recv(4096)).query_id == number
                drain(client)
    assert ask(named, question("web.example.test")).addresses == [named.world.web.address4]
    asked = named.world.name_server.questions
    assert len(asked) > 100
    for each in asked:
        _id, flags, *counts = struct.unpack_from("!HHHHHH", each.message)
        assert not flags & ~0x0130
        assert counts in ([1, 0, 0, 0], [1, 0, 0, 1])
        end = len(each.message) - 11 * counts[3]
        name = each.message[12 : end - 4]
        assert name == wire_of(name)
        if counts[3]:
            assert each.message[end : end + 3] == b"\0" + struct.pack("!H", OPT)
            assert each.message[-2:] == b"\0\0"


def wire_of(name):
    """The name at the beginning of some bytes, as far as it is one."""
    place = 0
    while 0 < name[place] < 64:
        place += 1 + name[place]
    return name[: place + 1]


def test_hostile_connections_do_not_stop_it(named):
    drawn = random.Random(853)
    before = 0
    for number, packet in enumerate(hostile_packets(3_000)):
        with asking(named, socket.SOCK_STREAM) as client:
            length = drawn.choice((len(packet), len(packet) + 1, 0, 0xFFFF, len(packet) - 1))
            with contextlib.suppress(OSError):
                client.sendall(struct.pack("!H", max(0, length)) + packet)
                if drawn.randrange(2):
                    client.shutdown(socket.SHUT_WR)
                    client.recv(65535)
        if number == 500:
            before = named.memory_bytes()
    assert ask(named, question("web")).addresses == ["10.77.0.2"]
    assert named.is_serving()
    assert named.memory_bytes() < before + (1 << 20)


def lost_datagrams(named):
    """Those for which there was no room (`drops` of /proc/net/udp)."""
    with named.inside.entered(), open("/proc/thread-self/net/udp") as table:
        return sum(int(line.split()[-1]) for line in table.readlines()[1:])


def drain(client):
    with contextlib.suppress(BlockingIOError):
        while True:
            client.recv(65535)
