"""What containers meet on hosts: others' rules, VPNs, nothing on PATH, and a great many of them."""

import asyncio
import contextlib
import json
import socket
import tempfile
from pathlib import Path

import pytest

from engine.api import open_engine
from engine.errors import PortInUseError
from engine.network.firewall import Firewall
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, NetworkRequest
from tests.conftest import StorePaths, remove_store
from tests.integration.network.inside import (
    IMAGE,
    attached,
    box_of,
    is_silent,
    published,
    running,
    said_by,
)
from tests.namespaces import Namespace, add_bridge, connect_namespaces
from tests.workers import STORE_PREFIX
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]

# As Docker 26 writes them with iptables-nft, for docker0 and a port that it has published.
DOCKER = """
table ip nat {
    chain DOCKER {
        iifname "docker0" counter return
        iifname != "docker0" tcp dport 9090 counter dnat to 172.17.0.2:7
    }
    chain PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local counter jump DOCKER
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local counter jump DOCKER
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade
    }
}
table ip filter {
    chain DOCKER {
        iifname != "docker0" oifname "docker0" ip daddr 172.17.0.2 tcp dport 7 counter accept
    }
    chain DOCKER-ISOLATION-STAGE-1 {
        iifname "docker0" oifname != "docker0" counter jump DOCKER-ISOLATION-STAGE-2
        counter return
    }
    chain DOCKER-ISOLATION-STAGE-2 {
        oifname "docker0" counter drop
        counter return
    }
    chain DOCKER-USER {
        counter return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        counter jump DOCKER-ISOLATION-STAGE-1
        oifname "docker0" ct state related,established counter accept
        oifname "docker0" counter jump DOCKER
        iifname "docker0" oifname != "docker0" counter accept
        iifname "docker0" oifname "docker0" counter accept
    }
}
"""


def rules_of_others(world):
    told = json.loads(world.nft("--json", "list", "ruleset"))
    found = []
    for entry in told["nftables"]:
        for kind, body in entry.items():
            name = body.get("name" if kind == "table" else "table", "")
            if kind != "metainfo" and not name.startswith("lamella"):
                for counter in body.get("expr", ()):
                    counter.pop("counter", None)
                found.append((kind, json.dumps(body, sort_keys=True)))
    return found


@contextlib.contextmanager
def dockers_container(world):
    """A bridge with a container behind it and rules, as Docker would have made them."""
    with contextlib.closing(Namespace("docker")) as inside:
        add_bridge(world.machine, "docker0")
        world.machine.add_address("docker0", "172.17.0.1/16")
        connect_namespaces(inside, "eth0", world.machine, "vethdocker", bridge="docker0")
        inside.add_address("eth0", "172.17.0.2/16")
        inside.add_route("default", "172.17.0.1")
        inside.address4 = "172.17.0.2"
        world.machine.set("ipv4/ip_forward", "1")
        with AnswersWithSource(inside):
            yield inside


@pytest.mark.usefixtures("has_nft")
async def test_dockers_rules_stay_and_both_work(world, engine):
    world.nft("-f", "-", rules=DOCKER)
    before = rules_of_others(world)
    with dockers_container(world) as docker:
        ports = (published(ECHO_PORT, 8080),)
        async with running(engine, "web", published_ports=ports) as box:
            details = await engine.inspect_container("web")
            # Docker drops what it does not know, and that is said with what helps.
            (warning,) = [text for text in details.warnings if "ip filter" in text]
            assert "DOCKER-USER" in warning
            assert is_silent(box.inside, world.web.address4, ECHO_PORT)
            for way in ("iifname", "oifname"):
                world.nft("insert", "rule", "ip", "filter", "DOCKER-USER", way, '"lm-*"', "accept")
            box.inside.address4 = box.address4
            with AnswersWithSource(box.inside):
                assert said_by(box.inside, world.web.address4, ECHO_PORT)
                assert said_by(world.neighbour, world.machine.address4, 8080).startswith("web")
                assert said_by(docker, world.web.address4, ECHO_PORT) == (
                    f"web sees {world.machine.address4}"
                )
                assert said_by(world.neighbour, world.machine.address4, 9090).startswith("docker")
                # Docker's are outside, as everybody is.
                assert is_silent(docker, box.address4, ECHO_PORT)
        await engine.create_network(NetworkRequest(name="front"))
        await engine.remove_network("front")
    world.nft("flush", "chain", "ip", "filter", "DOCKER-USER")
    world.nft("add", "rule", "ip", "filter", "DOCKER-USER", "counter", "return")
    after = rules_of_others(world)
    assert [kind for kind, _body in after] == [kind for kind, _body in before]
    assert {body for kind, body in after if kind != "rule"} == {
        body for kind, body in before if kind != "rule"
    }


async def test_what_a_vpn_has_is_not_drawn_and_what_it_takes_is_said(world, engine):
    # Whatever its kind, it is a device with routes.
    add_bridge(world.machine, "tun-vpn")

    def lead(destination):
        world.machine.configure(
            lambda route: route.route(
                "add", dst=destination, oif=route.link_lookup(ifname="tun-vpn")[0]
            )
        )

    # The halves that lead everything through a VPN are no addresses of its own.
    lead("0.0.0.0/1")
    lead("10.0.0.0/8")
    network = await engine.create_network(NetworkRequest(name="front"))
    subnet = network.subnets[0].subnet
    assert subnet.startswith("192.168.")
    assert (await engine.inspect_network("front")).warnings == ()
    lead(subnet)
    (warning,) = (await engine.inspect_network("front")).warnings
    assert subnet in warning
    assert "tun-vpn" in warning


async def test_forwarding_is_set_and_said(world, engine):
    assert world.machine.setting("ipv4/ip_forward") == "0"
    async with running(engine, "web"):
        details = await engine.inspect_container("web")
        assert any("net.ipv4.ip_forward was set to 1" in text for text in details.warnings)
    async with running(engine, "again"):
        assert not (await engine.inspect_container("again")).warnings


async def test_no_program_of_the_hosts_is_needed(world, engine, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    await engine.create_network(NetworkRequest(name="front", has_ipv6=True))
    ports = (published(ECHO_PORT, 8080),)
    async with running(engine, "web", "front", published_ports=ports) as box:
        box.inside.address4 = box.address4
        with AnswersWithSource(box.inside):
            assert said_by(box.inside, world.web.address4, ECHO_PORT)
            assert said_by(box.inside, world.web.address6, ECHO_PORT)
            assert said_by(world.neighbour, world.machine.address4, 8080).startswith("web")
            for address in ("127.0.0.1", "::1"):
                assert said_by(world.machine, address, 8080).startswith("web")
        await engine.connect_network("web", AttachmentRequest(network="bridge"))
        await engine.disconnect_network("web", "front")
    front = await engine.inspect_network("front")
    await engine.remove_network("front")
    assert front.network.bridge not in world.machine.links()


async def test_two_hundred_ports_lead_to_one_container(world, engine):
    numbers = range(20_000, 20_200)
    ports = tuple(published(ECHO_PORT, number) for number in numbers)
    async with running(engine, "web", published_ports=ports) as box:
        box.inside.address4 = box.address4
        with AnswersWithSource(box.inside):

            def ask_all():
                for number in numbers:
                    address = (world.machine.address4, number)
                    with socket.create_connection(address, timeout=10) as asking:
                        asking.sendall(b"\n")
                        assert asking.makefile().readline().startswith("web sees ")

            world.neighbour.run(ask_all)
        details = await engine.inspect_container("web")
        assert [one.host_port for one in details.summary.ports] == list(numbers)
    for number in numbers:
        world.machine.listen("0.0.0.0", number).close()


async def test_a_range_of_thousands_leads_to_one_container(world, engine, store_paths):
    """More than one attribute, one packet or the usual number of descriptors has room for."""
    numbers = range(20_000, 22_000)
    await engine.create_network(NetworkRequest(name="back", has_ipv6=True))
    ports = tuple(published(ECHO_PORT, number) for number in numbers)
    async with running(engine, "web", "back", published_ports=ports) as box:
        box.inside.address4 = box.address4
        with AnswersWithSource(box.inside):
            for number in (numbers[0], numbers[-1]):
                for address in (world.machine.address4, world.machine.address6):
                    assert said_by(world.neighbour, address, number).startswith("web sees ")
                assert said_by(world.machine, "127.0.0.1", number).startswith("web sees ")
        await engine.connect_network("web", AttachmentRequest(network="bridge"))
        await engine.disconnect_network("web", "back")
        joined = await box_of(engine, "web")
        with contextlib.closing(joined.inside) as inside:
            inside.address4 = joined.address4
            with AnswersWithSource(inside):
                machine = world.machine.address4
                assert said_by(world.neighbour, machine, numbers[-1]).startswith("web sees ")
        await engine.stop_container("web", timeout_seconds=0)
    world.machine.listen("0.0.0.0", numbers[-1]).close()
    assert Firewall(store_paths.root).owners() == {}


async def test_a_hundred_containers_are_on_one_bridge(world, engine):
    await engine.create_network(NetworkRequest(name="crowd"))
    names = [f"web-{number}" for number in range(100)]
    for name in names:
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name=name,
                command=("sleep", "1000"),
                network=NetworkOptions(attachments=attached("crowd")),
            )
        )
    await asyncio.gather(*(engine.start_container(name) for name in names))
    members = (await engine.inspect_network("crowd")).members
    addresses = {one.ipv4_address for one in members}
    assert len(members) == len(addresses) == 100
    assert len({one.mac_address for one in members}) == 100
    first, last = await box_of(engine, names[0]), await box_of(engine, names[-1])
    with contextlib.closing(first.inside), contextlib.closing(last.inside):
        last.inside.address4 = last.address4
        with AnswersWithSource(last.inside):
            assert said_by(first.inside, last.address4, ECHO_PORT) == (
                f"{names[-1]} sees {first.address4}"
            )
        assert said_by(first.inside, world.web.address4, ECHO_PORT)
    await asyncio.gather(*(engine.remove_container(name, is_forced=True) for name in names))
    assert (await engine.inspect_network("crowd")).members == ()


@pytest.fixture
def other_store(starter_store):
    top = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    starter_store.copy_to(top / "root")
    yield StorePaths(root=top / "root", run=top / "run")
    remove_store(top)


async def test_two_stores_of_one_host_leave_each_other_alone(
    world, engine, store_paths, other_store
):
    ours, theirs = Firewall(store_paths.root), Firewall(other_store.root)
    ports = (published(ECHO_PORT, 8080),)
    async with running(engine, "ours", published_ports=ports) as box:
        box.inside.address4 = box.address4
        with AnswersWithSource(box.inside):
            async with (
                open_engine(root=other_store.root, run=other_store.run) as second,
                running(second, "theirs") as other,
            ):
                assert other.address4 != box.address4
                assert said_by(other.inside, world.web.address4, ECHO_PORT)
                # Another store's networks are others', as every network is.
                assert is_silent(other.inside, box.address4, ECHO_PORT)
                assert len(theirs.owners()) == len(ours.owners()) == 1
                await second.create_container(clashing())
                with pytest.raises(PortInUseError):
                    await second.start_container("clashing")
            assert theirs.owners() == {}
            assert len(ours.owners()) == 1
            assert said_by(world.neighbour, world.machine.address4, 8080).startswith("ours")


def clashing():
    return ContainerRequest(
        image=IMAGE, name="clashing", network=NetworkOptions(published_ports=(published(80, 8080),))
    )
