"""Containers in networks: out, in, between, and what keeps them apart."""

import contextlib
import errno
import socket
import time

import pytest

from engine.errors import (
    AddressInUseError,
    AttachmentError,
    FeatureUnavailableError,
    NetworkInUseError,
    NetworkNotFoundError,
    PortInUseError,
)
from engine.linux.netfilter import add_table
from engine.network import firewall
from engine.network.firewall import Firewall
from engine.types import (
    AttachmentRequest,
    ContainerRequest,
    NetworkOptions,
    NetworkRequest,
    NetworkSubnet,
)
from tests.integration.network.inside import (
    IMAGE,
    attached,
    box_of,
    is_silent,
    published,
    running,
    said_by,
    said_by_datagram,
)
from tests.worlds import ECHO_PORT, WEB_PORT, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]


@contextlib.contextmanager
def answering(box):
    """Have a container answer at its ports as the servers of the world do."""
    box.inside.address4 = box.address4
    with AnswersWithSource(box.inside):
        yield


async def test_a_container_reaches_the_world_by_the_name_of_its_host(world, engine):
    async with running(engine, "web") as box:
        for ask, port in ((said_by, ECHO_PORT), (said_by_datagram, ECHO_PORT)):
            assert ask(box.inside, world.web.address4, port) == (
                f"web sees {world.machine.address4}"
            )
        assert box.inside.links() == {"lo", "eth0"}
    assert world.machine.setting("ipv4/ip_forward") == "1"


async def test_two_containers_reach_each_other_as_themselves(world, engine):
    del world
    async with running(engine, "one") as one, running(engine, "two") as two:
        assert one.address4 != two.address4
        with answering(two):
            assert said_by(one.inside, two.address4, ECHO_PORT) == f"two sees {one.address4}"


async def test_the_host_reaches_a_container_and_others_do_not(world, engine):
    async with running(engine, "web") as box:
        world.neighbour.add_route("10.80.0.0/13", world.machine.address4)
        with answering(box):
            assert said_by(world.machine, box.address4, ECHO_PORT).startswith("web sees 10.")
            # Somebody beside the host who routes to it finds only what is published.
            assert is_silent(world.neighbour, box.address4, ECHO_PORT)


async def test_networks_are_apart_and_an_internal_one_is_alone(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_network(NetworkRequest(name="back", is_internal=True))
    async with (
        running(engine, "one", "front") as one,
        running(engine, "two", "back") as two,
        running(engine, "three", "back") as three,
    ):
        with answering(one), answering(two), answering(three):
            assert said_by(two.inside, three.address4, ECHO_PORT) == f"three sees {two.address4}"
            assert is_silent(one.inside, two.address4, ECHO_PORT)
            two.inside.add_route("default", two.address4.rpartition(".")[0] + ".1")
            assert is_silent(two.inside, one.address4, ECHO_PORT)
            assert is_silent(two.inside, world.web.address4, ECHO_PORT)
            assert said_by(one.inside, world.web.address4, ECHO_PORT)


async def test_a_published_port_is_reached_from_everywhere(world, engine):
    ports = (published(ECHO_PORT, 8080), published(ECHO_PORT, 8080, protocol="udp"))
    async with (
        running(engine, "web", published_ports=ports) as box,
        running(engine, "other") as other,
    ):
        with answering(box):
            machine, neighbour = world.machine.address4, world.neighbour
            for ask in (said_by, said_by_datagram):
                assert ask(neighbour, machine, 8080) == f"web sees {neighbour.address4}"
                assert ask(world.machine, machine, 8080).startswith("web sees ")
                assert ask(other.inside, machine, 8080).startswith("web sees ")
                # From itself, by the host and back.
                assert ask(box.inside, machine, 8080).startswith("web sees ")


async def test_who_goes_on_sending_datagrams_reaches_the_next_container(world, engine):
    ports = (published(ECHO_PORT, 8080, protocol="udp"),)
    with world.neighbour.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.connect((world.machine.address4, 8080))

        def answer():
            asking.send(b"hello")
            return asking.recv(100).decode()

        async with running(engine, "first", published_ports=ports) as first:
            with answering(first):
                assert answer().startswith("first sees ")
        async with running(engine, "heir") as heir:
            # Somebody else has the address to which the kernel has led them so far.
            assert heir.address4 == first.address4
            async with running(engine, "second", published_ports=ports) as second:
                with answering(second), answering(heir):
                    assert answer().startswith("second sees ")


async def test_ipv6_goes_out_and_comes_in(world, engine):
    await engine.create_network(NetworkRequest(name="six", has_ipv6=True))
    ports = (published(ECHO_PORT, 8080),)
    async with (
        running(engine, "web", "six", published_ports=ports) as box,
        running(engine, "other", "six") as other,
    ):
        (member, _other) = sorted(
            (await engine.inspect_network("six")).members, key=lambda one: one.container_name
        )[::-1]
        address6 = member.ipv6_address.partition("/")[0]
        with answering(box):
            assert said_by(box.inside, world.web.address6, ECHO_PORT) == (
                f"web sees {world.machine.address6}"
            )
            assert said_by(other.inside, address6, ECHO_PORT).startswith("web sees fd")
            assert said_by(world.neighbour, world.machine.address6, 8080) == (
                f"web sees {world.neighbour.address6}"
            )
            for asking in (world.machine, other.inside, box.inside):
                assert said_by(asking, world.machine.address6, 8080).startswith("web sees ")


async def test_one_address_of_the_host_publishes_at_no_other(world, engine):
    world.machine.add_address("uplink", "192.0.2.11/24")
    ports = (published(ECHO_PORT, 8080, host_address="192.0.2.11"),)
    async with running(engine, "web", published_ports=ports) as box:
        with answering(box):
            assert said_by(world.neighbour, "192.0.2.11", 8080).startswith("web sees ")
            with pytest.raises(ConnectionRefusedError):
                said_by(world.neighbour, world.machine.address4, 8080)


async def test_a_port_that_somebody_has_is_refused_before_anything_starts(world, engine):
    with world.machine.listen("0.0.0.0", 8080):
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name="web",
                command=("sleep", "1000"),
                network=NetworkOptions(published_ports=(published(80, 8080),)),
            )
        )
        with pytest.raises(PortInUseError, match=r"Bind for 0\.0\.0\.0:8080 failed: port is al"):
            await engine.start_container("web")
        assert (await engine.inspect_container("web")).summary.status == "created"
    await engine.start_container("web")
    with pytest.raises(OSError, match="in use"):
        world.machine.listen("0.0.0.0", 8080)
    async with running(engine, "second") as second:
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name="third",
                network=NetworkOptions(published_ports=(published(80, 8080),)),
            )
        )
        with pytest.raises(PortInUseError):
            await engine.start_container("third")
        assert second.address4
    await engine.stop_container("web", timeout_seconds=0)
    # With the container the reservation is gone, at once.
    world.machine.listen("0.0.0.0", 8080).close()


async def test_ports_are_drawn_from_all_and_from_ranges(world, engine):
    ports = tuple(published(80, 9000, host_port_end=9002) for _ in range(3))
    async with running(engine, "web", published_ports=(*ports, published(81))):
        details = await engine.inspect_container("web")
        numbers = {one.host_port for one in details.summary.ports if one.container_port == 80}
        assert numbers == {9000, 9001, 9002}
        (drawn,) = {one.host_port for one in details.summary.ports if one.container_port == 81}
        with pytest.raises(OSError, match="in use"):
            world.machine.listen("0.0.0.0", drawn)


async def test_an_address_of_choice_is_one_containers_alone(world, engine):
    del world
    subnet = NetworkSubnet(subnet="10.91.0.0/29", gateway="10.91.0.1")
    await engine.create_network(NetworkRequest(name="small", subnets=(subnet,)))
    wanted = AttachmentRequest(
        network="small", ipv4_address="10.91.0.6", mac_address="02:00:00:00:00:66"
    )
    for name in ("one", "two"):
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name=name,
                command=("sleep", "1000"),
                network=NetworkOptions(attachments=(wanted,)),
            )
        )
    await engine.start_container("one")
    box = await box_of(engine, "one")
    assert (box.address4, box.mac) == ("10.91.0.6", "02:00:00:00:00:66")
    with contextlib.closing(box.inside) as inside:
        found = inside.configure(lambda route: route.get_addr(label="eth0"))
        assert [one.get_attr("IFA_ADDRESS") for one in found] == ["10.91.0.6"]
    with pytest.raises(AddressInUseError, match=r"Address already in use: 10\.91\.0\.6"):
        await engine.start_container("two")
    # Of one that has ended it goes to who asks for it.
    await engine.stop_container("one", timeout_seconds=0)
    await engine.start_container("two")


async def test_a_container_comes_back_with_its_address(world, engine):
    del world
    async with running(engine, "one") as one, running(engine, "two") as two:
        await engine.restart_container("one", timeout_seconds=0)
        again = await box_of(engine, "one")
        again.inside.close()
        assert again.address4 == one.address4 != two.address4


async def test_networks_are_joined_and_left_while_a_container_runs(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front") as web, running(engine, "client") as client:
        with answering(web):
            assert is_silent(client.inside, web.address4, ECHO_PORT)
            await engine.connect_network("client", AttachmentRequest(network="front"))
            assert client.inside.links() == {"lo", "eth0", "eth1"}
            joined = await box_of(engine, "client")
            joined.inside.close()
            assert said_by(client.inside, web.address4, ECHO_PORT) == (
                f"web sees {joined.addresses['front']}"
            )
            assert said_by(client.inside, world.web.address4, ECHO_PORT)
            with pytest.raises(NetworkInUseError, match=r'active endpoints .*name:"client"'):
                await engine.remove_network("front")
            # The way out was the first network: now it is the other one.
            await engine.disconnect_network("client", "bridge")
            assert client.inside.links() == {"lo", "eth1"}
            assert said_by(client.inside, world.web.address4, ECHO_PORT)
            await engine.disconnect_network("client", "front")
            assert client.inside.links() == {"lo"}
            with pytest.raises(OSError, match="unreachable"):
                said_by(client.inside, world.web.address4, ECHO_PORT)
            await engine.connect_network("client", AttachmentRequest(network="bridge"))
            assert said_by(client.inside, world.web.address4, ECHO_PORT)


async def test_the_network_of_another_container_is_shared_with_all_that_is_in_it(world, engine):
    async with running(engine, "web") as web:
        async with running(engine, "side", mode="container:web") as side:
            assert side.inside.links() == web.inside.links()
            with web.inside.listen("127.0.0.1", 7777):
                side.inside.run(lambda: socket.create_connection(("127.0.0.1", 7777), 5)).close()
            with pytest.raises(AttachmentError, match="sharing network namespace"):
                await engine.connect_network("side", AttachmentRequest(network="bridge"))
        assert said_by(web.inside, world.web.address4, WEB_PORT)


async def test_the_hosts_network_is_the_hosts(world, engine):
    forwarding = world.machine.setting("ipv4/ip_unprivileged_port_start")
    async with running(engine, "web", mode="host") as box:
        assert box.inside.links() == world.machine.links()
        assert world.machine.setting("ipv4/ip_unprivileged_port_start") == forwarding
        result = await engine.list_processes("web")
        assert result


async def test_without_a_network_there_is_the_loopback_alone(world, engine):
    del world
    async with running(engine, "web", mode="none") as box:
        assert box.inside.links() == {"lo"}


@pytest.mark.usefixtures("has_nft")
async def test_what_somebody_removes_is_made_again_at_the_next_start(world, engine, store_paths):
    rules = Firewall(store_paths.root)
    await engine.create_network(NetworkRequest(name="front"))
    ports = (published(ECHO_PORT, 8080),)
    async with (
        running(engine, "web", published_ports=ports) as box,
        running(engine, "two", "front"),
    ):
        whole = rules.owners()
        with answering(box):
            world.nft("flush", "ruleset")
            bridge = (await engine.inspect_network("bridge")).network.bridge
            world.machine.configure(lambda route: route.link("del", ifname=bridge))
            # Somebody who is in another network finds it, and puts right what is all the others'.
            async with running(engine, "other", "front") as other:
                assert said_by(other.inside, world.web.address4, ECHO_PORT)
                assert said_by(box.inside, world.web.address4, ECHO_PORT)
                assert said_by(world.neighbour, world.machine.address4, 8080).startswith("web")
        assert rules.owners() == whole
        world.nft("delete", "table", "bridge", rules.table)
        assert rules.owners() != whole
        async with running(engine, "other"):
            pass
        assert rules.owners() == whole


async def test_without_rules_for_bridges_it_works_and_that_is_said(world, engine, monkeypatch):
    """As on kernels without them, which refuse the family."""
    monkeypatch.setattr(firewall, "guard_table", lambda name: [add_table(99, name)])
    async with running(engine, "one") as one, running(engine, "two") as two:
        with answering(two):
            assert said_by(one.inside, two.address4, ECHO_PORT) == f"two sees {one.address4}"
            assert said_by(one.inside, world.web.address4, ECHO_PORT)
        (warning,) = (await engine.inspect_container("two")).warnings
        assert warning.startswith("Containers of one network can pretend to be each other")


async def test_a_kernel_without_netfilter_gives_the_loopback_and_says_so(
    world, engine, monkeypatch
):
    def refuse(_protocol):
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(firewall, "NetlinkSocket", refuse)
    before = world.machine.links()
    async with running(engine, "web") as box:
        assert box.inside.links() == {"lo"}
        (warning,) = (await engine.inspect_container("web")).warnings
        assert "the kernel has no netfilter: the container has only its loopback" in warning
        assert "--network host" in warning
    # What was asked for is not left out in silence.
    await engine.create_network(NetworkRequest(name="front"))
    for name, options in (
        ("in", NetworkOptions(attachments=attached("front"))),
        ("published", NetworkOptions(published_ports=(published(80, 8080),))),
    ):
        await engine.create_container(ContainerRequest(image=IMAGE, name=name, network=options))
        with pytest.raises(FeatureUnavailableError, match="a network is not available here"):
            await engine.start_container(name)
    assert world.machine.links() == before
    async with running(engine, "host", mode="host") as box:
        assert box.inside.links() == before


async def test_a_removed_network_takes_its_device_along(world, engine):
    before = world.machine.links()
    network = await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front"):
        assert network.bridge in world.machine.links()
        await engine.stop_container("web", timeout_seconds=0)
        await engine.remove_network("front")
        assert network.bridge not in world.machine.links()
    # The kernel takes the container's end, and with it ours, down a moment after its last process.
    deadline = time.monotonic() + 10
    while world.machine.links() != before:
        assert time.monotonic() < deadline


async def test_a_network_that_is_gone_is_said_at_the_start(world, engine):
    del world
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_container(
        ContainerRequest(
            image=IMAGE, name="web", network=NetworkOptions(attachments=attached("front"))
        )
    )
    await engine.remove_network("front")
    with pytest.raises(NetworkNotFoundError):
        await engine.start_container("web")
