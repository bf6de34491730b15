"""An ordinary user's containers: out by pasta or slirp4netns, and in at published ports."""

import contextlib

import pytest

from tests.integration.network.inside import said_by, said_by_datagram
from tests.integration.network.persons import IMAGE
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = pytest.mark.root


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
            for host, address in (
                (world.neighbour, machine),
                (world.neighbour, world.machine.address6),
                (world.machine, "127.0.0.1"),
                (world.machine, "::1"),
            ):
                assert ask(host, address, 18080).startswith("web sees ")
    refused = person.lamella(
        "run", "-d", "-p", f"18080:{ECHO_PORT}", IMAGE, "sleep", "9", is_checked=False
    )
    assert refused.returncode == 125
    assert "Bind for 0.0.0.0:18080 failed: port is already allocated" in refused.stderr
    person.lamella("rm", "-f", "web")
    world.machine.listen("0.0.0.0", 18080).close()


def test_without_a_way_out_there_is_the_loopback_and_a_word_of_what_to_do(world, closed):
    inside, _document = closed.start("web")
    with contextlib.closing(inside):
        assert inside.links() == {"lo"}
    assert closed.warning("web") == (
        "The container has only its loopback device: /dev/net/tun cannot be opened. Have root let "
        "everybody (modprobe tun; chmod 666 /dev/net/tun), or run with --network host or none"
    )
    assert closed.lamella("exec", "web", "cat", "/etc/resolv.conf").stdout.startswith("#")
    hosts = closed.lamella("exec", "web", "cat", "/etc/hosts").stdout.splitlines()
    assert hosts[-1].startswith("127.0.0.1\t")
    assert closed.feature == {
        **closed.feature,
        "is_available": False,
        "detail": "loopback and published ports only",
        "remedy": closed.warning("web"),
    }


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


_BUILDS = """
import asyncio, os, signal, sys
from pathlib import Path
import psutil
from engine.api import open_engine
from engine.types import BuildOutput, BuildRequest

DOCKERFILE = b"FROM starter\\nRUN ls /sys/class/net | tr '\\\\n' ' '"

async def said(engine):
    heard = []
    request = BuildRequest(dockerfile_content=DOCKERFILE, uses_cache=False)
    await engine.build_image(request, listener=heard.append)
    output = b"".join(one.data for one in heard if isinstance(one, BuildOutput))
    return output.decode().split("\\n")[0].strip()

async def spare(engine):
    while (kept := engine._lanes._spare._idle._kept) is None:
        await asyncio.sleep(0)
    return kept.lane_id

async def main():
    async with open_engine(root=Path(sys.argv[1])) as engine:
        print(await said(engine))
        await spare(engine)
        print(await said(engine))
        await spare(engine)
        for process in psutil.process_iter(("name", "uids")):
            if process.info["name"] == "lamella-way-out":
                if process.info["uids"].real == os.getuid():
                    os.kill(process.pid, signal.SIGKILL)
                    # Whose child it was learns of it when it is wanted.
                    while process.status() != psutil.STATUS_ZOMBIE:
                        pass
                    print("killed")
        print(await said(engine))

asyncio.run(main())
"""


def test_builds_have_the_way_out_also_those_for_which_a_lane_was_ready(world, person):
    done = person.python("-c", _BUILDS, str(person.store / "s"))
    devices = "lo tap0" if person.program else "lo"
    killed = ["killed"] if person.program else []
    assert done.stdout.splitlines() == [devices, devices, *killed, devices], done.stderr
