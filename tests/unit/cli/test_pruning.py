"""`container prune`, `image prune`, `system prune`, `system df`: what they say and ask."""

import io
import json
import sys

import pytest

from engine.types import ContainerStatus
from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_image("web:latest")
    fake.add_image("old:1")
    fake.add_image("")
    fake.add_container("web-1", image="web:latest")
    fake.add_container("job", image="web:latest", status=ContainerStatus.EXITED, exit_code=0)
    fake.add_volume("lost", size_bytes=5000, is_anonymous=True)
    fake.add_volume("data", size_bytes=7000)
    return fake


@pytest.fixture
def lamella(engine, capfd, monkeypatch):
    def call(*words, answer=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code = main(words, opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "maybe\n"])
@pytest.mark.parametrize("what", ["container", "image", "system"])
def test_nothing_is_removed_without_a_yes(lamella, engine, what, answer):
    code, out, err = lamella(what, "prune", answer=answer)
    assert (code, out) == (0, "")
    assert err.endswith("Are you sure you want to continue? [y/N] ")
    assert engine.calls == []


def test_container_prune_asks_in_dockers_words_and_tells_what_went(lamella, engine):
    job = next(one for one in engine.containers.values() if one.summary.name == "job")
    code, out, err = lamella("container", "prune", answer="y\n")
    assert code == 0
    assert err.startswith("WARNING! This will remove all stopped containers.\n")
    assert out == (
        f"Deleted Containers:\n{job.summary.container_id}\n\nTotal reclaimed space: 12.0 kB\n"
    )
    assert lamella("container", "prune", "-f")[1] == "Total reclaimed space: 0 B\n"


def test_image_prune_takes_those_without_a_name_and_with_a_those_without_a_container(lamella):
    assert lamella("image", "prune", "-f")[1].count("deleted: sha256:") == 1
    _, out, err = lamella("image", "prune", "-a", answer="yes\n")
    assert "all images without at least one container associated to them" in err
    assert "untagged: old:1\n" in out
    assert "web" not in out


def test_system_prune_names_what_goes_and_takes_volumes_only_when_told(lamella, engine):
    lamella("network", "create", "unused")
    _, out, err = lamella("system", "prune", "--filter", "label!=keep", answer="y\n")
    assert (
        "  - all stopped containers\n  - all networks not used by at least one container\n"
        "  - all dangling images\n  - unused build cache\n"
    ) in err
    assert "  - label!=keep" in err
    assert "Deleted Containers:" in out
    assert "Deleted Images:" in out
    assert "Deleted Networks:\nunused\n" in out
    assert {one.name for one in engine.networks.values()} == {"bridge", "host", "none"}
    assert sorted(engine.volumes) == ["data", "lost"]
    _, out, _ = lamella("system", "prune", "-af", "--volumes")
    assert "Deleted Volumes:\nlost\n" in out
    assert "untagged: old:1" in out
    assert sorted(engine.volumes) == ["data"]


def test_filters_that_do_not_fit_are_refused_before_anything_is_asked(lamella, engine):
    code, _, err = lamella("system", "prune", "--volumes", "--filter", "until=1h", answer="y\n")
    assert code == 125
    assert 'the "until" filter is not supported with "--volumes"' in err
    assert lamella("container", "prune", "--filter", "name=web", answer="y\n")[0] == 125
    assert engine.calls == []


def test_an_until_filter_keeps_what_is_younger(lamella, engine):
    lamella("container", "prune", "-f", "--filter", "until=1h")
    assert len(engine.containers) == 2


def test_df_counts_what_there_is_and_what_can_be_had_back(lamella):
    lines = [line.split() for line in lamella("system", "df")[1].splitlines()]
    assert lines[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[2] == ["Containers", "2", "1", "24.0", "kB", "12.0", "kB", "(50%)"]
    assert lines[3] == ["Local", "Volumes", "2", "0", "12.0", "kB", "12.0", "kB", "(100%)"]
    out = lamella("system", "df", "--format", "{{.Type}}={{.TotalCount}}")[1]
    assert out.splitlines() == [
        "Images=3", "Containers=2", "Local Volumes=2", "Build Cache=0",
    ]  # fmt: skip
    verbose = lamella("system", "df", "-v")[1]
    assert "UNIQUE SIZE" in verbose
    assert "lost" in verbose
    found = json.loads(lamella("system", "df", "-v", "--format", "json")[1])
    assert len(found["containers"]) == 2


def test_system_info_is_info(lamella):
    assert lamella("system", "info")[1] == lamella("info")[1]
