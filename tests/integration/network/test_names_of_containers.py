"""Containers that find each other by name, and what their /etc says of it."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from engine.containers import network_files
from engine.errors import EngineError
from engine.linux.process import CLONE_NEWUTS, enter_namespaces
from engine.network import naming
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, NetworkRequest
from tests.integration.network.inside import (
    IMAGE,
    box_of,
    published,
    running,
    said_by,
    said_by_datagram,
)
from tests.questions import AAAA, NAME_ERROR, NO_ERROR, PTR, SERVER_FAILURE, Answer, question, wire
from tests.worlds import AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]


@pytest.fixture(autouse=True)
def host_files(world, monkeypatch, tmp_path):
    """The machine's own resolv.conf and hosts, which a test process has no namespace for."""
    hosts = tmp_path / "host-hosts"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.10 machine\n")
    for module in (network_files, naming):
        monkeypatch.setattr(module, "HOST_RESOLVER_PATH", str(world.resolver))
    monkeypatch.setattr(network_files, "HOST_HOSTS_PATH", str(hosts))
    monkeypatch.setattr(network_files, "SYSTEMD_RESOLVER_PATH", str(tmp_path / "none"))
    return hosts


def ask(box, name, kind=1):
    """Ask as libc of the container does: 127.0.0.11, port 53."""
    with box.inside.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(("127.0.0.11", 53))
        client.send(question(name, kind))
        return Answer(client.recv(4096))


def ask_by_tcp(box, name):
    with box.inside.open_socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(("127.0.0.11", 53))
        message = question(name)
        client.sendall(len(message).to_bytes(2) + message)
        return Answer(client.recv(4096)[2:])


async def file_of(engine, name, path):
    """What a program of the container reads."""
    details = await engine.inspect_container(name)
    return Path(f"/proc/{details.process_id}/root{path}").read_text()


async def hostname_of(engine, name):
    """What a program that is run in the container is told to be called."""
    details = await engine.inspect_container(name)
    namespace = os.open(f"/proc/{details.process_id}/ns/uts", os.O_RDONLY)
    own = os.open("/proc/thread-self/ns/uts", os.O_RDONLY)
    try:
        enter_namespaces(namespace, CLONE_NEWUTS)
        try:
            return os.uname().nodename
        finally:
            enter_namespaces(own, CLONE_NEWUTS)
    finally:
        os.close(namespace)
        os.close(own)


def lines(text):
    return [line.split() for line in text.splitlines()]


async def test_containers_of_a_network_find_each_other_by_all_their_names(engine):
    await engine.create_network(NetworkRequest(name="front", has_ipv6=True))
    request = ContainerRequest(
        image=IMAGE,
        name="web",
        command=("sleep", "1000"),
        hostname="frontend",
        network=NetworkOptions(
            attachments=(AttachmentRequest(network="front", aliases=("www", "api.v1")),)
        ),
    )
    made = await engine.create_container(request)
    await engine.start_container("web")
    web = await box_of(engine, "web")
    with contextlib.closing(web.inside):
        async with running(engine, "db", "front") as db:
            for name in ("web", "WWW", "api.v1", "frontend", made.container_id[:12], "web.front"):
                for answer in (ask(db, name), ask_by_tcp(db, name)):
                    assert answer.addresses == [web.address4], name
            assert ask(db, "db").addresses == [db.address4]
            assert ask(web, "db").addresses == [db.address4]
            assert len(ask(web, "db", AAAA).addresses) == 1
            reverse = ".".join(reversed(web.address4.split("."))) + ".in-addr.arpa"
            assert ask(db, reverse, PTR).contents == [(PTR, wire("web.front"))]
        # Who has ended is nobody any more.
        assert ask(web, "db").code == NAME_ERROR


async def test_other_names_are_the_worlds(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_network(NetworkRequest(name="alone", is_internal=True))
    async with running(engine, "web", "front") as web, running(engine, "secret", "alone") as secret:
        assert ask(web, "web.example.test").addresses == [world.web.address4]
        assert ask_by_tcp(web, "web.example.test").addresses == [world.web.address4]
        assert ask(web, "nobody.example.test").code == NAME_ERROR
        asked = len(world.name_server.questions)
        assert ask(secret, "secret").addresses == [secret.address4]
        assert ask(secret, "leak.example.test").code == SERVER_FAILURE
        assert len(world.name_server.questions) == asked


async def test_names_of_another_network_are_unknown_until_it_is_joined(engine):
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_network(NetworkRequest(name="back"))
    async with running(engine, "web", "front") as web, running(engine, "db", "back") as db:
        assert ask(web, "db").code == NAME_ERROR
        await engine.connect_network("web", AttachmentRequest(network="back", aliases=("client",)))
        assert ask(web, "db").addresses == [db.address4]
        both = await box_of(engine, "web")
        with contextlib.closing(both.inside):
            assert ask(db, "client").addresses == [both.addresses["back"]]
        text = await file_of(engine, "web", "/etc/hosts")
        assert {words[0] for words in lines(text) if "web" in words} == {*both.addresses.values()}

        await engine.disconnect_network("web", "back")
        assert ask(web, "db").code == NAME_ERROR
        assert ask(db, "client").code == NAME_ERROR
        text = await file_of(engine, "web", "/etc/hosts")
        assert {words[0] for words in lines(text) if "web" in words} == {web.address4}


async def test_a_container_of_the_default_network_gets_a_resolver_with_its_first_other(engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "db", "front") as db, running(engine, "web") as web:
        before = lines(await file_of(engine, "web", "/etc/resolv.conf"))
        assert before == [
            ["nameserver", "192.0.2.53"],
            ["search", "example.test"],
            ["options", "timeout:2"],
        ]
        await engine.connect_network("web", AttachmentRequest(network="front"))
        assert ask(web, "db").addresses == [db.address4]
        after = lines(await file_of(engine, "web", "/etc/resolv.conf"))
        assert after == [
            ["nameserver", "127.0.0.11"],
            ["search", "example.test"],
            ["options", "timeout:2", "ndots:0"],
        ]
        await engine.disconnect_network("web", "front")
        assert lines(await file_of(engine, "web", "/etc/resolv.conf")) == before


async def test_a_new_name_is_found_at_once_and_the_old_one_no_more(engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front") as web, running(engine, "db", "front") as db:
        await engine.rename_container("db", "data")
        try:
            assert ask(web, "data").addresses == [db.address4]
            assert ask(web, "db").code == NAME_ERROR
            own = lines(await file_of(engine, "data", "/etc/hosts"))[-1]
            assert (own[0], own[-1]) == (db.address4, "data")
        finally:
            await engine.rename_container("data", "db")


async def test_names_go_on_with_no_application_open_and_are_there_again_after_a_restart(
    world, engine, store_paths
):
    from engine.api import open_engine

    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front") as web, running(engine, "db", "front") as db:
        async with open_engine(root=store_paths.root, run=store_paths.run) as other:
            await other.restart_container("db", timeout_seconds=0)
        again = await box_of(engine, "db")
        with contextlib.closing(again.inside):
            assert ask(web, "db").addresses == [again.address4]
            assert ask(again, "web").addresses == [web.address4]
        del db
    assert not list(store_paths.run.glob("networks/*/members/*"))
    assert not list(store_paths.run.glob("containers/*/network.json"))


async def test_a_server_that_is_killed_is_followed_by_another(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front", published_ports=(published(7, 8007),)) as web:
        assert ask(web, "web").code == NO_ERROR
        (server,) = servers_of(await engine.inspect_container("web"))
        server.kill()
        # Asked while there is nobody: the kernel keeps it for the next one.
        assert ask(web, "web").addresses == [web.address4]
        web.inside.address4 = web.address4
        with AnswersWithSource(web.inside):
            assert said_by(world.machine, "127.0.0.1", 8007).startswith("web sees ")


async def test_a_killed_monitor_takes_its_server_along_and_its_names_go_with_the_next_look(
    engine, store_paths
):
    import psutil

    from engine.api import open_engine
    from tests.processes import ended

    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front") as web, running(engine, "db", "front") as db:
        assert ask(db, "web").code == NO_ERROR
        details = await engine.inspect_container("db")
        (server,) = servers_of(details)
        psutil.Process(details.process_id).parent().kill()
        await ended(server.pid)
        async with open_engine(root=store_paths.root, run=store_paths.run) as other:
            await other.list_containers()
        assert ask(web, "db").code == NAME_ERROR


@pytest.mark.parametrize("reason", ["no such program", "no file of hosts"])
async def test_who_does_not_start_has_no_names(engine, store_paths, reason):
    await engine.create_network(NetworkRequest(name="front"))
    request = ContainerRequest(
        image=IMAGE,
        name="web",
        command=("/no/such/program",) if reason == "no such program" else ("sleep", "1000"),
        network=NetworkOptions(attachments=(AttachmentRequest(network="front"),)),
    )
    made = await engine.create_container(request)
    if reason == "no file of hosts":
        (store_paths.root / "containers" / made.container_id / "hosts").unlink()

    with pytest.raises(EngineError):
        await engine.start_container("web")

    assert not list(store_paths.run.glob("networks/*/members/*"))
    assert not list(store_paths.run.glob("containers/*/network.json"))


def servers_of(details):
    import psutil

    monitor = psutil.Process(details.process_id).parent()
    return [each for each in monitor.children() if each.name() == "lamella-network"]


async def test_a_container_with_nothing_to_serve_has_no_server(engine):
    async with running(engine, "web"):
        assert not servers_of(await engine.inspect_container("web"))


# --- options ----------------------------------------------------------------------------------


async def test_what_was_asked_for_is_in_the_files(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(
        engine,
        "web",
        "front",
        dns_servers=(world.names.address6,),
        dns_search=("internal.test",),
        dns_options=("ndots:2",),
        extra_hosts=(("db", "192.0.2.7"), ("host", "host-gateway")),
    ) as web:
        assert lines(await file_of(engine, "web", "/etc/resolv.conf")) == [
            ["nameserver", "127.0.0.11"],
            ["search", "internal.test"],
            ["options", "ndots:2"],
        ]
        assert ask(web, "web.example.test").addresses == [world.web.address4]
        assert world.name_server.questions[-1].source == world.machine.address6
        (network,) = (each for each in await engine.list_networks() if each.name == "front")
        hosts = lines(await file_of(engine, "web", "/etc/hosts"))
        assert ["192.0.2.7", "db"] in hosts
        assert [network.subnets[0].gateway, "host"] in hosts


async def test_a_container_in_the_hosts_network_has_the_hosts_files(world, engine, host_files):
    async with running(engine, "web", mode="host", extra_hosts=(("db", "192.0.2.7"),)):
        assert await file_of(engine, "web", "/etc/resolv.conf") == world.resolver.read_text()
        assert (
            await file_of(engine, "web", "/etc/hosts") == host_files.read_text() + "192.0.2.7\tdb\n"
        )
        assert await hostname_of(engine, "web") == os.uname().nodename


async def test_who_shares_a_network_shares_its_files_and_names(engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with (
        running(engine, "web", "front", extra_hosts=(("db", "192.0.2.7"),)) as web,
        running(engine, "side", mode="container:web") as side,
    ):
        assert ask(side, "web").addresses == [web.address4]
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
            assert await file_of(engine, "side", path) == await file_of(engine, "web", path)
        assert await hostname_of(engine, "side") == await hostname_of(engine, "web")


async def test_a_program_may_have_port_53_of_every_address(engine):
    await engine.create_network(NetworkRequest(name="front"))
    async with running(engine, "web", "front") as web:
        with web.inside.listen("0.0.0.0", 53), web.inside.listen("0.0.0.0", 53, socket.SOCK_DGRAM):
            assert ask(web, "web").addresses == [web.address4]
            assert ask_by_tcp(web, "web").addresses == [web.address4]


async def test_a_container_without_a_network_is_told_so(engine):
    async with running(engine, "web", mode="none"):
        assert "no network" in await file_of(engine, "web", "/etc/resolv.conf")
        own = lines(await file_of(engine, "web", "/etc/hosts"))[-1]
        assert (own[0], own[-1]) == ("127.0.0.1", "web")


# --- published ports on the loopback ----------------------------------------------------------


@pytest.mark.parametrize("network", ["", "front"])
async def test_a_published_port_answers_on_the_loopback_of_both_families(world, engine, network):
    await engine.create_network(NetworkRequest(name="front"))
    names = (network,) if network else ()
    async with running(engine, "web", *names, published_ports=(published(7, 8007),)) as web:
        web.inside.address4 = web.address4
        with AnswersWithSource(web.inside):
            gateway = web.address4.rsplit(".", 1)[0]
            for address in ("127.0.0.1", "::1"):
                assert said_by(world.machine, address, 8007).startswith(f"web sees {gateway}.")


async def test_a_published_port_follows_the_container_to_its_other_network(world, engine):
    await engine.create_network(NetworkRequest(name="front"))
    await engine.create_network(NetworkRequest(name="back"))
    ports = (published(7, 8007), published(7, 8007, protocol="udp"))
    async with running(engine, "web", "front", "back", published_ports=ports) as web:
        web.inside.address4 = web.address4
        with AnswersWithSource(web.inside):
            for network in ("front", "back"):
                gateway = web.addresses[network].rpartition(".")[0]
                for ask in (said_by, said_by_datagram):
                    for address in ("127.0.0.1", "::1"):
                        heard = ask(world.machine, address, 8007)
                        assert heard.startswith(f"web sees {gateway}."), (network, address)
                if network == "front":
                    await engine.disconnect_network("web", "front")
