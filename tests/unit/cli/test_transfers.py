"""`pull` and `run --pull`, over the engine that answers from memory."""

import json
import os
import re

import pytest

from engine.types import Digest, LayerTransfer, TransferStatus
from tests.fake_registry import LAYER_DIGESTS
from tests.fakes import FakeEngine
from tui.cli.transfer_lines import transfer_lines
from tui.cli.transfers import read_name

ONE, TWO = (digest[7:19] for digest in LAYER_DIGESTS)


@pytest.fixture
def engine():
    engine = FakeEngine()
    engine.remote_names |= {"web:latest", "localhost:5000/team/web:1"}
    return engine


def test_pull_says_what_docker_says(lamella):
    code, out, err = lamella("pull", "web")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from library/web"]
    for layer in (ONE, TWO):
        assert [line for line in lines if line.startswith(layer)] == [
            f"{layer}: Pulling fs layer",
            f"{layer}: Download complete",
            f"{layer}: Pull complete",
        ]
    assert lines[-3].startswith("Digest: sha256:")
    assert lines[-2:] == [
        "Status: Downloaded newer image for web:latest",
        "docker.io/library/web:latest",
    ]


def test_a_second_pull_says_that_it_is_up_to_date(lamella):
    lamella("pull", "localhost:5000/team/web:1")
    lines = lamella("pull", "localhost:5000/team/web:1")[1].splitlines()
    assert lines[0] == "1: Pulling from team/web"
    assert f"{ONE}: Already exists" in lines
    assert "Status: Image is up to date for localhost:5000/team/web:1" in lines


def test_a_quiet_pull_prints_the_name_alone(lamella):
    assert lamella("pull", "-q", "web") == (0, "docker.io/library/web:latest\n", "")


def test_pull_of_all_tags_brings_each(lamella, engine):
    engine.remote_tags["localhost:5000/team/web"] = ("1", "2")
    engine.remote_names.add("localhost:5000/team/web:2")
    code, out, _ = lamella("pull", "-a", "localhost:5000/team/web")
    assert code == 0
    heads = [line for line in out.splitlines() if "Pulling from" in line]
    assert heads == ["1: Pulling from team/web", "2: Pulling from team/web"]
    assert out.endswith("\nlocalhost:5000/team/web\n")
    assert {name for image in engine.images.values() for name in image.summary.names} == {
        "localhost:5000/team/web:1",
        "localhost:5000/team/web:2",
    }
    assert lamella("pull", "-a", "web:1")[0] == 125


def test_the_platform_is_passed_on(lamella, engine):
    lamella("pull", "--platform", "linux/arm64", "web")
    assert ("pull", "web linux/arm64") in engine.calls


def test_warnings_of_a_pull_go_to_standard_error(lamella, engine):
    engine.pull_warnings = ("devices\x1b[2J are missing",)
    assert lamella("pull", "-q", "web")[2] == "WARNING: devices\ufffd[2J are missing\n"


def test_run_pulls_what_is_missing_and_leaves_standard_output_to_the_program(lamella):
    code, out, err = lamella("run", "-d", "web:latest")
    assert code == 0
    assert len(out) == 65
    assert err.startswith("Unable to find image 'web:latest' locally\nlatest: Pulling from library")
    assert lamella("run", "-d", "web:latest")[2] == ""


def test_run_pulls_when_it_is_told_to_and_not_when_it_is_not(lamella, engine):
    assert lamella("run", "-d", "--pull", "never", "web")[0] == 125
    assert engine.images == {}
    lamella("pull", "web")
    assert "Image is up to date" in lamella("create", "--pull=always", "web:latest")[2]
    assert lamella("run", "-d", "--pull", "sometimes", "web")[0] == 125


def test_run_pulls_no_id(lamella, engine):
    code, _, err = lamella("run", "-d", f"sha256:{'0' * 64}")
    assert code == 125
    assert "No such image" in err
    assert not [call for call in engine.calls if call[0] == "pull"]


def test_push_says_what_docker_says(lamella, engine):
    engine.add_image("localhost:5000/mine:latest")
    lines = lamella("push", "localhost:5000/mine")[1].splitlines()
    assert lines[:2] == [
        "Using default tag: latest",
        "The push refers to repository [localhost:5000/mine]",
    ]
    assert f"{ONE}: Pushed" in lines
    assert lines[-1].startswith("latest: digest: sha256:")
    assert lines[-1].endswith(" size: 500")
    assert f"{ONE}: Layer already exists" in lamella("push", "localhost:5000/mine")[1]
    assert lamella("push", "-q", "localhost:5000/mine")[1] == "localhost:5000/mine:latest\n"


def test_push_of_all_tags_pushes_those_of_the_repository_alone(lamella, engine):
    for name in ("localhost:5000/mine:1", "localhost:5000/mine:2", "localhost:5000/other:1"):
        engine.add_image(name)
    assert lamella("push", "-q", "-a", "localhost:5000/mine")[1].split() == [
        "localhost:5000/mine:1",
        "localhost:5000/mine:2",
    ]
    assert lamella("push", "-a", "localhost:5000/mine:1")[0] == 125
    assert lamella("push", "-a", "localhost:5000/none")[0] == 1


def test_peek_lists_the_steps_newest_first_and_the_files_of_one(lamella, engine):
    code, out, _ = lamella("peek", "web")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "web:latest  linux/amd64  2kB, 2kB to fetch"
    assert [line.split()[:2] for line in lines[3:]] == [["1", TWO], ["0", ONE]]
    files = lamella("peek", "--files", "1", "web")[1].splitlines()
    assert files[1].split() == ["added", "1B", "two"]
    assert lamella("peek", "--files", "top", "web")[0] == 125
    (described,) = json.loads(lamella("peek", "--format", "json", "web")[1])
    assert described["size_bytes"] == 2000
    (found,) = json.loads(lamella("peek", "--files", "1", "--format", "json", "web")[1])
    assert found["path"] == "two"
    assert LAYER_DIGESTS[1] in lamella("peek", "--no-trunc", "web")[1]
    assert lamella("peek", "none")[0] == 1
    assert engine.images == {}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("web", "docker.io/library/web:latest"),
        ("team/web:1", "docker.io/team/web:1"),
        ("docker.io/web", "docker.io/library/web:latest"),
        ("localhost/web", "localhost/web:latest"),
        ("quay.io/team/web:1", "quay.io/team/web:1"),
        ("localhost:5000/web@sha256:ab", "localhost:5000/web@sha256:ab"),
        ("localhost:5000/web:1@sha256:ab", "localhost:5000/web@sha256:ab"),
    ],
)
def test_names_are_written_out(text, canonical):
    assert read_name(text).canonical == canonical


@pytest.fixture
def terminal(monkeypatch):
    """A terminal, and what is drawn on it until a frame is there that has a text."""
    monkeypatch.setenv("TERM", "xterm")
    outer, inner = os.openpty()

    def drawn(until):
        # What is written comes through a pty piece by piece.
        text = ""
        while not (until in text and text.endswith("\x1b[J")):
            text += os.read(outer, 1 << 16).decode(errors="replace")
        return text

    yield inner, drawn
    os.close(outer)
    os.close(inner)


def transfer(number, status, done=0):
    return LayerTransfer(
        digest=Digest(f"sha256:{number:064x}"),
        status=status,
        done_bytes=done,
        total_bytes=2_000_000,
    )


def test_a_terminal_shows_a_line_for_each_layer_and_draws_it_again_in_place(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "24")
    descriptor, drawn = terminal
    with transfer_lines(descriptor) as listener:
        listener(transfer(1, TransferStatus.DOWNLOADING, done=1_000_000))
        first = drawn(until="1MB/2MB")
        assert "Downloading" in first
        assert "1MB/2MB" in first
        assert f"[{'=' * 25}>" in first
        listener(transfer(1, TransferStatus.DONE))
    last = drawn(until="Pull complete")
    assert last.startswith("\x1b[1A\r")
    assert "Pull complete" in last


def test_more_layers_than_lines_never_leave_the_screen(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "10")
    descriptor, drawn = terminal
    with transfer_lines(descriptor) as listener:
        for number in range(40):
            listener(transfer(number, TransferStatus.EXISTS))
        listener(transfer(40, TransferStatus.EXTRACTING, done=500_000))
    frame = re.split(r"\x1b\[\d+A", drawn(until="500kB/2MB"))[-1]
    assert frame.count("\n") <= 9
    assert "Extracting  25% 500kB/2MB" in frame
    assert "more" in frame
    assert all(len(line) <= 60 + 8 for line in frame.split("\n"))


def test_peek_shows_a_file_of_a_step(lamella, engine, monkeypatch):
    engine.remote_content["two"] = b"a\x1b[2J\nb\n\xff"
    code, out, err = lamella("peek", "--files", "1", "--show", "two", "web")
    assert (code, err) == (0, "")
    assert out.encode("utf-8", "surrogateescape") in {
        b"a\x1b[2J\nb\n\xff",
        b"a\x1b[2J\nb\n\xef\xbf\xbd",
    }
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert lamella("peek", "--files", "1", "--show", "two", "web")[1] == "a\ufffd[2J\nb\n\ufffd\n"
    monkeypatch.undo()
    engine.remote_content["two"] = bytes(3 << 20)
    code, out, err = lamella("peek", "--files", "1", "--show", "two", "web")
    assert (code, len(out)) == (0, 1 << 20)
    assert err == "WARNING: this is the first 1.05MB of 3.15MB\n"
    code, _, err = lamella("peek", "--files", "0", "--show", "two", "web")
    assert code == 1
    assert "Could not find the file two in web:latest (step 0)" in err
    assert lamella("peek", "--show", "two", "web")[0] == 125


def test_nothing_is_pulled_from_where_nothing_is(lamella):
    code, out, err = lamella("pull", "nothing:1")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert lamella("image", "pull", "-q", "web")[1] == "docker.io/library/web:latest\n"


def test_peek_says_which_platforms_there_are(lamella, engine):
    assert "Platforms" not in lamella("peek", "web")[1]
    engine.remote_platforms = ("linux/amd64", "linux/arm/v7")
    lines = lamella("peek", "--platform", "linux/arm/v7", "web")[1].splitlines()
    assert lines[0].startswith("web:latest  linux/arm/v7  ")
    assert "Platforms: linux/amd64, linux/arm/v7" in lines
