"""Commands over the engine that answers from memory."""

import json

import pytest

from engine.types import ContainerStatus
from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def lamella(capfd):
    engine = FakeEngine()
    engine.add_image("web:latest")
    engine.add_container("web-1", image="web:latest", log=(b"one", b"two \xff"))
    engine.add_container("job", image="web:latest", status=ContainerStatus.EXITED, exit_code=3)

    def call(*words):
        code = main(words, opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def test_ps_lists_what_runs_and_with_a_all(lamella):
    assert "job" not in lamella("ps")[1]
    assert "job" in lamella("ps", "-a")[1]
    assert "job" in lamella("ps", "--filter", "status=exited")[1]
    assert lamella("ps", "-f", "status=asleep")[0] == 125


def test_json_is_one_object_a_line(lamella):
    names = [
        json.loads(line)["name"] for line in lamella("ps", "-a", "--format=json")[1].splitlines()
    ]
    assert sorted(names) == ["job", "web-1"]


def test_each_failure_is_told_and_the_others_are_done(lamella):
    code, out, err = lamella("pause", "nobody", "web-1")
    assert code == 1
    assert out == "web-1\n"
    assert "Error: No such container: nobody" in err


def test_inspect_finds_images_and_containers_and_says_what_it_does_not_find(lamella):
    code, out, err = lamella("inspect", "web-1", "web:latest", "nothing")
    assert code == 1
    assert len(json.loads(out)) == 2
    assert "No such object: nothing" in err


def test_run_of_an_unknown_image_is_125(lamella):
    assert lamella("run", "-d", "nothing")[0] == 125


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}", "exited false 3"),
        ("{{.Name}}", "/job"),
        ("{{.Config.Image}}", "web:latest"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{json .Mounts}}", "[]"),
        ("{{.summary.name}}", "job"),
    ],
)
def test_inspect_takes_dockers_templates(lamella, template, text):
    assert lamella("inspect", "-f", template, "job") == (0, f"{text}\n", "")


def test_inspect_with_a_type_and_a_template_says_what_fails_and_goes_on(lamella):
    words = ("--type", "image", "-f", "{{.RepoTags}}", "job", "web:latest")
    code, out, err = lamella("inspect", *words)
    assert code == 1
    assert out == "[web:latest]\n"
    assert "job" in err


def test_inspect_has_dockers_document_and_the_engines(lamella):
    (found,) = json.loads(lamella("inspect", "web-1")[1])
    assert found["State"]["Status"] == found["summary"]["status"] == "running"


def test_what_a_load_could_not_make_is_said(capfd, tmp_path):
    engine = FakeEngine()
    engine.load_warnings = ("dev/sda was left out: this user may make no devices",)
    code = main(["load", str(tmp_path)], opener=lambda **_directories: engine.opened())
    captured = capfd.readouterr()
    assert code == 0
    assert captured.err == "WARNING: dev/sda was left out: this user may make no devices\n"
    assert "Loaded image: loaded:latest" in captured.out
