"""What a person who knows Docker does with networks, typed as commands, on the machine of a world.

Each command is a process of its own; between two of them no application is open. Servers are the
test's, in the network namespaces of the containers; who asks from inside one is bash's /dev/tcp.
"""

import contextlib
import json
import os
import re
import shutil

import pytest

from tests.command_line import CommandLine
from tests.integration.network.inside import Inside, said_by, said_by_datagram
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("starter_image"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        shutil.which("bash") is None, reason="the starter image has the host's bash, if any"
    ),
]
IMAGE = "starter:latest"
FOREVER = (IMAGE, "sleep", "1000")


@pytest.fixture
def lamella(world, store_paths):
    """The command line on the machine, whose name server is the world's."""
    command_line = CommandLine(store_paths)
    command_line.command = world.machine_command(*command_line.command)
    yield command_line
    left = command_line.text("ps", "-aq").split()
    if left:
        command_line.text("rm", "-f", *left)


@contextlib.contextmanager
def serving(lamella, name):
    """Have a container answer at port 7 with whom it sees."""
    inside = Inside(name, int(shown(lamella, name, "{{.State.Pid}}")))
    addresses = shown(lamella, name, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")
    inside.address4 = addresses.split()[0]
    with contextlib.closing(inside), AnswersWithSource(inside):
        yield inside


def shown(lamella, name, template):
    return lamella.text("inspect", "-f", template, name).strip()


def asks(lamella, name, host, port=ECHO_PORT):
    """What a container's program hears from a host that it knows by name or address."""
    script = f"exec 3<>/dev/tcp/{host}/{port} && echo >&3 && cat <&3"
    return lamella("exec", name, "bash", "-c", script)


def refused(ended, code, message):
    error = ended.stderr.decode()
    assert ended.returncode == code, error
    assert message in error
    assert "hint: " in error
    assert "Traceback" not in error


def names(lamella, *words):
    return sorted(lamella.text("ps", "--format", "{{.Names}}", *words).split())


def test_two_containers_on_a_network_of_ones_own(world, lamella):
    assert lamella.text("network", "ls", "--format", "{{.Name}} {{.Driver}}").splitlines() == [
        "bridge bridge",
        "host host",
        "none null",
    ]
    network_id = lamella.text(
        "network", "create", "--subnet", "10.99.7.0/24", "--aux-address", "printer=10.99.7.2",
        "shop",
    ).strip()  # fmt: skip
    refused(lamella("network", "create", "shop"), 1, "network with name shop already exists")
    began = lamella(
        "run", "-d", "--name", "db", "--network", "shop", "--network-alias", "store", *FOREVER
    )
    db = began.stdout.decode().strip()
    assert began.stderr.decode() == (
        "WARNING: net.ipv4.ip_forward was set to 1: containers need it to go out\n"
    )
    lamella.text(
        "run", "-d", "--name", "app", "--network", "shop", "--ip", "10.99.7.77",
        "-p", f"8080:{ECHO_PORT}", "-p", f"127.0.0.1::{ECHO_PORT}/udp", *FOREVER,
    )  # fmt: skip

    # What the commands say of them.
    drawn = lamella.text("port", "app", f"{ECHO_PORT}/udp").strip()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", drawn)
    assert lamella.text("port", "app").splitlines() == [
        "7/tcp -> 0.0.0.0:8080",
        f"7/udp -> {drawn}",
        "7/tcp -> [::]:8080",
    ]
    rows = lamella.text("ps", "--format", r"{{.Names}}|{{.Ports}}|{{.Networks}}").splitlines()
    assert sorted(rows) == [
        f"app|0.0.0.0:8080->7/tcp, {drawn}->7/udp, [::]:8080->7/tcp|shop",
        "db||shop",
    ]
    (network,) = json.loads(lamella.text("network", "inspect", "shop"))
    assert network["Id"] == network_id
    assert {one["Name"]: one["IPv4Address"] for one in network["Containers"].values()} == {
        "app": "10.99.7.77/24",
        "db": "10.99.7.3/24",
    }
    assert shown(lamella, "app", "{{.NetworkSettings.Networks.shop.Gateway}}") == "10.99.7.1"
    assert os.readlink(shown(lamella, "app", "{{.NetworkSettings.SandboxKey}}")) == os.readlink(
        f"/proc/{shown(lamella, 'app', '{{.State.Pid}}')}/ns/net"
    )

    # They find each other by name, and the world; the world and the host find what is published.
    with serving(lamella, "app"), serving(lamella, "db"):
        for host in ("app", "app.shop", "10.99.7.77"):
            assert asks(lamella, "db", host).stdout == b"app sees 10.99.7.3\n", host
        for host in ("db", "store", db[:12]):
            assert asks(lamella, "app", host).stdout == b"db sees 10.99.7.77\n", host
        assert asks(lamella, "db", "web.example.test").stdout == b"web sees 192.0.2.10\n"
        assert asks(lamella, "db", "nobody").returncode != 0
        assert said_by(world.neighbour, world.machine.address4, 8080) == "app sees 192.0.2.20"
        assert said_by(world.machine, "127.0.0.1", 8080).startswith("app sees ")
        assert said_by(world.machine, "::1", 8080).startswith("app sees ")
        port = int(drawn.rpartition(":")[2])
        assert said_by_datagram(world.machine, "127.0.0.1", port).startswith("app sees ")

    # A port that is taken is refused before anything runs; the container is left to look at.
    taken = lamella("run", "-d", "--name", "late", "-p", "8080:80", *FOREVER)
    refused(taken, 125, "port is already allocated")
    printer = lamella("run", "--rm", "--network", "shop", "--ip", "10.99.7.2", IMAGE, "true")
    refused(printer, 125, "Address already in use: 10.99.7.2")
    assert shown(lamella, "late", "{{.State.Status}}") == "created"
    assert names(lamella, "-a", "-f", "publish=80") == ["late"]
    lamella.text("rm", "late")

    # A network in use stays; one is joined and left while its containers run.
    refused(lamella("network", "rm", "shop"), 1, "network shop has active endpoints")
    lamella.text("network", "create", "--internal", "lab")
    lamella.text("network", "connect", "--alias", "probe", "lab", "db")
    lamella.text("run", "-d", "--name", "lone", "--network", "lab", *FOREVER)
    assert names(lamella, "-f", "network=lab") == ["db", "lone"]
    assert names(lamella, "-f", f"network={network_id[:10]}") == ["app", "db"]
    with serving(lamella, "db"):
        template = "db sees {{.NetworkSettings.Networks.lab.IPAddress}}"
        heard = asks(lamella, "lone", "probe").stdout.decode()
        assert heard.strip() == shown(lamella, "lone", template)
        assert asks(lamella, "lone", "app").returncode != 0
        assert asks(lamella, "lone", "web.example.test").returncode != 0
        lamella.text("network", "disconnect", "lab", "db")
        assert asks(lamella, "lone", "probe").returncode != 0
        assert asks(lamella, "app", "db").stdout == b"db sees 10.99.7.77\n"
    refused(lamella("network", "disconnect", "lab", "db"), 125, "is not connected to network lab")
    assert names(lamella, "-f", "network=lab") == ["lone"]

    # They stop, come back with what they had, and nothing is left when they are gone.
    lamella.text("stop", "-t", "0", "app")
    assert lamella.text("port", "app") == ""
    lamella.text("start", "app")
    assert shown(lamella, "app", "{{.NetworkSettings.Networks.shop.IPAddress}}") == "10.99.7.77"
    assert lamella.text("port", "app", "7").splitlines() == ["0.0.0.0:8080", "[::]:8080"]

    # What was removed while nobody ran in it does not keep its containers from going on.
    brief = lamella.text("network", "create", "brief").strip()
    lamella.text("create", "--name", "late", "--network", "brief", *FOREVER)
    lamella.text("network", "rm", "brief")
    late = lamella("start", "late")
    refused(late, 1, f"network {brief[:12]} not found")
    (command,) = re.findall(r"`lamella (network disconnect [^`]*)`", late.stderr.decode())
    lamella.text(*command.split())
    lamella.text("network", "connect", "shop", "late")
    lamella.text("start", "late")
    assert names(lamella, "-f", "network=shop") == ["app", "db", "late"]
    lamella.text("rm", "-f", "app", "db", "late", "lone")
    assert lamella.text("network", "rm", "shop") == "shop\n"
    assert lamella.text("network", "prune", "-f") == "Deleted Networks:\nlab\n\n"
    assert not {name for name in world.machine.links() if name.startswith("lm")} - {
        f"lm-{one[:12]}" for one in lamella.text("network", "ls", "-q", "--no-trunc").split()
    }
    told = lamella.text("events", "--until", "0s", "-f", "network=lab", "--format", "{{.Action}}")
    assert told.split() == ["create", "connect", "connect", "disconnect", "disconnect", "destroy"]


def test_the_words_of_network_that_are_no_networks(world, lamella):
    def links(*words):
        return set(lamella.text("run", "--rm", *words, IMAGE, "ls", "/sys/class/net").split())

    assert links("--network", "none") == {"lo"}
    assert links("--network", "host") >= {"lo", "uplink"}
    assert links() == {"lo", "eth0"}
    lamella.text("run", "-d", "--name", "app", "-p", f"9000-9001:{ECHO_PORT}", *FOREVER)
    with serving(lamella, "app"):
        script = f"exec 3<>/dev/tcp/127.0.0.1/{ECHO_PORT} && echo >&3 && cat <&3"
        joined = ("run", "--rm", "--network", "container:app", IMAGE, "bash", "-c", script)
        assert lamella.text(*joined) == "app sees 127.0.0.1\n"
    assert lamella.text("port", "app", "7").splitlines() == ["0.0.0.0:9000", "[::]:9000"]
    lamella.text("run", "-d", "--name", "guest", "--network", "container:app", *FOREVER)
    assert lamella.text("ps", "-f", "name=guest", "--format", "[{{.Ports}}{{.Networks}}]") == "[]\n"
    lamella.text("network", "create", "shop")
    for words, message in (
        (("--network", "nowhere"), "network nowhere not found"),
        (("--network", "container:nobody"), "No such container: nobody"),
        (("--network", "host", "--network", "shop"), "conflicting options"),
        (("--network", "container:app", "-p", "80:80"), "conflicting options: port publishing"),
        (("--ip", "10.0.0.7"), "user specified IP address is supported on user defined networks"),
        (("--network", "shop", "--ip", "8.8.8.8"), "no configured subnet"),
        (("-p", "80:"), "no port specified"),
        (("-p", "80:80:80:80"), "invalid"),
        (("-p", "99999:80"), "invalid hostPort"),
    ):
        refused(lamella("run", "-d", *words, *FOREVER), 125, message)
    refused(lamella("network", "connect", "shop", "guest"), 125, "sharing network namespace")
    discarded = lamella("create", "--name", "late", "--network", "host", "-p", "80:80", *FOREVER)
    assert discarded.stderr == (
        b"WARNING: Published ports are discarded when using host network mode\n"
    )
    lamella.text("rm", "late")
    assert names(lamella, "-a") == ["app", "guest"]
    assert world.machine.setting("ipv4/ip_forward") == "1"
