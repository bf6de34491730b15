"""Commands about everything at once, as processes over a real store."""

import json
import signal
import time

import pytest

pytestmark = pytest.mark.usefixtures("starter_image")


def test_an_ancestor_is_an_image_and_all_that_stand_on_its_layers(lamella):
    lamella.text("demo")
    lamella.text("create", "--name", "plain", "starter", "true")
    by_starter = lamella.text("ps", "-a", "--filter", "ancestor=starter", "--format", "{{.Names}}")
    by_demo = lamella.text("ps", "-a", "--filter", "ancestor=demo:latest", "--format", "{{.Names}}")
    assert "plain" in by_starter.split()
    assert "plain" not in by_demo.split()
    assert set(by_demo.split()) < set(by_starter.split())


def test_before_and_since_go_by_the_time_of_making(lamella):
    for name in ("first", "second", "third"):
        lamella.text("create", "--name", name, "starter", "true")
    assert lamella.text("ps", "-a", "-f", "since=first", "--format", "{{.Names}}").split() == [
        "third", "second",
    ]  # fmt: skip
    assert (
        "first" in lamella.text("ps", "-a", "-f", "before=second", "--format", "{{.Names}}").split()
    )


def test_events_of_other_processes_come_from_the_past_and_live(lamella):
    begun = time.time()
    lamella.text("create", "--name", "one", "--label", "team=blue", "starter", "true")
    form = "{{.Action}} {{.Actor.Attributes.name}}"
    with lamella.open(
        "events", "--since", str(begun), "-f", "label=team=blue", "--format", form
    ) as process:
        assert process.stdout.readline() == b"create one\n"
        lamella.text("start", "one")
        assert process.stdout.readline() == b"start one\n"
        lamella.text("wait", "one")
        lamella.text("rm", "one")
        # What the program does in the meantime is told by its monitor, with the same labels.
        assert [process.stdout.readline() for _ in range(2)] == [b"die one\n", b"destroy one\n"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    past = lamella.text("events", "--since", str(begun), "--until", "0s", "--format", form)
    assert [line for line in past.splitlines() if line.endswith(" one")] == [
        "create one", "start one", "die one", "destroy one",
    ]  # fmt: skip


def test_stats_and_top_show_real_figures(lamella):
    lamella.text("run", "-d", "--name", "one", "--memory", "64m", "starter", "sleep", "1000")
    (line,) = lamella.text("stats", "--no-stream", "--format", "json", "one").splitlines()
    found = json.loads(line)
    assert found["Name"] == "one"
    assert found["memory_bytes"] is None or found["memory_bytes"] > 0
    assert lamella.text("top", "one", "-o", "ppid,comm").split()[:2] == ["PPID", "COMMAND"]
    assert "sleep 1000" in lamella.text("top", "one")
    lamella.text("kill", "-s", "KILL", "one")
    assert (
        lamella.text("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one")
        == "exited 137\n"
    )


def test_wait_prints_the_code_of_each_in_turn(lamella):
    for code in ("3", "0"):
        lamella.text("run", "-d", "--name", f"ends-{code}", "starter", "sh", "-c", f"exit {code}")
    assert lamella.text("wait", "ends-3", "ends-0") == "3\n0\n"


def test_system_prune_leaves_what_runs_and_its_image(lamella):
    lamella.text("demo")
    lamella.text("run", "-d", "--name", "busy", "starter", "sleep", "1000")
    lamella.text("stop", "-t", "0", *lamella.text("ps", "-q", "-f", "ancestor=demo:latest").split())
    out = lamella.text("system", "prune", "-af")
    assert "untagged: demo:latest" in out
    assert lamella.text("ps", "-a", "--format", "{{.Names}}") == "busy\n"
    assert lamella.text("images", "--format", "{{.Repository}}") == "starter\n"
    rows = [line.split() for line in lamella.text("system", "df").splitlines()]
    assert rows[1][:3] == ["Images", "1", "1"]
    assert rows[1][-2:] == ["B", "(0%)"]
