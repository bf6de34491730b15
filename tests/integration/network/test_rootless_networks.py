"""An ordinary user's containers: out by slirp4netns, and in at published ports."""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import remove_store
from tests.integration.network.inside import Inside, said_by, said_by_datagram
from tests.questions import Answer, question
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = pytest.mark.root

IMAGE = "starter:latest"
_STARTER = """
import asyncio
from pathlib import Path
from engine.api import open_engine

async def make():
    async with open_engine(root=Path("{store}")) as engine:
        await engine.make_starter_image()

asyncio.run(make())
"""


class Person:
    """Commands of an ordinary user on the machine, who may open /dev/net/tun, or may not."""

    def __init__(self, user, tun, resolver):
        self.user = user
        self.tun = tun
        self.resolver = resolver
        self.store = Path(tempfile.mkdtemp(prefix="lamella-test-", dir="/tmp"))
        os.chown(self.store, user.user_id, user.user_id)

    def lamella(self, *words, is_checked=True):
        command = self.user.command(
            self.user.python, "-m", "tui", "--root", str(self.store / "s"), *words
        )
        if self.tun:
            # A node of its own in the place of the host's, which nobody may change for a test.
            script = (
                'mount --bind "$0" /dev/net/tun && mount --bind "$1" /etc/resolv.conf && '
                'shift && exec "$@"'
            )
            files = (str(self.tun), str(self.resolver))
            command = ["unshare", "--mount", "sh", "-c", script, *files, *command]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert not is_checked or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def start(self, name, *options):
        self.lamella("run", "-d", "--name", name, *options, IMAGE, "sleep", "1000")
        (document,) = json.loads(self.lamella("inspect", name).stdout)
        return Inside(name, document["State"]["Pid"]), document


@pytest.fixture(params=["tun", "no tun"])
def person(request, world, unprivileged_user, tmp_path):
    tun = None
    if request.param == "tun":
        if shutil.which("slirp4netns") is None or not Path("/dev/net/tun").exists():
            pytest.skip("needs slirp4netns and a kernel with tun devices")
        tun = tmp_path / "tun"
        os.mknod(tun, stat.S_IFCHR | 0o666, os.makedev(10, 200))
        tun.chmod(0o666)
    made = Person(unprivileged_user, tun, world.resolver)
    script = _STARTER.format(store=made.store / "s")
    ended = unprivileged_user.run(unprivileged_user.python, "-c", script)
    assert ended.returncode == 0, ended.stderr
    try:
        yield made
    finally:
        for line in made.lamella("ps", "-aq", is_checked=False).stdout.split():
            made.lamella("rm", "-f", line, is_checked=False)
        remove_store(made.store)


with_a_way_out = pytest.mark.parametrize("person", ["tun"], indirect=True)


@contextlib.contextmanager
def answering(inside):
    inside.address4 = "10.0.2.100"
    with contextlib.closing(inside), AnswersWithSource(inside):
        yield


def test_a_published_port_leads_to_it(world, person):
    ports = ("-p", f"18080:{ECHO_PORT}", "-p", f"18080:{ECHO_PORT}/udp")
    inside, _document = person.start("web", *ports)
    machine = world.machine.address4
    with answering(inside):
        for ask in (said_by, said_by_datagram):
            assert ask(world.neighbour, machine, 18080).startswith("web sees ")
            assert ask(world.machine, "127.0.0.1", 18080).startswith("web sees ")
    refused = person.lamella(
        "run", "-d", "-p", f"18080:{ECHO_PORT}", IMAGE, "sleep", "9", is_checked=False
    )
    assert refused.returncode == 125
    assert "Bind for 0.0.0.0:18080 failed: port is already allocated" in refused.stderr
    person.lamella("rm", "-f", "web")
    world.machine.listen("0.0.0.0", 18080).close()


def test_it_reaches_the_world_if_the_host_lets_it(world, person):
    inside, document = person.start("web")
    with contextlib.closing(inside):
        if person.tun:
            assert inside.links() == {"lo", "tap0"}
            for ask in (said_by, said_by_datagram):
                assert ask(inside, world.web.address4, ECHO_PORT) == (
                    f"web sees {world.machine.address4}"
                )
            with (
                world.machine.listen("127.0.0.1", 7777),
                pytest.raises(OSError, match=r"refused|timed out|unreachable"),
            ):
                said_by(inside, "10.0.2.2", 7777)
            person.lamella("rm", "-f", "web")
            return
        # Without the device there is the loopback, and a word of what to do.
        assert inside.links() == {"lo"}
        assert any("/dev/net/tun" in text for text in document["warnings"])


def test_names_are_asked_of_the_hosts_servers(world, person):
    inside, _document = person.start("web", "--add-host", "host:host-gateway")
    with contextlib.closing(inside):
        resolver = person.lamella("exec", "web", "cat", "/etc/resolv.conf").stdout
        hosts = person.lamella("exec", "web", "cat", "/etc/hosts").stdout.splitlines()
        if not person.tun:
            assert resolver.startswith("#")
            assert hosts[-1].startswith("127.0.0.1\t")
            return
        assert resolver.splitlines() == [
            "nameserver 10.0.2.3",
            "search example.test",
            "options timeout:2",
        ]
        assert f"{world.machine.address4}\thost" in hosts
        assert hosts[-1].startswith("10.0.2.100\t")
        with inside.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(20)
            client.connect(("10.0.2.3", 53))
            client.send(question("web.example.test"))
            assert Answer(client.recv(4096)).addresses == [world.web.address4]


def test_what_there_is_of_it_is_among_the_hosts_features(person):
    document = json.loads(person.lamella("info", "--format", "json").stdout)
    (feature,) = (one for one in document["features"] if one["name"] == "network")
    assert feature["is_available"] is bool(person.tun)
    assert ("slirp4netns" in feature["detail"]) is bool(person.tun)
    assert ("/dev/net/tun" in feature["remedy"]) is not bool(person.tun)


def test_a_network_of_its_own_is_refused_with_what_to_do(person):
    person.lamella("network", "create", "front")
    refused = person.lamella("run", "--network", "front", IMAGE, "true", is_checked=False)
    assert refused.returncode == 125
    assert "an ordinary user may not make bridges" in refused.stderr
    assert "--network host" in refused.stderr


def test_the_hosts_network_is_there_for_everybody(world, person):
    inside, _document = person.start("web", "--network", "host")
    with contextlib.closing(inside):
        assert inside.links() == world.machine.links()
    assert "lo" in person.lamella("exec", "web", "ls", "/sys/class/net").stdout


@with_a_way_out
def test_a_way_out_that_is_killed_is_made_again(world, person):
    inside, _document = person.start("web")
    with contextlib.closing(inside):
        helper = way_out_of(person)
        helper.kill()
        helper.wait(10)
        assert inside.links() == {"lo"}
        deadline = time.monotonic() + 10
        while inside.links() == {"lo"}:
            assert time.monotonic() < deadline
        # The device is there a moment before it has its address.
        while "10.0.2.100" not in addresses_of(inside):
            assert time.monotonic() < deadline
        assert said_by(inside, world.web.address4, ECHO_PORT)


@with_a_way_out
def test_the_way_out_ends_with_its_monitor(person):
    inside, _document = person.start("web", "-p", f"18080:{ECHO_PORT}")
    inside.close()
    helper = way_out_of(person)
    monitor = helper.parent()
    children = monitor.children()
    assert helper in children
    monitor.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    # The way out, the server of the port and the container's first process.
    assert (len(gone), alive) == (3, [])


def way_out_of(person):
    (helper,) = (
        process
        for process in psutil.process_iter(("name", "uids"))
        if process.info["name"] == "slirp4netns"
        and process.info["uids"].real == person.user.user_id
    )
    return helper


def addresses_of(inside):
    found = inside.configure(lambda route: list(route.get_addr()))
    return {one.get_attr("IFA_ADDRESS") for one in found}
