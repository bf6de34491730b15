"""What `ps`, `inspect` and `port` say of the networks and ports of containers."""

import json
import re

import pytest

from engine.types import ContainerStatus, PublishedPort
from tests.fakes import FakeEngine
from tests.unit.cli.network_containers import run

PORTS = (
    PublishedPort(container_port=80, host_port=8080),
    PublishedPort(container_port=53, host_port=53, host_address="127.0.0.1", protocol="udp"),
    PublishedPort(container_port=9000, host_port=9000, host_port_end=9010),
)


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_image("web:latest")
    return fake


@pytest.fixture
def front(lamella):
    """The id of a network of this name, made with the command line."""
    code, told, errors = lamella("network", "create", "--subnet", "10.80.8.0/24", "front")
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"[0-9a-f]{64}\n", told)
    return told.strip()


def test_ps_shows_ports_in_dockers_form(lamella, engine):
    run(engine, "web", published_ports=PORTS, exposed_ports=("443",))
    line = lamella("ps")[1].splitlines()[1]
    assert re.split(r" {2,}", line)[5] == (
        "127.0.0.1:53->53/udp, 443/tcp, 0.0.0.0:9000->9000/tcp, [::]:9000->9000/tcp, "
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    )
    told = lamella("ps", "--format", "{{.Ports}}|{{.Networks}}")[1]
    assert told.endswith("[::]:8080->80/tcp|bridge\n")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["network=front"], ["app"]),
        (["network=bridge"], ["db", "web"]),
        (["network=front", "network=bridge"], ["app", "db", "web"]),
        (["network=host"], []),
        (["publish=80"], ["web"]),
        (["publish=80/udp"], []),
        (["publish=53/udp"], ["web"]),
        (["publish=70-90/tcp", "name=web"], ["web"]),
        (["publish=8080"], []),
        (["expose=5432"], ["db"]),
        (["expose=80"], ["web"]),
        (["expose=443-444/tcp"], []),
    ],
)
def test_ps_chooses_by_network_and_port(lamella, engine, front, filters, expected):
    run(engine, "web", published_ports=PORTS)
    run(engine, "db", exposed_ports=("5432",), status=ContainerStatus.EXITED)
    run(engine, "app", "front")
    words = [word for text in filters for word in ("-f", text)]
    told = lamella("ps", "-a", "--format", "{{.Names}}", *words)[1]
    assert sorted(told.split()) == expected


def test_ps_chooses_a_network_by_the_beginning_of_its_id(lamella, engine, front):
    run(engine, "app", "front")
    run(engine, "web")
    assert lamella("ps", "-f", f"network={front[:6]}", "--format", "{{.Names}}")[1] == "app\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("publish=8080:80", "filter for 'publish' should not contain ':'"),
        ("expose=http", "invalid filter: expose=http"),
        ("publish=90-80", "invalid filter: publish=90-80"),
        ("publish=80/icmp", "invalid filter: publish=80/icmp"),
        ("expose=0", "invalid filter: expose=0"),
    ],
)
def test_a_filter_by_what_is_no_port_is_refused(lamella, text, message):
    code, told, errors = lamella("ps", "-f", text)
    assert (code, told) == (125, "")
    assert message in errors


def test_inspect_has_what_scripts_ask_containers_for(lamella, engine, front):
    run(engine, "web", "front", published_ports=PORTS, exposed_ports=("443",))
    (found,) = json.loads(lamella("inspect", "web")[1])
    settings, host = found["NetworkSettings"], found["HostConfig"]
    (member,) = engine._members(engine.networks[front])
    address = member.ipv4_address.partition("/")[0]
    network = settings["Networks"]["front"]
    assert (network["IPAddress"], network["IPPrefixLen"]) == (address, 24)
    assert (network["Gateway"], network["NetworkID"]) == ("10.80.8.1", front)
    assert network["MacAddress"] == member.mac_address
    assert network["DNSNames"][:2] == ["web", found["Id"][:12]]
    # As Docker: the fields on top are those of the default network alone.
    assert settings["IPAddress"] == ""
    assert settings["SandboxKey"] == "/proc/4242/ns/net"
    assert settings["Ports"] == {
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "443/tcp": None,
        "9000/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "9000"},
            {"HostIp": "::", "HostPort": "9000"},
        ],
    }
    assert host["NetworkMode"] == "front"
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "9000/tcp": [{"HostIp": "", "HostPort": "9000-9010"}],
    }
    assert sorted(found["Config"]["ExposedPorts"]) == ["443/tcp", "53/udp", "80/tcp", "9000/tcp"]
    form = '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}'
    assert lamella("inspect", "-f", form, "web")[1] == "8080\n"
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    assert lamella("inspect", "-f", form, "web")[1] == f"{address}\n"
    assert lamella("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web")[1] == (
        f"{address}\n"
    )


def test_inspect_of_the_default_network_has_its_address_on_top(lamella, engine):
    run(engine, "web")
    form = "{{.HostConfig.NetworkMode}} {{.NetworkSettings.IPAddress}}"
    mode, address = lamella("inspect", "-f", form, "web")[1].split()
    (member,) = engine._members(engine._network("bridge"))
    assert (mode, f"{address}/22") == ("bridge", member.ipv4_address)


def test_inspect_of_one_that_rests_keeps_what_was_asked_for(lamella, engine, front):
    run(
        engine, "web", "front", status=ContainerStatus.EXITED, published_ports=PORTS,
        dns_servers=("9.9.9.9",), extra_hosts=(("db", "10.0.0.7"),), publishes_all=True,
    )  # fmt: skip
    (found,) = json.loads(lamella("inspect", "web")[1])
    assert found["NetworkSettings"]["Ports"] == {}
    assert found["NetworkSettings"]["SandboxKey"] == ""
    assert found["NetworkSettings"]["Networks"]["front"]["IPAddress"] == ""
    assert found["HostConfig"]["PublishAllPorts"] is True
    assert found["HostConfig"]["Dns"] == ["9.9.9.9"]
    assert found["HostConfig"]["ExtraHosts"] == ["db:10.0.0.7"]
    assert list(found["HostConfig"]["PortBindings"]) == ["80/tcp", "53/udp", "9000/tcp"]


@pytest.mark.parametrize("mode", ["host", "none", "container:" + "a" * 64])
def test_inspect_says_whose_network_it_is_where_it_is_not_its_own(lamella, engine, mode):
    run(engine, "web", mode=mode)
    form = "{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}"
    said, networks = lamella("inspect", "-f", form, "web")[1].split(maxsplit=1)
    assert said == mode
    assert list(json.loads(networks)) == ([] if mode.startswith("container:") else [mode])


# --- port -------------------------------------------------------------------------------------


def test_port_lists_what_leads_to_a_container(lamella, engine):
    run(engine, "web", published_ports=PORTS, exposed_ports=("443",))
    assert lamella("port", "web")[1].splitlines() == [
        "53/udp -> 127.0.0.1:53",
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> [::]:8080",
        "9000/tcp -> 0.0.0.0:9000",
        "9000/tcp -> [::]:9000",
    ]
    assert lamella("port", "web", "80") == (0, "0.0.0.0:8080\n[::]:8080\n", "")
    assert lamella("port", "web", "53/udp") == (0, "127.0.0.1:53\n", "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["web", "443"], 1, "No public port '443' published for web"),
        (["web", "53"], 1, "No public port '53' published for web"),
        (["web", "http"], 125, "invalid port (http)"),
        (["web", "70000"], 125, "invalid port (70000)"),
        (["nobody"], 1, "No such container: nobody"),
        ([], 125, "`lamella port` needs at least 1 argument"),
    ],
)
def test_port_says_what_is_not_published(lamella, engine, words, code, message):
    run(engine, "web", published_ports=PORTS, exposed_ports=("443",))
    said, told, errors = lamella("port", *words)
    assert (said, told) == (code, "")
    assert message in errors


def test_port_of_one_that_rests_lists_nothing(lamella, engine):
    run(engine, "web", published_ports=PORTS, status=ContainerStatus.EXITED)
    assert lamella("port", "web") == (0, "", "")
