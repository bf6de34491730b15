"""Options of networks and of containers in them: each does what it says."""

import pytest

from engine.types import (
    AttachmentRequest,
    ContainerRequest,
    NetworkOptions,
    NetworkRequest,
    NetworkSubnet,
)
from tests.integration.network.inside import (
    IMAGE,
    box_of,
    is_silent,
    published,
    running,
    said_by,
)
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]


def answering(box):
    box.inside.address4 = box.address4
    return AnswersWithSource(box.inside)


def links_of(namespace, name):
    (link,) = namespace.configure(lambda route: list(route.get_links(ifname=name)))
    return link


async def test_frames_are_as_large_as_the_network_says(world, engine):
    options = (("com.docker.network.driver.mtu", "1380"),)
    network = await engine.create_network(NetworkRequest(name="small", options=options))
    async with running(engine, "web", "small") as box:
        assert links_of(box.inside, "eth0").get_attr("IFLA_MTU") == 1380
        assert links_of(world.machine, network.bridge).get_attr("IFLA_MTU") == 1380
        assert said_by(box.inside, world.web.address4, ECHO_PORT)


async def test_containers_that_may_not_speak_with_each_other_do_not(world, engine):
    options = (("com.docker.network.bridge.enable_icc", "false"),)
    await engine.create_network(NetworkRequest(name="apart", options=options))
    async with running(engine, "one", "apart") as one, running(engine, "two", "apart") as two:
        with answering(two):
            assert is_silent(one.inside, two.address4, ECHO_PORT)
            assert said_by(world.machine, two.address4, ECHO_PORT).startswith("two sees ")
            assert said_by(one.inside, world.web.address4, ECHO_PORT)


async def test_without_masquerade_a_container_is_seen_as_itself(world, engine):
    options = (("com.docker.network.bridge.enable_ip_masquerade", "false"),)
    network = await engine.create_network(NetworkRequest(name="routed", options=options))
    world.web.add_route(network.subnets[0].subnet, world.machine.address4)
    async with running(engine, "one", "routed") as one:
        assert said_by(one.inside, world.web.address4, ECHO_PORT) == f"web sees {one.address4}"


async def test_addresses_are_drawn_from_the_range(world, engine):
    del world
    subnet = NetworkSubnet(subnet="10.91.0.0/24", gateway="10.91.0.254", ip_range="10.91.0.128/30")
    await engine.create_network(NetworkRequest(name="ranged", subnets=(subnet,)))
    async with running(engine, "one", "ranged") as one, running(engine, "two", "ranged") as two:
        assert [one.address4, two.address4] == ["10.91.0.128", "10.91.0.129"]
        routes = one.inside.configure(lambda route: list(route.get_default_routes()))
        assert [each.get_attr("RTA_GATEWAY") for each in routes] == ["10.91.0.254"]


async def test_an_ipv6_address_of_choice_is_given(world, engine):
    subnet = NetworkSubnet(subnet="fd12:3456::/64", gateway="")
    await engine.create_network(NetworkRequest(name="six", subnets=(subnet,), has_ipv6=True))
    wanted = AttachmentRequest(network="six", ipv6_address="fd12:3456:0::0042")
    await engine.create_container(
        ContainerRequest(
            image=IMAGE,
            name="web",
            command=("sleep", "1000"),
            network=NetworkOptions(attachments=(wanted,)),
        )
    )
    await engine.start_container("web")
    (attachment,) = (await engine.inspect_container("web")).attachments
    assert attachment.ipv6_address == "fd12:3456::42/64"
    box = await box_of(engine, "web")
    assert said_by(box.inside, world.web.address6, ECHO_PORT)
    box.inside.close()


async def test_every_exposed_port_is_published_when_all_are_asked_for(world, engine):
    options = {
        "publishes_all": True,
        "exposed_ports": (f"{ECHO_PORT}", "8000-8001/udp"),
        "published_ports": (published(8001, 9999, protocol="udp"),),
    }
    async with running(engine, "web", **options) as box:
        ports = (await engine.inspect_container("web")).summary.ports
        assert {(one.container_port, one.protocol) for one in ports} == {
            (ECHO_PORT, "tcp"),
            (8000, "udp"),
            (8001, "udp"),
        }
        numbers = {(one.container_port, one.protocol): one.host_port for one in ports}
        # What was asked for by itself is not published a second time.
        assert numbers[8001, "udp"] == 9999
        with answering(box):
            drawn = numbers[ECHO_PORT, "tcp"]
            assert said_by(world.neighbour, world.machine.address4, drawn).startswith("web")
