"""What is written down of who is called what in networks, and what is taken away again."""

import pytest

from engine.config import EngineConfig
from engine.network.naming import has_names, publish_names, sweep_names
from engine.runtime.network_view import MemberNames, NetworkView, read_members, read_view
from engine.runtime.spec import InterfaceSpec
from engine.store.locks import LockFile
from engine.types import AttachmentRequest, Network, NetworkDriver, NetworkOptions

WEB = "c" * 64


def network(name, identity):
    return Network(network_id=identity, name=name, driver=NetworkDriver.BRIDGE, created_at=0.0)


NETWORKS = {one.network_id: one for one in (network("bridge", "b"), network("front", "f"))}
NETWORKS["i"] = network("inner", "i")


def interface(network_id, address, *, gateway="10.0.0.1", address6=""):
    return InterfaceSpec(
        network_id=network_id,
        name="eth0",
        host_name="",
        bridge="",
        mac_address="",
        ipv4_address=address,
        ipv4_gateway=gateway,
        ipv6_address=address6,
    )


@pytest.fixture
def config(tmp_path):
    return EngineConfig(root=tmp_path / "root", run=tmp_path / "run")


def publish(config, *interfaces, names=("web", "host"), **options):
    publish_names(
        config,
        WEB,
        names=names,
        options=NetworkOptions(**options),
        networks=NETWORKS,
        interfaces=interfaces,
    )
    return read_view(str(config.container_run_directory(WEB)))


def members(config):
    return {
        directory.name: read_members(str(directory / "members"))
        for directory in (config.run / "networks").glob("*")
        if any((directory / "members").glob("*"))
    }


def test_the_default_network_names_nobody(config):
    view = publish(config, interface("b", "10.0.0.2/24"))

    assert view == NetworkView(addresses=("10.0.0.2",))
    assert not members(config)
    assert not has_names((NETWORKS["b"],))
    assert has_names(tuple(NETWORKS.values()))


def test_a_member_is_called_by_all_its_names_once(config):
    front = AttachmentRequest(network="f", aliases=("www", "web"))
    view = publish(
        config,
        interface("i", "10.2.0.2/24", gateway=""),
        interface("f", "10.1.0.2/24", address6="fd00::2/64"),
        attachments=(AttachmentRequest(network="i"), front),
        dns_servers=("192.0.2.1",),
    )

    assert members(config) == {
        "f": (
            MemberNames(names=("web", "www", "c" * 12, "host"), addresses=("10.1.0.2", "fd00::2")),
        ),
        "i": (MemberNames(names=("web", "c" * 12, "host"), addresses=("10.2.0.2",)),),
    }
    assert [each.name for each in view.networks] == ["inner", "front"]
    assert view.servers == ("192.0.2.1",)
    assert view.is_forwarding
    # Where it is reached from outside comes first.
    assert view.addresses == ("10.1.0.2", "fd00::2", "10.2.0.2")


def test_in_internal_networks_alone_nobody_outside_is_asked(config):
    assert not publish(config, interface("i", "10.2.0.2/24", gateway="")).is_forwarding


def test_a_network_that_was_left_forgets_the_container(config):
    publish(config, interface("f", "10.1.0.2/24"), interface("i", "10.2.0.2/24"))
    view = publish(config, interface("i", "10.2.0.2/24"), names=("new", "host"))

    assert [each.name for each in view.networks] == ["inner"]
    assert members(config) == {
        "i": (MemberNames(names=("new", "c" * 12, "host"), addresses=("10.2.0.2",)),)
    }


# A monitor's, and that of who is about to start a container and has told its names.
@pytest.mark.parametrize("name", ["lock", "operation.lock"])
def test_a_sweep_takes_only_the_names_of_the_dead(config, name):
    publish(config, interface("f", "10.1.0.2/24"))
    lock = LockFile(config.container_run_directory(WEB) / name)
    lock.acquire_now()
    sweep_names(config)
    assert set(members(config)) == {"f"}

    lock.release()
    sweep_names(config)

    assert not members(config)
    assert not (config.container_run_directory(WEB) / "network.json").exists()


def test_a_sweep_needs_no_view_and_no_directory(config):
    publish(config, interface("f", "10.1.0.2/24"))
    directory = config.container_run_directory(WEB)
    (directory / "network.json").unlink()
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()

    sweep_names(config)

    assert not members(config)
