"""`network` and its second words, against the fake engine."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest

from engine.types import ContainerStatus
from tests.fakes import FakeEngine
from tests.unit.cli.network_containers import run

MAC = "02:4c:0a:50:08:07"
TENTH = ("--subnet", "10.1.0.0/24")


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


def made(engine, name):
    return next(one for one in engine.networks.values() if one.name == name)


# --- create -----------------------------------------------------------------------------------


def test_everything_that_create_is_given_is_in_the_network(lamella, engine):
    code, told, errors = lamella(
        "network", "create", "-d", "bridge", "--subnet", "10.80.8.0/24,fd00:8::/64",
        "--gateway", "10.80.8.9", "--gateway", "fd00:8::9", "--ip-range", "10.80.8.128/25",
        "--aux-address", "router=10.80.8.200", "--internal", "--ipv6", "--attachable",
        "--label", "use=test", "--label", "only", "-o", "com.docker.network.driver.mtu=1400",
        "--scope", "local", "--ipam-driver", "default", "new",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    network = engine.networks[told.strip()]
    assert network.name == "new"
    assert network.is_internal
    assert network.has_ipv6
    assert dict(network.labels) == {"use": "test", "only": ""}
    assert dict(network.options) == {"com.docker.network.driver.mtu": "1400"}
    assert [(one.subnet, one.gateway, one.ip_range) for one in network.subnets] == [
        ("10.80.8.0/24", "10.80.8.9", "10.80.8.128/25"),
        ("fd00:8::/64", "fd00:8::9", ""),
    ]
    assert network.subnets[0].auxiliary_addresses == (("router", "10.80.8.200"),)


def test_a_network_without_a_word_gets_a_subnet_of_its_own(lamella, engine):
    for name in ("one", "two"):
        assert lamella("network", "create", name)[0] == 0
    (one,), (two,) = made(engine, "one").subnets, made(engine, "two").subnets
    assert one.subnet != two.subnet
    assert not made(engine, "one").has_ipv6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "`lamella network create` needs 1 argument: NETWORK"),
        (["a", "b"], "does not take this: b"),
        (["host"], "operation is not permitted on predefined host network"),
        (["no/slash"], "invalid network name"),
        (["front"], "network with name front already exists"),
        (["-d", "overlay", "x"], "could not find plugin overlay"),
        (["--subnet", "10.1.0.0", "--gateway", "10.1.0.1,10.1.0.2", "x"], "every ip-range or"),
        (["--gateway", "10.1.0.1", "x"], "every ip-range or gateway must have a corresponding"),
        (["--ip-range", "10.1.0.0/24", "x"], "every ip-range or gateway must have a"),
        (["--subnet", "10.1.0.0/99", "x"], "invalid CIDR address: 10.1.0.0/99"),
        (["--subnet", "10.1.0.7/24", "x"], "it should be 10.1.0.0/24"),
        (["--subnet", "10.80.8.128/25", "x"], "Pool overlaps with other one"),
        ([*TENTH, "--gateway", "10.2.0.1", "x"], "matching subnet for gateway"),
        ([*TENTH, "--gateway", "first", "x"], 'invalid argument "first" for'),
        ([*TENTH, "--ip-range", "10.2.0.0/25", "x"], "matching subnet for range"),
        ([*TENTH, "--ip-range", "half", "x"], 'invalid argument "half" for'),
        ([*TENTH, "--ip-range", "10.1.0.0/16", "x"], "matching subnet for range"),
        (
            ["--subnet", "10.1.0.0/24,10.2.0.0/24", "--gateway", "10.1.0.1,10.1.0.2", "x"],
            "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet",
        ),
        (
            ["--subnet", "10.1.0.0/24,10.2.0.0/24", "--ip-range", "10.1.0.0/25,10.1.0.128/25", "x"],
            "cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) on the same subnet",
        ),
        (["--subnet", "10.1.0.0/24,10.1.0.0/24", "x"], "multiple overlapping subnet configuration"),
        (["--subnet", "10.1.0.0/24,10.2.0.0/24", "x"], "more than one IPv4 subnet"),
        (["--subnet", "fd00:8::/64", "x"], "an IPv6 subnet needs a network with IPv6"),
        ([*TENTH, "--aux-address", "a=10.2.0.1", "x"], "matching subnet for aux"),
        ([*TENTH, "--aux-address", "10.1.0.2", "x"], "it needs NAME=VALUE"),
        ([*TENTH, "--aux-address", "a=10.1.0.1", "x"], "already in use"),
        (["-o", "mtu=9000", "x"], "unknown network option: mtu"),
        (["-o", "com.docker.network.driver.mtu=big", "x"], "invalid MTU: 'big'"),
        (["--ipv4=false", "x"], "IPv4 cannot be disabled"),
        (["--scope", "swarm", "x"], "invalid scope: swarm"),
        (["--ipam-driver", "dhcp", "x"], 'plugin "dhcp" not found'),
        (["--label", "=x", "x"], "invalid label"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_said_and_not_made(lamella, engine, front, words, message):
    before = dict(engine.networks)
    code, told, errors = lamella("network", "create", *words)
    assert (code, told) in {(1, ""), (125, "")}
    assert message in errors
    assert "Traceback" not in errors
    assert engine.networks == before


# --- ls ---------------------------------------------------------------------------------------


def test_the_list_has_dockers_columns(lamella, engine, front):
    code, told, _ = lamella("network", "ls")
    assert code == 0
    head, *lines = told.splitlines()
    assert re.fullmatch(r"NETWORK ID +NAME +DRIVER +SCOPE", head)
    assert [line.split()[1:] for line in lines] == [
        ["bridge", "bridge", "local"],
        ["front", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    assert lines[1].split()[0] == front[:12]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["name=front"], ["front"]),
        (["name=^o"], []),
        (["name=o"], ["front", "host", "none"]),
        (["name=("], []),
        (["driver=null", "driver=host"], ["host", "none"]),
        (["type=custom"], ["front", "labelled"]),
        (["type=builtin", "driver=bridge"], ["bridge"]),
        (["scope=local", "driver=host"], ["host"]),
        (["scope=swarm"], []),
        (["label=use"], ["labelled"]),
        (["label=use=test"], ["labelled"]),
        (["label=use=other"], []),
        (["dangling=true"], ["labelled"]),
        (["dangling=0"], ["bridge", "front", "host", "none"]),
    ],
)
def test_filters_choose(lamella, engine, front, filters, expected):
    assert lamella("network", "create", "--label", "use=test", "labelled")[0] == 0
    run(engine, "web", "front")
    words = [word for text in filters for word in ("-f", text)]
    told = lamella("network", "ls", "--format", "{{.Name}}", *words)[1]
    assert told.split() == expected


def test_ids_are_short_unless_they_are_wanted_whole(lamella, front):
    assert lamella("network", "ls", "-qf", "name=front")[1] == f"{front[:12]}\n"
    assert lamella("network", "ls", "-q", "--no-trunc", "-f", f"id={front[3:9]}")[1] == f"{front}\n"


def test_json_and_templates_have_dockers_fields(lamella, front):
    (row,) = lamella("network", "ls", "-f", "name=front", "--format", "json")[1].splitlines()
    found = json.loads(row)
    assert (found["ID"], found["Name"], found["Driver"]) == (front[:12], "front", "bridge")
    assert (found["IPv4"], found["IPv6"], found["Internal"]) == ("true", "false", "false")
    assert found["network_id"] == front
    told = lamella(
        "network", "ls", "-f", "type=custom", "--format", r"table {{.Name}}\t{{.Subnets}}"
    )
    assert [line.split() for line in told[1].splitlines()] == [
        ["NAME", "SUBNETS"],
        ["front", "10.80.8.0/24"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "invalid filter: colour, one of dangling, driver"),
        ("type=mine", "invalid filter: 'type'='mine'"),
        ("dangling=maybe", "invalid filter: dangling=maybe"),
        ("driver", "it needs KEY=VALUE"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(lamella, text, message):
    code, told, errors = lamella("network", "ls", "-f", text)
    assert (code, told) == (125, "")
    assert message in errors


# --- inspect ----------------------------------------------------------------------------------


def test_inspect_shows_dockers_document_with_who_is_in_it(lamella, engine, front):
    container_id = run(engine, "web", "front")
    code, told, errors = lamella("network", "inspect", "front", "nothing")
    assert code == 1
    assert errors.splitlines()[0] == "Error: network nothing not found"
    (found,) = json.loads(told)
    assert (found["Name"], found["Id"], found["Driver"]) == ("front", front, "bridge")
    assert found["IPAM"]["Config"] == [{"Subnet": "10.80.8.0/24", "Gateway": "10.80.8.1"}]
    (member,) = engine._members(engine.networks[front])
    assert found["Containers"] == {
        container_id: {
            "Name": "web",
            "MacAddress": member.mac_address,
            "IPv4Address": member.ipv4_address,
            "IPv6Address": "",
        }
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", found["Created"])


def test_templates_reach_what_scripts_ask_networks_for(lamella, engine, front):
    run(engine, "web", "front")
    form = "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{range .Containers}}{{.Name}}{{end}}"
    assert lamella("network", "inspect", "-f", form, front[:8])[1] == "10.80.8.0/24 web\n"
    assert json.loads(lamella("network", "inspect", "--format", "json", "host")[1])[0][
        "Driver"
    ] == ("host")


def test_inspect_without_a_kind_finds_networks_and_volumes(lamella, engine, front):
    engine.add_volume("files", size_bytes=1)
    assert lamella("inspect", "-f", "{{.Id}}", "front")[1] == f"{front}\n"
    assert lamella("inspect", "-f", "{{.name}}", "files")[1] == "files\n"
    assert lamella("inspect", "--type", "network", "files")[0] == 1
    code, told, errors = lamella("inspect", "nothing")
    assert (code, told) == (1, "[]\n")
    assert errors.startswith("Error: No such object: nothing\n")


# --- rm and prune -----------------------------------------------------------------------------


def test_removal_goes_on_behind_what_cannot_be_removed(lamella, engine, front):
    run(engine, "web", "front")
    assert lamella("network", "create", "back")[0] == 0
    code, told, errors = lamella("network", "rm", "front", "nothing", "bridge", "back")
    assert (code, told) == (1, "back\n")
    assert 'network front has active endpoints (name:"web"' in errors
    assert "network nothing not found" in errors
    assert "bridge is a pre-defined network and cannot be removed" in errors
    assert "Traceback" not in errors
    assert front in engine.networks


def test_a_forced_removal_forgives_only_what_is_not_there(lamella, engine, front):
    assert lamella("network", "rm", "-f", "nothing") == (0, "", "")
    assert lamella("network", "rm", "-f", "none")[0] == 1
    assert lamella("network", "rm", front[:10]) == (0, f"{front[:10]}\n", "")
    assert front not in engine.networks


def test_prune_asks_and_takes_what_nobody_is_to_be_in(lamella, engine, front, monkeypatch):
    run(engine, "web", "front", status=ContainerStatus.EXITED)
    for name, label in (("back", "keep"), ("side", "drop")):
        assert lamella("network", "create", "--label", label, name)[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, told, errors = lamella("network", "prune")
    assert (code, told) == (0, "")
    assert errors.startswith(
        "WARNING! This will remove all custom networks not used by at least one container.\n"
    )
    told = lamella("network", "prune", "-f", "--filter", "label!=keep")[1]
    assert told == "Deleted Networks:\nside\n\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert lamella("network", "prune", "--filter", "until=1h")[1] == ""
    assert lamella("network", "prune", "-f")[1] == "Deleted Networks:\nback\n\n"
    assert front in engine.networks
    assert lamella("network", "prune", "-f") == (0, "", "")


# --- connect and disconnect -------------------------------------------------------------------


def test_a_container_is_connected_with_everything_that_is_said_of_it(lamella, engine, front):
    run(engine, "web")
    words = ("--alias", "www,shop", "--alias", "old", "--ip", "10.80.8.7", "--mac-address", MAC)
    assert lamella("network", "connect", *words, "front", "web") == (0, "", "")
    (member,) = engine._members(engine.networks[front])
    assert member.aliases == ("www", "shop", "old")
    assert (member.ipv4_address, member.mac_address) == ("10.80.8.7", MAC)
    assert lamella("ps", "--format", "{{.Networks}}")[1] == "bridge,front\n"


def test_what_cannot_be_connected_is_said(lamella, engine, front):
    run(engine, "web", "front")
    for words, message in (
        (("front", "web"), "endpoint with name web already exists in network front"),
        (("nothing", "web"), "network nothing not found"),
        (("front", "nobody"), "No such container: nobody"),
        (("host", "web"), "container cannot be disconnected from host network or connected to"),
        (("--alias", "x", "bridge", "web"), "network-scoped aliases are only supported for user"),
        (("--ip", "10.9.9.9", "bridge", "web"), "user specified IP address is supported on user"),
        (("front",), "`lamella network connect` needs 2 arguments: NETWORK CONTAINER"),
    ):
        code, told, errors = lamella("network", "connect", *words)
        assert code != 0
        assert (told, message in errors) == ("", True), errors


def test_a_container_is_disconnected_and_forced_where_it_was_not(lamella, engine, front):
    run(engine, "web", "front")
    assert lamella("network", "disconnect", "front", "web") == (0, "", "")
    assert engine._members(engine.networks[front]) == ()
    code, _, errors = lamella("network", "disconnect", "front", "web")
    assert code != 0
    assert "is not connected to network front" in errors
    assert lamella("network", "disconnect", "--force", "front", "web") == (0, "", "")
    assert lamella("inspect", "-f", "{{json .NetworkSettings.Networks}}", "web")[1] == "{}\n"


# --- events -----------------------------------------------------------------------------------


def test_events_of_a_network_are_told_in_dockers_words(lamella, engine, front):
    container_id = run(engine, "web")
    assert lamella("network", "connect", "front", "web")[0] == 0
    assert lamella("network", "disconnect", "front", "web")[0] == 0
    assert lamella("network", "create", "back")[0] == 0
    assert lamella("network", "rm", "front")[0] == 0
    form = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}"
    events = ("events", "--until", "0s", "--format", form)
    assert lamella(*events, "-f", "network=front")[1].splitlines() == [
        "network create front bridge",
        "network connect front bridge",
        "network disconnect front bridge",
        "network destroy front bridge",
    ]
    assert lamella(*events, "-f", "network=" + front[:5], "-f", "event=create")[1].count("\n") == 1
    assert lamella(*events, "-f", "type=network")[1].count("\n") == 5
    told = lamella("events", "--until", "0s", "-f", "event=connect")[1]
    assert told.endswith(
        f" network connect {front} (container={container_id}, name=front, type=bridge)\n"
    )


def test_dockers_longer_words_do_the_same(lamella, engine, front):
    assert lamella("network", "list", "-q") == lamella("network", "ls", "-q")
    assert lamella("network", "remove", "front") == (0, "front\n", "")
    assert front not in engine.networks
    code, _, errors = lamella("network", "make")
    assert code == 125
    assert "unknown command: network make, only connect, create, disconnect, inspect" in errors


def test_inspect_finds_a_network_whose_name_no_image_could_have(lamella):
    assert lamella("network", "create", "MyNet")[0] == 0
    assert lamella("inspect", "-f", "{{.Name}}", "MyNet") == (0, "MyNet\n", "")
    for reference in ("NoNet", "a/../b", ""):
        code, _, errors = lamella("inspect", reference)
        assert code == 1
        assert errors.startswith(f"Error: No such object: {reference}\n")


def test_inspect_says_when_the_beginning_of_an_id_means_several(lamella, engine, front):
    for digit in "01":
        network_id = f"{'f' * 62}0{digit}"
        network = replace(engine.networks[front], network_id=network_id, name=f"n{digit}")
        engine.networks[network_id] = network
    code, told, errors = lamella("inspect", "f" * 20)
    assert (code, told) == (1, "[]\n")
    assert "f" * 20 in errors
    assert "No such object" not in errors
