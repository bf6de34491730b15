"""A container's life under an ordinary user, in a user namespace with many ids and with one."""

import json
import os

import psutil

from tests.staging import left_in_staging

COUNTS = "n=0; trap 'exit 3' TERM; while :; do n=$((n+1)); echo $n; sleep 0.05; done"


def runs(process_id):
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def status_of(session, name):
    (line,) = session.done("ps", "-a", "--format", "json", "-f", f"name={name}").splitlines()
    return json.loads(line)["status"]


def read_first_lines(session, name, count):
    """Read a log again and again until it has so many lines."""
    while len(lines := session.done("logs", name).splitlines()) < count:
        pass
    return lines


def test_a_container_runs_logs_stops_starts_again_and_is_removed(session):
    session.done("run", "-d", "--name", "web", "starter", "sh", "-c", COUNTS)
    assert status_of(session, "web") == "running"
    assert read_first_lines(session, "web", 3)[:3] == ["1", "2", "3"]
    monitors = session.monitors()
    session.done("stop", "web")
    assert status_of(session, "web") == "exited"
    assert session.done("wait", "web") == "3"
    session.done("start", "web")
    assert status_of(session, "web") == "running"
    monitors |= session.monitors()
    session.done("restart", "web")
    assert status_of(session, "web") == "running"
    monitors |= session.monitors()
    assert len(monitors) == 3
    assert session.lamella("rm", "web").returncode == 1
    session.done("rm", "-f", "web")
    assert session.done("ps", "-aq") == ""
    assert [process_id for process_id in monitors if runs(process_id)] == []
    for part in ("containers", "run/containers"):
        assert os.listdir(session.store / part) == []
    assert left_in_staging(session.store) == []


def test_the_exit_code_and_both_streams_arrive(session):
    ended = session.lamella("run", "--rm", "starter", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out\n", "err\n")
    assert session.lamella("run", "--rm", "starter", "/no/such/program").returncode == 127
    assert session.done("ps", "-aq") == ""


def test_its_root_is_the_user_outside_and_sees_only_its_own(session):
    script = "id -u; cat /proc/self/uid_map; grep NoNewPrivs /proc/self/status; echo $$; ls /proc"
    lines = session.done("run", "--rm", "starter", "sh", "-c", script).splitlines()
    assert lines[0] == "0"
    assert lines[1].split()[:2] == ["0", str(session.user_id)]
    assert "1" in lines
    assert len([name for name in lines[3:] if name.isdigit()]) < 10


def test_what_it_writes_is_listed_and_gone_with_it(session):
    session.done(
        *("run", "--name", "writes", "starter", "sh", "-c"),
        "mkdir /data; echo x > /data/new; rm /etc/passwd; chmod 4755 /data/new",
    )
    changes = session.done("diff", "writes").splitlines()
    assert {"A /data", "A /data/new", "D /etc/passwd"} <= set(changes)
    session.done("rm", "writes")
    assert os.listdir(session.store / "containers") == []


def test_pausing_works_or_is_refused_with_a_remedy(session):
    session.done("run", "-d", "--name", "web", "starter", "sh", "-c", COUNTS)
    features = json.loads(session.done("info", "--format", "json"))["features"]
    (pause,) = (feature for feature in features if feature["name"] == "pause")
    ended = session.lamella("pause", "web")
    if pause["is_available"]:
        assert ended.returncode == 0
        assert status_of(session, "web") == "paused"
    else:
        assert ended.returncode == 1
        assert ended.stderr.splitlines() == [
            f"Error: pausing is not available here: {pause['detail']}",
            f"hint: {pause['remedy']}",
        ]
        assert status_of(session, "web") == "running"
    session.done("rm", "-f", "web")


def test_limits_that_cannot_be_had_are_a_warning(session):
    features = json.loads(session.done("info", "--format", "json"))["features"]
    has_limits = all(one["is_available"] for one in features if one["name"] == "limits")
    ended = session.lamella("run", "--rm", "--memory", "64m", "starter", "true")
    assert ended.returncode == 0
    assert has_limits is not ("--memory has no effect" in ended.stderr)
