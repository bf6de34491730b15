"""What a container sends in the name of others: it reaches nobody."""

import ipaddress
import socket
import struct

import pytest

from engine.runtime.network_rules import link_local
from engine.types import ContainerRequest, NetworkOptions, NetworkRequest, ProcessOptions
from tests.integration.network.inside import IMAGE, PATIENCE_SECONDS, attached, box_of, running

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


class Wire:
    """What a container can put on its link, and what comes there."""

    def __init__(self, box):
        self.mac = bytes.fromhex(box.mac.replace(":", ""))
        with box.inside.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("eth0", 3))
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


async def gateway_of(engine, name="six"):
    network = (await engine.inspect_network(name)).network
    return network.subnets[0].gateway


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


async def frames_that_arrive(engine, sender, receiver):
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
    del world
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    async with (
        running(engine, "liar", "six") as liar,
        running(engine, "victim", "six") as victim,
    ):
        assert await frames_that_arrive(engine, liar, victim) == []


async def test_all_of_it_would_arrive_from_one_that_may_do_anything(world, engine):
    """What the test above stands on: but for the guard, every one of its frames gets there."""
    del world
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
        arrived = await frames_that_arrive(engine, liar, victim)
        details = await engine.inspect_network("six")
        told = lies(
            b"\2" * 6, "10.0.0.1", "fd00::1", "10.0.0.2", details.network.subnets[0].gateway
        )
        liar.inside.close()
        assert arrived == list(told)


async def test_the_hosts_loopback_is_not_reached_from_a_bridge(world, engine):
    """CVE-2020-8558: whoever sets route_localnet opens the loopback to everybody on the link."""
    async with running(engine, "liar") as liar, running(engine, "other"):
        network = (await engine.inspect_network("bridge")).network
        world.machine.set(f"ipv4/conf/{network.bridge}/route_localnet", "1")
        gateway = network.subnets[0].gateway
        (bridge_mac,) = world.machine.configure(
            lambda route: [
                one.get_attr("IFLA_ADDRESS") for one in route.get_links(ifname=network.bridge)
            ]
        )
        mac = bytes.fromhex(bridge_mac.replace(":", ""))
        with (
            world.machine.listen("127.0.0.1", 4001, socket.SOCK_DGRAM) as loopback,
            world.machine.listen(gateway, 4001, socket.SOCK_DGRAM) as honest,
            Wire(liar) as wire,
        ):
            honest.settimeout(PATIENCE_SECONDS)

            def send_both():
                for address, said in (("127.0.0.1", b"lie"), (gateway, MARKER)):
                    packet = packet4(liar.address4, address, said)
                    wire.send(frame(mac, wire.mac, IPV4, packet))
                assert honest.recv(100) == MARKER

            send_both()
            with pytest.raises(BlockingIOError):
                loopback.recv(100)
            # Without the rules it does arrive.
            world.run_on_machine("nft", "flush", "ruleset")
            loopback.settimeout(PATIENCE_SECONDS)
            send_both()
            assert loopback.recv(100) == b"lie"


async def test_a_neighbours_advertisements_are_not_believed(world, engine):
    """Even of one that may do anything: containers take no routes from the link."""
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    async with running(engine, "one", "six") as one:
        for device in ("default", "eth0"):
            assert one.inside.setting(f"ipv6/conf/{device}/accept_ra") == "0"
            assert one.inside.setting(f"ipv6/conf/{device}/accept_dad") == "0"
        network = (await engine.inspect_network("six")).network
        assert world.machine.setting(f"ipv6/conf/{network.bridge}/accept_ra") == "0"
