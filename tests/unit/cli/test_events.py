"""`events` over the engine that answers from memory."""

import json
import re
import time

import pytest

from engine.events import EventSubject
from engine.types import ContainerStatus
from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def lamella(capfd):
    engine = FakeEngine()
    image_id = engine.add_image("web:latest")
    engine.add_container("web-1", image="web:latest")
    engine.change_status("web-1", ContainerStatus.EXITED, "die", exit_code=3)
    engine.change_status("web-1", ContainerStatus.RUNNING, "start")
    engine.add_container("job", image="web:latest")
    engine.change_status("job", ContainerStatus.RUNNING, "health_status: healthy")
    engine._emit(EventSubject.IMAGE, "tag", image_id, "web:latest")

    def call(*words):
        code = main(("events", *words), opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def actions(lamella):
    def call(*words):
        until = str(time.time_ns() / 1e9)
        code, out, err = lamella("--until", until, "--format", "{{.Type}} {{.Action}}", *words)
        assert code == 0, err
        return out.splitlines()

    return call


ALL = [
    "container die",
    "container start",
    "container health_status: healthy",
    "image tag",
]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ((), ALL),
        (("type=image",), ALL[3:]),
        (("container=web-1",), ALL[:2]),
        (("container=web-1", "container=job"), ALL[:3]),
        (("event=die",), ALL[:1]),
        (("action=health_status",), ALL[2:3]),
        (("image=web",), ALL),
        (("image=web:latest", "type=image"), ALL[3:]),
        (("container=web-1", "event=start"), ALL[1:2]),
        (("label=team",), []),
        (("volume=data",), []),
    ],
)
def test_events_keeps_what_the_filters_mean(actions, filters, kept):
    assert actions(*(word for text in filters for word in ("-f", text))) == kept


def test_a_line_reads_as_dockers(lamella):
    _, out, _ = lamella("--until", str(time.time_ns() / 1e9), "-f", "event=die")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z container die [0-9a-f]{64} "
        r"\(exitCode=3, image=web:latest, name=web-1\)\n",
        out,
    )


def test_json_has_dockers_names(lamella):
    _, out, _ = lamella("--until", str(time.time_ns() / 1e9), "-f", "event=die", "--format", "json")
    event = json.loads(out)
    assert (event["Type"], event["Action"]) == ("container", "die")
    assert event["Actor"]["Attributes"]["exitCode"] == "3"
    assert event["TimeNano"] // 1_000_000_000 == event["Time"]


def test_since_a_time_that_has_not_come_there_is_nothing(actions):
    assert actions("--since", str(time.time() + 1000)) == []


def test_a_filter_that_is_not_known_is_refused(lamella):
    code, _, err = lamella("-f", "colour=red")
    assert code == 125
    assert "invalid filter: colour, one of action, container" in err
    assert lamella("--since", "yesterday")[0] != 0
