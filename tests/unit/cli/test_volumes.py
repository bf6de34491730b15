"""`volume` and its second words, against the fake engine."""

import io
import json
import sys

import pytest

from engine.types import ContainerRequest, MountRequest
from tests.fakes import FakeEngine


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_volume("files", size_bytes=4200)
    fake.add_volume("a" * 64, size_bytes=1000, is_anonymous=True)
    return fake


def use(engine, name):
    engine.add_image("web:latest")
    mount = MountRequest(kind="volume", source=name, target="/data")
    request = ContainerRequest(image="web:latest", name="web", mounts=(mount,))
    return engine._add(request, "web").summary.container_id


def test_a_volume_is_made_and_its_name_printed(lamella, engine):
    assert lamella("volume", "create", "--label", "use=test", "new") == (0, "new\n", "")
    assert dict(engine.volumes["new"].labels) == {"use": "test"}


def test_the_list_has_dockers_columns(lamella):
    code, told, _ = lamella("volume", "ls")
    assert code == 0
    assert [line.split() for line in told.splitlines()] == [
        ["DRIVER", "VOLUME", "NAME"],
        ["local", "a" * 64],
        ["local", "files"],
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["name=fil"], ["files"]),
        (["dangling=true"], ["files"]),
        (["dangling=0"], ["a" * 64]),
        (["label=com.docker.volume.anonymous"], ["a" * 64]),
        (["label=com.docker.volume.anonymous=yes"], []),
        (["driver=local", "name=fil", "name=aa"], ["a" * 64, "files"]),
    ],
)
def test_filters_choose(lamella, engine, filters, expected):
    use(engine, "a" * 64)
    words = [word for text in filters for word in ("--filter", text)]
    assert lamella("volume", "ls", "-q", *words)[1].split() == expected


def test_inspect_prints_what_is_there_and_names_what_is_not(lamella):
    code, told, errors = lamella("volume", "inspect", "files", "nothing")
    assert code == 1
    assert [one["name"] for one in json.loads(told)] == ["files"]
    assert errors.splitlines()[0] == "Error: get nothing: no such volume"


def test_one_in_use_is_not_removed_and_says_by_whom(lamella, engine):
    container_id = use(engine, "files")
    code, told, errors = lamella("volume", "rm", "-f", "files")
    assert (code, told) == (1, "")
    assert f"remove files: volume is in use - [{container_id}]" in errors
    assert "lamella rm" in errors


def test_prune_asks_first(lamella, engine, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, told, errors = lamella("volume", "prune")
    assert (code, told) == (0, "")
    assert "remove anonymous local volumes not used by at least one container" in errors
    assert len(engine.volumes) == 2


def test_prune_says_what_it_removed_and_freed(lamella):
    assert lamella("volume", "prune", "-f")[1].splitlines() == [
        "Deleted Volumes:",
        "a" * 64,
        "",
        "Total reclaimed space: 1.0 kB",
    ]
    code, told, _ = lamella("volume", "prune", "-af", "--filter", "label!=keep")
    assert (code, told.splitlines()[1]) == (0, "files")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["volume"], "`lamella volume` needs one of: create, inspect, ls, prune, rm"),
        (["volume", "make"], "unknown command: volume make, only create, inspect, ls, prune, rm"),
        (["volume", "ls", "--filter", "size=1"], "invalid filter 'size=1'"),
        (["volume", "prune", "-f", "--filter", "until=1h"], "invalid filter 'until=1h'"),
        (["volume", "create", "--driver", "nfs", "x1"], 'plugin "nfs" not found'),
        (["volume", "create", "x"], "volume name is too short"),
    ],
)
def test_what_cannot_be_is_said(lamella, words, message):
    code, _, errors = lamella(*words)
    assert code == 125
    assert message in errors
    assert "Traceback" not in errors
