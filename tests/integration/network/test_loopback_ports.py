"""Published ports at 127.0.0.0/8 of the host, to which the kernel leads, and where it cannot."""

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys

import psutil
import pytest

from engine.api import open_engine
from engine.linux.netfilter import INET, delete_table, transaction
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network import firewall, tables
from engine.network.devices import NetworkDevices
from engine.network.firewall import Firewall
from engine.runtime.network_rules import LOOPBACK_PORTS4, PORTS4
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, NetworkRequest
from tests.accounts import CHECKOUT
from tests.integration.network.inside import (
    IMAGE,
    PATIENCE_SECONDS,
    box_of,
    published,
    running,
    said_by,
    said_by_datagram,
)
from tests.worlds import ECHO_PORT, UPLINK, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]

PORT = 8080
BOTH = (published(ECHO_PORT, PORT), published(ECHO_PORT, PORT, protocol="udp"))
SCTP = 132


@contextlib.contextmanager
def answering(box):
    box.inside.address4 = box.address4
    with AnswersWithSource(box.inside):
        yield


async def server_of(engine, name):
    details = await engine.inspect_container(name)
    monitor = psutil.Process(details.process_id).parent()
    # Its monitor forks it after the start was told.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for child in monitor.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() == "lamella-network":
                        return child
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def without_proxy(engine, name="web"):
    """Have a container's network server stand still: what gets there went by the kernel alone."""
    server = await server_of(engine, name)
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        # With its container it may have ended.
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGCONT)


async def bridge_of(engine, name="bridge"):
    return (await engine.inspect_network(name)).network


async def gateway_of(engine, name="bridge"):
    return (await bridge_of(engine, name)).subnets[0].gateway


def localnet(world, network):
    return world.machine.setting(f"ipv4/conf/{network.bridge}/route_localnet")


def loopback_keys(store_paths):
    owners = Firewall(store_paths.root).owners()
    elements = [one for owned in owners.values() for one in owned]
    return [one.key for _family, name, one in elements if name == LOOPBACK_PORTS4]


@pytest.mark.parametrize("filtering", ["0", "1"])
async def test_the_kernel_leads_every_loopback_address_to_the_container(world, engine, filtering):
    """With the reverse path filter that many hosts have, too."""
    world.machine.set("ipv4/conf/all/rp_filter", filtering)
    world.machine.set("ipv4/conf/default/rp_filter", filtering)
    async with running(engine, "web", published_ports=BOTH) as box, running(engine, "other"):
        seen = f"web sees {await gateway_of(engine)}"
        with answering(box):
            async with without_proxy(engine):
                for ask in (said_by, said_by_datagram):
                    for address in ("127.0.0.1", "127.9.9.9"):
                        assert ask(world.machine, address, PORT) == seen
            for ask in (said_by, said_by_datagram):
                assert ask(world.machine, "::1", PORT) == seen


async def test_a_network_has_the_setting_when_it_leads_to_a_port_and_not_before(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_network(NetworkRequest(name="back", is_internal=True))
    front, back = await bridge_of(engine, "front"), await bridge_of(engine, "back")
    async with running(engine, "quiet", "front"):
        assert localnet(world, front) == "0"
        async with running(engine, "web", "back", "front", published_ports=BOTH) as box:
            assert (localnet(world, front), localnet(world, back)) == ("1", "0")
            with answering(box):
                async with without_proxy(engine):
                    assert said_by(world.machine, "127.0.0.1", PORT).startswith("web sees ")
    for setting in ("all", "default", "lo", UPLINK):
        assert world.machine.setting(f"ipv4/conf/{setting}/route_localnet") == "0"


@pytest.mark.parametrize(
    ("host_address", "leading", "refusing"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2", "192.0.2.10"]),
        ("127.0.0.7", ["127.0.0.7"], ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2", "192.0.2.10"], ["::1"]),
        ("192.0.2.10", ["192.0.2.10"], ["127.0.0.1"]),
    ],
)
async def test_a_port_leads_from_where_it_is_published_and_from_nowhere_else(
    world, engine, host_address, leading, refusing
):
    ports = [
        published(ECHO_PORT, PORT, host_address=host_address, protocol=protocol)
        for protocol in ("tcp", "udp")
    ]
    async with running(engine, "web", published_ports=tuple(ports)) as box:
        with answering(box):
            async with without_proxy(engine):
                for address in leading:
                    assert said_by(world.machine, address, PORT).startswith("web sees ")
                    assert said_by_datagram(world.machine, address, PORT).startswith("web sees ")
            for address in refusing:
                with pytest.raises(ConnectionRefusedError):
                    said_by(world.machine, address, PORT)
            if host_address == "0.0.0.0":
                # As itself: nobody stands between.
                seen = f"web sees {world.neighbour.address4}"
                assert said_by(world.neighbour, world.machine.address4, PORT) == seen
            elif host_address.startswith("127."):
                with pytest.raises(ConnectionRefusedError):
                    said_by(world.neighbour, world.machine.address4, PORT)


async def test_whoever_is_on_the_host_may_ask_from_any_of_its_addresses(world, engine):
    def ask(source, address):
        with socket.create_connection((address, PORT), PATIENCE_SECONDS, (source, 0)) as asking:
            asking.sendall(b"\n")
            return asking.makefile().readline().strip()

    machine = world.machine.address4
    async with (
        running(engine, "web", published_ports=BOTH) as box,
        running(engine, "side", mode="host") as side,
    ):
        gateway = await gateway_of(engine)
        with answering(box):
            async with without_proxy(engine):
                assert said_by(side.inside, "127.0.0.1", PORT) == f"web sees {gateway}"
                for source, address, seen in (
                    ("127.0.0.1", "127.0.0.1", gateway),
                    ("127.5.5.5", "127.0.0.1", gateway),
                    (machine, "127.0.0.1", machine),
                    ("127.0.0.1", machine, gateway),
                ):
                    heard = world.machine.run(lambda s=source, a=address: ask(s, a))
                    assert heard == f"web sees {seen}", (source, address)
                # Its own loopback is every container's own.
                with pytest.raises(ConnectionRefusedError):
                    said_by(box.inside, "127.0.0.1", PORT)
                assert said_by(box.inside, machine, PORT).startswith("web sees ")


async def test_much_goes_both_ways_whole(world, engine):
    sent = os.urandom(1 << 20) * 16
    async with running(engine, "web", published_ports=BOTH) as box:
        with box.inside.listen("0.0.0.0", ECHO_PORT) as listener:

            def answer():
                listener.setblocking(True)
                served, _peer = listener.accept()
                with served:
                    digest = hashlib.sha256()
                    while part := served.recv(1 << 20):
                        digest.update(part)
                    served.sendall(digest.digest() + sent)

            def ask():
                with socket.create_connection(("127.0.0.1", PORT), PATIENCE_SECONDS) as asking:
                    asking.sendall(sent)
                    asking.shutdown(socket.SHUT_WR)
                    with asking.makefile("rb") as answered:
                        return answered.read()

            async with without_proxy(engine):
                answering_thread = asyncio.ensure_future(asyncio.to_thread(answer))
                heard = await asyncio.to_thread(world.machine.run, ask)
                await answering_thread
        assert heard == hashlib.sha256(sent).digest() + sent


@pytest.mark.parametrize("length", [0, 1472, 1473, 60_000])
async def test_a_datagram_of_any_length_stays_one(world, engine, length):
    async with running(engine, "web", published_ports=BOTH) as box:
        with (
            box.inside.listen("0.0.0.0", ECHO_PORT, socket.SOCK_DGRAM) as serving,
            world.machine.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
        ):
            for one in (serving, asking):
                one.settimeout(PATIENCE_SECONDS)
            async with without_proxy(engine):
                content = os.urandom(length)
                asking.sendto(content, ("127.0.0.1", PORT))
                received, source = serving.recvfrom(65536)
                assert received == content
                serving.sendto(received[::-1], source)
                # An answer from anywhere else would be no answer to who has connected.
                assert asking.recvfrom(65536) == (content[::-1], ("127.0.0.1", PORT))


def sctp_packet(source_port, port, chunk_kind, tag):
    """An INIT or INIT ACK with nothing in it but what has to be (RFC 9260)."""
    chunk = struct.pack("!BBHIIHHI", chunk_kind, 0, 20, 0x5EED, 65536, 1, 1, 7)
    head = struct.pack("!HHI", source_port, port, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def crc32c(content):
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


async def test_sctp_is_led_there_and_back(world, engine):
    """By raw sockets: kernels without SCTP lead its packets all the same."""
    ports = (published(ECHO_PORT, PORT, protocol="sctp"),)
    async with running(engine, "web", published_ports=ports) as box:
        with (
            box.inside.open_socket(socket.AF_INET, socket.SOCK_RAW, SCTP) as serving,
            world.machine.open_socket(socket.AF_INET, socket.SOCK_RAW, SCTP) as asking,
        ):
            for one in (serving, asking):
                one.settimeout(PATIENCE_SECONDS)
            asking.sendto(sctp_packet(4000, PORT, 1, 0), ("127.0.0.1", 0))
            packet, source = serving.recvfrom(4096)
            source_port, port = struct.unpack_from("!HH", packet, 20)
            assert (source[0], port) == (await gateway_of(engine), ECHO_PORT)
            assert packet[20:] == sctp_packet(source_port, ECHO_PORT, 1, 0)
            serving.sendto(sctp_packet(ECHO_PORT, source_port, 2, 0x5EED), source)
            packet, source = asking.recvfrom(4096)
            assert source[0] == "127.0.0.1"
            assert packet[20:] == sctp_packet(PORT, 4000, 2, 0x5EED)


async def test_a_port_follows_the_container_while_it_runs(world, engine, store_paths):
    for name in ("front", "back"):
        await engine.create_network(NetworkRequest(name=name))
    await engine.create_network(NetworkRequest(name="inner", is_internal=True))
    async with running(engine, "web", "front", published_ports=BOTH) as box:
        with answering(box):
            for network, operation in (
                ("front", None),
                ("front", lambda: engine.connect_network("web", AttachmentRequest(network="back"))),
                ("back", lambda: engine.disconnect_network("web", "front")),
            ):
                if operation is not None:
                    await operation()
                seen = f"web sees {await gateway_of(engine, network)}"
                async with without_proxy(engine):
                    assert said_by(world.machine, "127.0.0.1", PORT) == seen
                    assert said_by_datagram(world.machine, "127.0.0.1", PORT) == seen
            await engine.connect_network("web", AttachmentRequest(network="inner"))
            await engine.disconnect_network("web", "back")
            # Only an internal network is left: nothing leads there any more.
            assert loopback_keys(store_paths) == []
            assert localnet(world, await bridge_of(engine, "inner")) == "0"
            await engine.connect_network("web", AttachmentRequest(network="back"))
            async with without_proxy(engine):
                assert said_by(world.machine, "127.0.0.1", PORT) == seen


async def test_restart_and_end_take_the_way_along(world, engine, store_paths):
    async with running(engine, "web", published_ports=BOTH):
        keys = loopback_keys(store_paths)
        assert len(keys) == 2
        await engine.restart_container("web", timeout_seconds=0)
        assert sorted(loopback_keys(store_paths)) == sorted(keys)
        await engine.stop_container("web", timeout_seconds=0)
        assert loopback_keys(store_paths) == []
        with pytest.raises(ConnectionRefusedError):
            said_by(world.machine, "127.0.0.1", PORT)


async def test_what_somebody_takes_away_is_there_again_after_the_next_start(
    world, engine, store_paths
):
    async with running(engine, "web", published_ports=BOTH) as box:
        network = await bridge_of(engine)
        with answering(box):
            with NetlinkSocket(NETFILTER) as connection:
                table = Firewall(store_paths.root).table
                connection.execute(transaction((delete_table(INET, table),)), what="flush")
            world.machine.configure(lambda route: route.link("del", ifname=network.bridge))
            async with running(engine, "other"):
                assert localnet(world, network) == "1"
                async with without_proxy(engine):
                    assert said_by(world.machine, "127.0.0.1", PORT).startswith("web sees ")


async def test_a_bridge_that_is_removed_leaves_nothing(world, engine, store_paths):
    network = await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front", published_ports=BOTH):
        await engine.stop_container("web", timeout_seconds=0)
        await engine.remove_network("front")
        with pytest.raises(FileNotFoundError):
            localnet(world, network)
        assert loopback_keys(store_paths) == []


# --- where it cannot be -----------------------------------------------------------------------

READ_ONLY = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "


async def test_where_settings_are_read_only_a_proxy_does_it_and_that_is_said(
    world, store_paths, starter_image
):
    """As in a container that may make networks and has the settings of the kernel read-only."""
    del starter_image
    world.machine.set("ipv4/ip_forward", "1")

    def lamella(*words):
        command = (sys.executable, "-m", "tui", *store_paths.options, *words)
        with world.machine.entered():
            return subprocess.run(
                ("unshare", "--mount", "sh", "-c", f'{READ_ONLY} "$@"', "sh", *command),
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                capture_output=True, text=True, check=True,
            )  # fmt: skip

    done = await asyncio.to_thread(
        lamella, "run", "-d", "--name", "web", "-p", f"{PORT}:{ECHO_PORT}", "starter", "sleep",
        "1000",
    )  # fmt: skip
    try:
        assert "127.0.0.1 leads to published ports by a proxy, at half the speed" in done.stderr
        assert "route_localnet cannot be set: Read-only file system" in done.stderr
        told = await asyncio.to_thread(lamella, "info")
        assert "a proxy leads 127.0.0.1 to published ports, at half the speed" in told.stdout
        async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
            details = await engine.inspect_container("web")
            assert loopback_keys(store_paths) == []
            box = await box_of(engine, "web")
            with contextlib.closing(box.inside), answering(box):
                assert details.summary.status == "running"
                for address in ("127.0.0.1", "::1"):
                    assert said_by(world.machine, address, PORT).startswith("web sees ")
                async with without_proxy(engine):
                    # Everybody else is led by the kernel as ever.
                    seen = f"web sees {world.neighbour.address4}"
                    assert said_by(world.neighbour, world.machine.address4, PORT) == seen
    finally:
        await asyncio.to_thread(lamella, "rm", "-f", "web")


def chains(world, table):
    listed = world.nft("--stateless", "list", "table", "inet", table)
    return listed[listed.index("chain ") :]


@pytest.mark.usefixtures("has_nft")
async def test_the_rules_of_an_earlier_version_become_these_and_keep_who_is_in_them(
    world, engine, store_paths, monkeypatch
):
    rules = Firewall(store_paths.root)

    def earlier_table(name):
        return [one for one in tables.main_table(name) if LOOPBACK_PORTS4.encode() not in one]

    with monkeypatch.context() as earlier:
        earlier.setattr(firewall, "main_table", earlier_table)
        earlier.setattr(firewall, "NEWEST_SET", PORTS4)
        earlier.setattr(NetworkDevices, "take_loopback", lambda *_any: (frozenset(), ()))
        old = await start_old(engine)
    with contextlib.closing(old.inside), answering(old):
        before, chains_before = rules.owners(), chains(world, rules.table)
        ports = (published(ECHO_PORT, PORT + 1),)
        async with running(engine, "web", published_ports=ports) as box:
            with answering(box):
                async with without_proxy(engine):
                    seen = f"web sees {await gateway_of(engine)}"
                    assert said_by(world.machine, "127.0.0.1", PORT + 1) == seen
            async with without_proxy(engine, "old"):
                assert said_by(world.neighbour, world.machine.address4, PORT).startswith("old")
            # What was started before goes on as it was.
            assert said_by(world.machine, "127.0.0.1", PORT).startswith("old sees ")
        assert rules.owners() == before
    upgraded = chains(world, rules.table)
    await engine.remove_container("old", is_forced=True)
    with NetlinkSocket(NETFILTER) as connection:
        connection.execute(transaction((delete_table(INET, rules.table),)), what="flush")
    rules.make(())
    assert upgraded == chains(world, rules.table) != chains_before


async def start_old(engine):
    """A container that publishes a port, which stays."""
    await engine.create_container(
        ContainerRequest(
            image=IMAGE,
            name="old",
            command=("sleep", "1000"),
            network=NetworkOptions(published_ports=BOTH),
        )
    )
    await engine.start_container("old")
    return await box_of(engine, "old")
