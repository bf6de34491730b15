"""`info`: what the host gives containers and their networks, and what it does not."""

import json

import pytest

from engine.types import HostFeature
from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.network_features = (
        HostFeature(name="network", is_available=True, detail="bridges"),
        HostFeature(
            name="forwarding", is_available=False, detail="it is off", remedy="sysctl -w x=1"
        ),
    )
    return fake


@pytest.fixture
def lamella(engine, capfd):
    def call(*words):
        code = main(words, opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    return call


def test_what_networks_need_stands_behind_the_rest_with_its_remedies_at_the_end(lamella):
    lines = [line.split() for line in lamella("info").splitlines()]
    assert ["network", "yes", "bridges"] in lines
    assert ["forwarding", "no", "it", "is", "off"] in lines
    assert lines[-3:] == [["limits:", "Use", "systemd"], [], ["forwarding:", "sysctl", "-w", "x=1"]]


def test_json_has_all_features_in_one_list(lamella):
    found = json.loads(lamella("info", "--format", "json"))
    names = [feature["name"] for feature in found["features"]]
    assert names == ["overlay", "pause", "limits", "network", "forwarding"]
