"""How an ordinary user's containers reach the world by pasta and by slirp4netns: alike."""

import contextlib
import fcntl
import socket
import struct
import time

import psutil
import pytest

from tests.integration.network.inside import said_by, said_by_datagram
from tests.integration.network.persons import IMAGE, PROGRAMS
from tests.network_servers import RESOLVER_ADDRESS
from tests.questions import Answer, question
from tests.worlds import ECHO_PORT, UPLINK, AnswersWithSource, NameServer

pytestmark = [pytest.mark.root, pytest.mark.parametrize("person", PROGRAMS, indirect=True)]

ADDRESS4, ADDRESS6 = "10.0.2.100", "fd00::100"
GATEWAYS = ("10.0.2.2", "fd00::2")
ASKS = (said_by, said_by_datagram)
MTU = 65520
_SIOCGIFHWADDR = 0x8927


@pytest.fixture
def web(person):
    inside, _document = person.start("web")
    with contextlib.closing(inside):
        yield inside


def addresses_of(inside):
    found = inside.configure(lambda route: list(route.get_addr()))
    return {one.get_attr("IFA_ADDRESS") for one in found if one["scope"] == 0}


def gateways_of(inside):
    found = inside.configure(
        lambda route: [
            one
            for family in (socket.AF_INET, socket.AF_INET6)
            for one in route.get_default_routes(family)
        ]
    )
    return {one.get_attr("RTA_GATEWAY") for one in found}


def index_of_device(inside):
    """Of `tap0`; 0 while there is none."""
    return sum(inside.configure(lambda route: route.link_lookup(ifname="tap0")))


def asked(inside, name, kind=socket.SOCK_DGRAM):
    """What the container's resolver says of a name, by UDP or TCP."""
    message = question(name)
    with inside.open_socket(socket.AF_INET, kind) as client:
        client.settimeout(20)
        client.connect((RESOLVER_ADDRESS, 53))
        if kind == socket.SOCK_DGRAM:
            client.send(message)
            return Answer(client.recv(4096)).addresses
        client.sendall(struct.pack("!H", len(message)) + message)
        with client.makefile("rb") as stream:
            return Answer(stream.read(struct.unpack("!H", stream.read(2))[0])).addresses


# --- out ----------------------------------------------------------------------------------------


def test_a_container_has_the_addresses_and_reaches_the_world_by_all_that_the_host_has(world, web):
    assert web.links() == {"lo", "tap0"}
    assert addresses_of(web) >= {ADDRESS4, ADDRESS6}
    (mtu,) = web.configure(
        lambda route: [one.get_attr("IFLA_MTU") for one in route.link("get", ifname="tap0")]
    )
    assert mtu == MTU
    for ask in ASKS:
        assert ask(web, world.web.address4, ECHO_PORT) == f"web sees {world.machine.address4}"
        assert ask(web, world.web.address6, ECHO_PORT) == f"web sees {world.machine.address6}"


def test_it_reaches_the_host_by_the_hosts_address(world, web):
    with AnswersWithSource(world.machine):
        for ask in ASKS:
            assert ask(web, world.machine.address4, ECHO_PORT).startswith("machine sees ")


def test_the_details_and_the_features_say_which_one_it_is(person, web):
    assert person.feature["is_available"]
    assert person.feature["detail"] == (
        f"out by /usr/bin/{person.program} (IPv4 and IPv6), in at published ports"
    )


def test_a_host_without_ipv6_gives_none(world, person):
    world.machine.set("ipv6/conf/all/disable_ipv6", "1")
    assert person.feature["detail"] == (
        f"out by /usr/bin/{person.program} (IPv4 alone, as the host has no IPv6), "
        "in at published ports"
    )
    inside, _document = person.start("web")
    with contextlib.closing(inside):
        assert addresses_of(inside) == {ADDRESS4}
        assert said_by(inside, world.web.address4, ECHO_PORT)


def test_a_host_that_is_offline_starts_it_and_may_come_online(world, person):
    world.machine.configure(
        lambda route: route.link("set", index=route.link_lookup(ifname=UPLINK)[0], state="down")
    )
    inside, _document = person.start("web")
    with contextlib.closing(inside):
        assert inside.links() == {"lo", "tap0"}
        world.machine.configure(
            lambda route: route.link("set", index=route.link_lookup(ifname=UPLINK)[0], state="up")
        )
        for ask in ASKS:
            assert (
                ask(inside, world.web.address4, ECHO_PORT) == f"web sees {world.machine.address4}"
            )


# --- in -----------------------------------------------------------------------------------------


def test_ports_are_published_at_an_address_and_in_ranges(world, person):
    ports = (
        "-p",
        f"127.0.0.1:18081:{ECHO_PORT}",
        "-p",
        f"[::1]:18082:{ECHO_PORT}",
        "-p",
        f"18083-18084:{ECHO_PORT}-{ECHO_PORT + 1}",
    )
    inside, _document = person.start("web", *ports)
    inside.address4 = ADDRESS4
    with contextlib.closing(inside), AnswersWithSource(inside):
        assert said_by(world.machine, "127.0.0.1", 18081).startswith("web sees ")
        assert said_by(world.machine, "::1", 18082).startswith("web sees ")
        assert said_by(world.neighbour, world.machine.address4, 18083).startswith("web sees ")
        for port in (18081, 18082):
            with pytest.raises(ConnectionRefusedError):
                said_by(world.neighbour, world.machine.address4, port)


def test_nothing_is_published_that_was_not_asked_for(world, person, web):
    web.address4 = ADDRESS4
    with AnswersWithSource(web):
        for address in ("127.0.0.1", "::1", world.machine.address4):
            with pytest.raises(ConnectionRefusedError):
                said_by(world.machine, address, ECHO_PORT)


# --- names --------------------------------------------------------------------------------------


def test_names_are_asked_of_the_hosts_servers_wherever_they_are(world, person):
    inside, _document = person.start("web", "--add-host", "host:host-gateway")
    with contextlib.closing(inside):
        resolver = person.lamella("exec", "web", "cat", "/etc/resolv.conf").stdout
        assert resolver.splitlines() == [
            f"nameserver {RESOLVER_ADDRESS}",
            "search example.test",
            "options timeout:2 ndots:0",
        ]
        hosts = person.lamella("exec", "web", "cat", "/etc/hosts").stdout.splitlines()
        assert f"{world.machine.address4}\thost" in hosts
        assert [line.partition("\t")[0] for line in hosts[-2:]] == [ADDRESS4, ADDRESS6]
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            assert asked(inside, "web.example.test", kind) == [world.web.address4]
        # The host moves to another network, whose server is on its loopback.
        world.resolver.write_text("nameserver 127.0.0.1\n")
        with NameServer(world.machine) as server:
            server.addresses["here.example.test"] = (world.machine.address4,)
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                assert asked(inside, "here.example.test", kind) == [world.machine.address4]


def test_servers_that_were_asked_for_are_asked_instead(world, person):
    world.resolver.write_text("nameserver 127.0.0.1\n")
    inside, _document = person.start("web", "--dns", world.names.address4)
    with contextlib.closing(inside):
        assert asked(inside, "web.example.test") == [world.web.address4]


def test_names_and_ports_stay_when_the_container_gets_another_name(world, person):
    inside, _document = person.start("web", "-p", f"18080:{ECHO_PORT}")
    inside.address4 = ADDRESS4
    with contextlib.closing(inside), AnswersWithSource(inside):
        person.lamella("rename", "web", "shop")
        assert said_by(world.machine, "127.0.0.1", 18080).startswith("web sees ")
        assert asked(inside, "web.example.test") == [world.web.address4]


# --- what it must not reach ---------------------------------------------------------------------


class Loopback:
    """What listens on the machine's loopback and nowhere else, until the end of the block."""

    PORT = 7777

    def __init__(self, machine):
        self._open = contextlib.ExitStack()
        self._machine = machine
        both = ("127.0.0.1", "::1")
        self._listeners = [self._listen(address) for address in both]
        self._datagrams = [self._listen(address, socket.SOCK_DGRAM) for address in both]
        self._last_listener = self._listen(machine.address4)
        self._last_datagrams = self._listen(machine.address4, socket.SOCK_DGRAM)

    def _listen(self, address, kind=socket.SOCK_STREAM):
        return self._open.enter_context(self._machine.listen(address, self.PORT, kind))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._open.close()

    def has_heard_nothing_of(self, inside):
        """Whether nothing came of what was sent before: what is sent now comes later."""
        for kind, last in (
            (socket.SOCK_DGRAM, self._last_datagrams),
            (socket.SOCK_STREAM, self._last_listener),
        ):
            last.settimeout(10)
            with inside.open_socket(socket.AF_INET, kind) as sender:
                sender.settimeout(10)
                sender.connect((self._machine.address4, self.PORT))
                sender.send(b"last")
                if kind == socket.SOCK_DGRAM:
                    assert last.recv(100) == b"last"
                else:
                    last.accept()[0].close()
        for listener in self._listeners:
            with pytest.raises(BlockingIOError):
                listener.accept()
        for bound in self._datagrams:
            with pytest.raises(BlockingIOError):
                bound.recv(100)
        return True


def test_what_listens_on_the_hosts_loopback_is_not_for_it(world, web):
    with Loopback(world.machine) as loopback:
        for gateway in GATEWAYS:
            family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
            with web.open_socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"hello", (gateway, Loopback.PORT))
            with web.open_socket(family, socket.SOCK_STREAM) as sender:
                sender.connect_ex((gateway, Loopback.PORT))
        assert loopback.has_heard_nothing_of(web)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"])
def test_a_frame_to_the_hosts_loopback_goes_nowhere(world, web, address):
    with Loopback(world.machine) as loopback:
        # The program's own address is asked for, as every sender does.
        said_by_datagram(web, world.web.address4, ECHO_PORT)
        said_by_datagram(web, world.web.address6, ECHO_PORT)
        with web.entered():
            frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with frames:
            for said in (0, 0x1234):
                # What it says of the frame need not be so.
                frames.bind(("tap0", said))
                for packet in packets_to(address):
                    with pytest.raises(OSError, match="No buffer space"):
                        frames.send(gateway_of(web) + own_of(frames) + packet)
        assert loopback.has_heard_nothing_of(web)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_socket_that_is_bound_to_the_device_reaches_no_loopback(world, web, address):
    with Loopback(world.machine) as loopback:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with web.open_socket(family, kind) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap0")
                with contextlib.suppress(OSError):
                    sender.connect((address, Loopback.PORT))
                    sender.send(b"hello")
        assert loopback.has_heard_nothing_of(web)


def packets_to(address):
    """Ethernet's kind, and IP, of a datagram and of the beginning of a connection."""
    is_ipv6 = ":" in address
    source = socket.inet_pton(
        *(socket.AF_INET6, ADDRESS6) if is_ipv6 else (socket.AF_INET, ADDRESS4)
    )
    destination = socket.inet_pton(socket.AF_INET6 if is_ipv6 else socket.AF_INET, address)
    datagram = struct.pack("!HHHH", 4444, Loopback.PORT, 13, 0) + b"hello"
    connection = struct.pack("!HHIIBBHHH", 4445, Loopback.PORT, 1, 0, 0x50, 2, 65535, 0, 0)
    for protocol, content, place in ((17, datagram, 6), (6, connection, 16)):
        pseudo = source + destination + struct.pack("!IHBB", len(content), 0, 0, protocol)
        total = struct.pack("!H", checksum(pseudo + content))
        content = content[:place] + total + content[place + 2 :]
        if is_ipv6:
            head = struct.pack("!IHBB", 6 << 28, len(content), protocol, 64)
            yield b"\x86\xdd" + head + source + destination + content
        else:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0)
            head += source + destination
            yield b"\x08\0" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + content


def checksum(content):
    words = struct.unpack(f"!{(len(content) + 1) // 2}H", content + bytes(len(content) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def gateway_of(inside):
    found = inside.configure(lambda route: list(route.get_neighbours()))
    known = {one.get_attr("NDA_DST"): one.get_attr("NDA_LLADDR") for one in found}
    return bytes.fromhex(known[GATEWAYS[0]].replace(":", ""))


def own_of(frames):
    return fcntl.ioctl(frames, _SIOCGIFHWADDR, struct.pack("256s", b"tap0"))[18:24]


# --- when something is killed -------------------------------------------------------------------


def test_a_way_out_that_is_killed_is_made_again(world, person, web):
    way_out = person.way_out
    before = index_of_device(web)
    way_out.kill()
    way_out.wait(10)
    deadline = time.monotonic() + 30
    while index_of_device(web) in {before, 0}:
        assert time.monotonic() < deadline
    # It is there a moment before its addresses, and they before the ways through them.
    while not gateways_of(web) >= set(GATEWAYS):
        assert time.monotonic() < deadline
    assert addresses_of(web) >= {ADDRESS4, ADDRESS6}
    for address in (world.web.address4, world.web.address6):
        assert said_by(web, address, ECHO_PORT)
    with web.entered():
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with frames:
        frames.bind(("tap0", 0))
        packet = next(packets_to("127.0.0.1"))
        with pytest.raises(OSError, match="No buffer space"):
            frames.send(bytes(12) + packet)


def test_the_way_out_ends_with_its_monitor(world, person):
    inside, _document = person.start("web", "-p", f"18080:{ECHO_PORT}")
    inside.close()
    way_out = person.way_out
    monitor = way_out.parent()
    children = monitor.children()
    assert way_out in children
    monitor.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    # The way out, the servers of the port and of names, and the container's first process.
    assert (len(gone), alive) == (4, [])
    world.machine.listen("0.0.0.0", 18080).close()
    person.lamella("start", "web")
    assert person.way_out.is_running()


def test_the_way_out_goes_on_without_the_command_that_started_it_and_ends_with_the_container(
    world, person, web
):
    way_out = person.way_out
    # The launcher of the command has ended by now: what is left is the monitor.
    assert way_out.parent().name().startswith("lamella")
    assert said_by(web, world.web.address4, ECHO_PORT)
    person.lamella("stop", "-t", "0", "web")
    _gone, alive = psutil.wait_procs([way_out], timeout=10)
    assert alive == []


def test_a_program_that_cannot_do_it_is_the_starts_failure_in_its_own_words(person, tmp_path):
    stand_in = tmp_path / person.program
    stand_in.write_text(
        "#!/bin/sh\necho first >&2; echo 1795316121.0784: No luck today >&2; exit 1\n"
    )
    stand_in.chmod(0o755)
    person.stand_ins[person.program] = str(stand_in)
    failed = person.lamella("run", "-d", IMAGE, "sleep", "9", is_checked=False)
    assert failed.returncode == 125
    assert failed.stderr == (
        f"Error: /usr/bin/{person.program} cannot give the container a network: No luck today\n"
        "hint: --network none goes without, --network host has the host's\n"
    )
