"""What all other tests here stand on: that a world is one, and is apart from this host."""

import os
import socket
import struct
import urllib.request

import pytest

from tests.worlds import ECHO_PORT, UPLINK


def ask(host, name, kind, address):
    with host.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        asking.connect((address, 53))
        asking.send(struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + bytes(1) + kind)
        return asking.recv(4096)


A = struct.pack("!HH", 1, 1)


def test_the_machine_has_its_uplink_and_nothing_of_this_host(world):
    assert world.machine.links() == {"lo", UPLINK}
    assert {name for _index, name in socket.if_nameindex()} == {"lo", UPLINK}


@pytest.mark.parametrize("host", ["web", "neighbour"])
def test_a_server_sees_the_machine_by_both_protocols(world, host):
    there = getattr(world, host)
    for address, own in (
        (there.address4, world.machine.address4),
        (f"[{there.address6}]", world.machine.address6),
    ):
        with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
            assert answer.read().decode() == f"{host} sees {own}\n"


def test_datagrams_are_answered(world):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(b"?", (world.web.address6, ECHO_PORT))
        assert asking.recv(100).decode() == f"web sees {world.machine.address6}\n"


def test_the_name_server_knows_some_names_and_says_so_of_others(world):
    known = ask(world.machine, "web.example.test", A, world.names.address4)
    unknown = ask(world.machine, "nobody.example.test", A, world.names.address4)

    assert known.endswith(socket.inet_aton(world.web.address4))
    assert known[3] & 15 == 0
    assert unknown[3] & 15 == 3
    assert [question.name for question in world.name_server.questions] == [
        "web.example.test",
        "nobody.example.test",
    ]


def test_nobody_forwards_and_nobody_knows_what_is_behind_the_machine(world):
    assert world.machine.setting("ipv4/ip_forward") == "0"
    world.machine.add_address("lo", "10.9.9.9/32")
    with world.machine.open_socket(socket.AF_INET, socket.SOCK_STREAM) as hidden:
        hidden.settimeout(0.3)
        hidden.bind(("10.9.9.9", 0))
        with pytest.raises(TimeoutError):
            hidden.connect((world.web.address4, 80))


def test_a_program_on_the_machine_reads_its_resolver(world):
    done = world.run_on_machine("cat", "/etc/resolv.conf")

    assert done.stdout == world.resolver.read_text()
    with open("/etc/resolv.conf") as own:
        assert own.read() != done.stdout


async def test_a_thread_of_the_loop_is_on_the_machine_too(world):
    import asyncio

    def own_namespace():
        return os.stat("/proc/thread-self/ns/net").st_ino

    assert await asyncio.to_thread(own_namespace) == os.fstat(world.machine.descriptor).st_ino
