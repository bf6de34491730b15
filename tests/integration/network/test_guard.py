"""What a container sends in the name of others: it reaches nobody."""

import asyncio
import contextlib
import functools
import ipaddress
import socket
import struct

import pytest

from engine.linux.netfilter import INET, empty_chain, transaction
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network.firewall import Firewall
from engine.runtime.network_rules import link_local
from engine.types import ContainerRequest, NetworkOptions, NetworkRequest, ProcessOptions
from tests.integration.network.inside import (
    IMAGE,
    PATIENCE_SECONDS,
    attached,
    box_of,
    published,
    running,
)
from tests.worlds import UPLINK

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]

EVERYBODY = b"\xff" * 6
STRANGER = bytes.fromhex("02aabbccddee")
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
UDP, ICMPV6 = 17, 58
MARKER = b"this is the last one"


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(destination, source, kind, payload):
    return destination + source + struct.pack("!H", kind) + payload


def packet4(source, destination, payload, *, source_port=4000, port=4001):
    datagram = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, UDP, 0)
    total = checksum(head + addresses)
    return head[:10] + struct.pack("!H", total) + addresses + datagram


def packet6(source, destination, protocol, payload):
    packed = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    if protocol == ICMPV6:
        pseudo = packed + struct.pack("!IxxxB", len(payload), ICMPV6)
        total = checksum(pseudo + payload[:2] + b"\0\0" + payload[4:])
        payload = payload[:2] + struct.pack("!H", total) + payload[4:]
    return struct.pack("!IHBB", 0x60000000, len(payload), protocol, 255) + packed + payload


def udp6(source_port, port, payload):
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 1) + payload


def arp(operation, mac, address, target):
    return (
        struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
        + mac
        + socket.inet_aton(address)
        + bytes(6)
        + socket.inet_aton(target)
    )


class LinkEnd:
    """What somebody can put on a link, and what comes there."""

    def __init__(self, namespace, link):
        self.mac = mac_of(namespace, link)
        with namespace.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind((link, 3))
        self.socket.settimeout(PATIENCE_SECONDS)

    def send(self, *frames):
        for one in frames:
            self.socket.send(one)

    def frames_until_marker(self):
        """Everything that comes before the honest frame, which takes the same way."""
        found = []
        while MARKER not in (received := self.socket.recv(4096)):
            found.append(received)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()


class Wire(LinkEnd):
    """A container's."""

    def __init__(self, box):
        super().__init__(box.inside, "eth0")


def lies(mac, own4, own6, other4, gateway4):
    """Frames that are not a container's to send, by what is wrong with them."""
    own_local = str(ipaddress.IPv6Address(link_local(mac.hex(":"))))
    neighbour_says = struct.pack("!BBHI", 136, 0, 0, 0x60000000)
    target = ipaddress.IPv6Address("fe80::1").packed
    return {
        "another hardware address": frame(
            EVERYBODY, STRANGER, IPV4, packet4(own4, "255.255.255.255", b"lie")
        ),
        "another IPv4 address": frame(
            EVERYBODY, mac, IPV4, packet4(other4, "255.255.255.255", b"lie")
        ),
        "no address, as DHCP clients": frame(
            EVERYBODY,
            mac,
            IPV4,
            packet4("0.0.0.0", "255.255.255.255", b"lie", source_port=68, port=67),
        ),
        "an offer of addresses": frame(
            EVERYBODY,
            mac,
            IPV4,
            packet4(own4, "255.255.255.255", b"lie", source_port=67, port=68),
        ),
        "the gateway's address in ARP": frame(EVERYBODY, mac, ARP, arp(2, mac, gateway4, other4)),
        "a neighbour's address in ARP": frame(EVERYBODY, mac, ARP, arp(1, mac, other4, gateway4)),
        "another hardware address in ARP": frame(
            EVERYBODY, mac, ARP, arp(2, STRANGER, own4, other4)
        ),
        "ARP in another frame": frame(EVERYBODY, STRANGER, ARP, arp(2, mac, own4, other4)),
        "another IPv6 address": frame(
            EVERYBODY, mac, IPV6, packet6("fd00::99", "ff02::1", UDP, udp6(1, 2, b"lie"))
        ),
        "routes": frame(
            EVERYBODY,
            mac,
            IPV6,
            packet6(
                own_local, "ff02::1", ICMPV6, struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
            ),
        ),
        "routes behind an extension header": frame(
            EVERYBODY,
            mac,
            IPV6,
            packet6(
                own_local,
                "ff02::1",
                0,
                bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0))
                + struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0),
            ),
        ),
        "a redirection": frame(
            EVERYBODY,
            mac,
            IPV6,
            packet6(own_local, "ff02::1", ICMPV6, struct.pack("!BBHI", 137, 0, 0, 0) + bytes(32)),
        ),
        "an offer of IPv6 addresses": frame(
            EVERYBODY, mac, IPV6, packet6(own_local, "ff02::1", UDP, udp6(547, 546, b"lie"))
        ),
        "somebody else as a neighbour": frame(
            EVERYBODY,
            mac,
            IPV6,
            packet6(own6, "ff02::1", ICMPV6, neighbour_says + target + b"\2\1" + mac),
        ),
        "a tag that hides what is in it": frame(
            EVERYBODY, mac, VLAN, struct.pack("!HH", 0, ARP) + arp(2, mac, gateway4, other4)
        ),
    }


def has_all_ports_up(machine):
    links = machine.configure(lambda route: list(route.get_links()))
    return all(
        one.get_attr("IFLA_OPERSTATE") == "UP" for one in links if one.get_attr("IFLA_MASTER")
    )


async def frames_that_arrive(world, engine, sender, receiver):
    # The kernel opens a bridge's port behind the start, and drops frames until then.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not has_all_ports_up(world.machine):  # noqa: ASYNC110
            await asyncio.sleep(0)
    details = await engine.inspect_network("six")
    addresses = {one.container_name: one for one in details.members}
    own = addresses[sender.name]
    own4, own6 = (text.partition("/")[0] for text in (own.ipv4_address, own.ipv6_address))
    with Wire(sender) as liar, Wire(receiver) as victim:
        told = lies(liar.mac, own4, own6, receiver.address4, details.network.subnets[0].gateway)
        # What the container's own kernel says of itself is no lie, and may come in between.
        liar.send(*told.values())
        liar.send(frame(EVERYBODY, liar.mac, IPV4, packet4(own4, "255.255.255.255", MARKER)))
        arrived = victim.frames_until_marker()
    return [what for what, one in told.items() if one in arrived or one[:12] + one[16:] in arrived]


async def test_nothing_arrives_that_is_not_the_containers_to_send(world, engine):
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    async with (
        running(engine, "liar", "six") as liar,
        running(engine, "victim", "six") as victim,
    ):
        assert await frames_that_arrive(world, engine, liar, victim) == []


async def test_all_of_it_would_arrive_from_one_that_may_do_anything(world, engine):
    """What the test above stands on: but for the guard, every one of its frames gets there."""
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    async with running(engine, "victim", "six") as victim:
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name="liar",
                command=("sleep", "1000"),
                network=NetworkOptions(attachments=attached("six")),
                options=ProcessOptions(is_privileged=True),
            )
        )
        await engine.start_container("liar")
        liar = await box_of(engine, "liar")
        arrived = await frames_that_arrive(world, engine, liar, victim)
        details = await engine.inspect_network("six")
        told = lies(
            b"\2" * 6, "10.0.0.1", "fd00::1", "10.0.0.2", details.network.subnets[0].gateway
        )
        liar.inside.close()
        assert arrived == list(told)


# --- the host's loopback (CVE-2020-8558) -------------------------------------------------------


@contextlib.contextmanager
def listening(world, honest_address):
    """Who listens on the machine's loopback, and who may be spoken to by everybody."""
    with (
        world.machine.listen("127.0.0.1", 4001, socket.SOCK_DGRAM) as loopback,
        world.machine.listen(honest_address, 4001, socket.SOCK_DGRAM) as honest,
    ):
        honest.settimeout(PATIENCE_SECONDS)
        yield loopback, honest


def heard_from(world, wire, mac, *, own, honest_address):
    """What of loopback addresses arrives, by what was wrong with it, of what a liar has sent.

    What comes from the loopback is from an address of it that no device has: the kernel refuses
    those that one has, however it is set.
    """
    told = {
        b"for the loopback": ("127.0.0.1", own),
        b"for and from the loopback": ("127.0.0.1", "127.0.0.2"),
        b"from the loopback": (honest_address, "127.0.0.2"),
    }
    with listening(world, honest_address) as (loopback, honest):
        for said, (destination, source) in told.items():
            wire.send(frame(mac, wire.mac, IPV4, packet4(source, destination, said)))
        wire.send(frame(mac, wire.mac, IPV4, packet4(own, honest_address, MARKER)))
        heard = []
        while (said := honest.recv(100)) != MARKER:
            heard.append(said)
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(loopback.recv(100))
    return sorted(heard)


EVERY_LIE = [b"for and from the loopback", b"for the loopback", b"from the loopback"]


def mac_of(host, link):
    def read(route):
        (found,) = route.get_links(ifname=link)
        return bytes.fromhex(found.get_attr("IFLA_ADDRESS").replace(":", ""))

    return host.configure(read)


def without_guard(store_paths):
    """Take the rules away that keep loopback addresses from coming in; all others stay."""
    with NetlinkSocket(NETFILTER) as connection:
        emptied = empty_chain(INET, Firewall(store_paths.root).table, "raw")
        connection.execute(transaction((emptied,)), what="empty a chain")


@contextlib.asynccontextmanager
async def liar_of(engine, *, is_privileged):
    await engine.create_container(
        ContainerRequest(
            image=IMAGE,
            name="liar",
            command=("sleep", "1000"),
            network=NetworkOptions(published_ports=(published(4001, 8080, protocol="udp"),)),
            options=ProcessOptions(is_privileged=is_privileged),
        )
    )
    await engine.start_container("liar")
    liar = await box_of(engine, "liar")
    with contextlib.closing(liar.inside), Wire(liar) as wire:
        yield liar, wire
    await engine.remove_container("liar", is_forced=True)


@pytest.mark.parametrize(
    ("is_privileged", "without"), [(False, [b"for the loopback"]), (True, EVERY_LIE)]
)
async def test_no_container_reaches_the_loopback_by_a_bridge_that_leads_to_a_port(
    world, engine, store_paths, is_privileged, without
):
    """One that may do anything can say as well that it is the loopback."""
    network = (await engine.inspect_network("bridge")).network
    gateway = network.subnets[0].gateway
    async with liar_of(engine, is_privileged=is_privileged) as (liar, wire):
        assert world.machine.setting(f"ipv4/conf/{network.bridge}/route_localnet") == "1"
        mac = mac_of(world.machine, network.bridge)
        said = functools.partial(
            heard_from, world, wire, mac, own=liar.address4, honest_address=gateway
        )
        assert said() == []
        assert heard_beside_an_answer(world, liar, wire, mac, gateway) == [b"honest"]
        assert said() == []
        without_guard(store_paths)
        assert said() == without
        assert heard_beside_an_answer(world, liar, wire, mac, gateway) == [b"lie", b"honest"]


def heard_beside_an_answer(world, liar, wire, mac, gateway):
    """What comes to who asks a published port: answers are turned round behind the guard."""
    with (
        liar.inside.listen("0.0.0.0", 4001, socket.SOCK_DGRAM) as serving,
        world.machine.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        serving.settimeout(PATIENCE_SECONDS)
        asking.settimeout(PATIENCE_SECONDS)
        asking.sendto(b"hello", ("127.0.0.1", 8080))
        _content, source = serving.recvfrom(100)
        assert source[0] == gateway
        port = asking.getsockname()[1]
        lie = packet4(liar.address4, "127.0.0.1", b"lie", source_port=8080, port=port)
        wire.send(frame(mac, wire.mac, IPV4, lie))
        serving.sendto(b"honest", source)
        heard = []
        while not heard or heard[-1] != b"honest":
            content, source = asking.recvfrom(100)
            heard.append(content)
        assert source == ("127.0.0.1", 8080)
        return heard


async def test_nobody_beside_the_host_reaches_the_loopback_while_a_port_leads_there(
    world, engine, store_paths
):
    """Not even where somebody has set route_localnet for every device."""
    world.machine.set("ipv4/conf/all/route_localnet", "1")
    machine, neighbour = world.machine.address4, world.neighbour
    ports = tuple(
        published(4001, 8080, protocol=protocol, host_address="127.0.0.1")
        for protocol in ("tcp", "udp")
    )
    async with running(engine, "web", published_ports=ports) as web:
        with (
            LinkEnd(neighbour, UPLINK) as wire,
            web.inside.listen("0.0.0.0", 4001, socket.SOCK_DGRAM) as serving,
        ):
            mac = mac_of(world.machine, UPLINK)
            said = functools.partial(
                heard_from, world, wire, mac, own=neighbour.address4, honest_address=machine
            )

            def ask_port():
                packet = packet4(neighbour.address4, "127.0.0.1", b"lie", port=8080)
                wire.send(frame(mac, wire.mac, IPV4, packet))

            ask_port()
            assert said() == []
            with pytest.raises(BlockingIOError):
                serving.recv(100)
            without_guard(store_paths)
            ask_port()
            assert said() == EVERY_LIE
            serving.settimeout(PATIENCE_SECONDS)
            assert serving.recv(100) == b"lie"


async def test_a_loopback_address_that_a_device_has_itself_is_let_alone(world, engine):
    """As VRFs have one, and who has built something odd with route_localnet."""
    world.machine.set(f"ipv4/conf/{UPLINK}/route_localnet", "1")
    world.machine.add_address(UPLINK, "127.77.0.1/24")
    neighbour = world.neighbour
    ports = (published(4001, 8080, protocol="udp"),)
    async with running(engine, "web", published_ports=ports):
        with (
            world.machine.listen("127.77.0.1", 4001, socket.SOCK_DGRAM) as odd,
            LinkEnd(neighbour, UPLINK) as wire,
        ):
            odd.settimeout(PATIENCE_SECONDS)
            packet = packet4(neighbour.address4, "127.77.0.1", b"odd")
            wire.send(frame(mac_of(world.machine, UPLINK), wire.mac, IPV4, packet))
            assert odd.recv(100) == b"odd"


async def test_a_neighbours_advertisements_are_not_believed(world, engine):
    """Even of one that may do anything: containers take no routes from the link."""
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    async with running(engine, "one", "six") as one:
        for device in ("default", "eth0"):
            assert one.inside.setting(f"ipv6/conf/{device}/accept_ra") == "0"
            assert one.inside.setting(f"ipv6/conf/{device}/accept_dad") == "0"
        network = (await engine.inspect_network("six")).network
        assert world.machine.setting(f"ipv6/conf/{network.bridge}/accept_ra") == "0"
