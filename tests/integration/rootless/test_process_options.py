"""Process options of an ordinary user's containers."""

import json
import os

import pytest

from engine.linux.capabilities import CAPABILITY_NAMES


def run(session, *words):
    *options, script = words
    return session.lamella("run", "--rm", *options, "starter", "sh", "-c", script)


def said(session, *words):
    ended = run(session, *words)
    assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
    return ended.stdout.splitlines()


def test_capabilities_are_those_of_the_user_namespace(session):
    looks = "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status"
    fields = dict(line.split() for line in said(session, "--cap-drop", "ALL", looks))
    assert int(fields["CapEff:"], 16) == int(fields["CapBnd:"], 16) == 0
    fields = dict(line.split() for line in said(session, "--privileged", looks))
    assert int(fields["CapEff:"], 16) & (1 << len(CAPABILITY_NAMES)) - 1 > 0
    assert fields["Seccomp:"] == "0"
    fields = dict(
        line.split() for line in said(session, "--security-opt", "no-new-privileges", looks)
    )
    assert (fields["NoNewPrivs:"], fields["Seccomp:"]) == ("1", "2")


def test_a_device_is_bound(session):
    (count,) = said(session, "--device", "/dev/full:/dev/x/one", "head -c 3 /dev/x/one | wc -c")
    assert count == "3"
    (count,) = said(session, "--device", "/dev/full:/opt/one", "head -c 3 /opt/one | wc -c")
    assert count == "3"


def test_limits_that_only_root_may_raise_are_lowered_with_a_warning(session):
    ended = run(session, "--ulimit", "nofile=64:999999999", "ulimit -n; ulimit -Hn")
    assert ended.returncode == 0
    soft, hard = ended.stdout.split()
    assert soft == "64"
    assert f"is lowered to 64:{hard}, the most that this host lets us give" in ended.stderr


def test_kernel_parameters_and_shared_memory_are_its_own(session):
    lines = said(
        session,
        *("--sysctl", "net.ipv4.ip_default_ttl=77", "--shm-size", "2m"),
        "cat /proc/sys/net/ipv4/ip_default_ttl; df -k /dev/shm | tail -n 1",
    )
    assert lines[0] == "77"
    assert lines[1].split()[1] == "2048"


def test_name_and_memory_of_the_host_can_be_shared(session):
    looks = "for n in uts ipc; do readlink /proc/self/ns/$n; done; test -d /dev/shm && echo there"
    lines = said(session, "--uts", "host", "--ipc", "host", looks)
    assert lines == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("uts", "ipc")] + ["there"]


@pytest.mark.parametrize("option", [("--userns", "host"), ("--pid", "host")])
def test_what_needs_root_or_a_control_group_is_refused_with_a_remedy(session, option):
    has_groups = json.loads(session.done("info", "--format", "json"))["features"]
    if option[0] == "--pid" and all(
        one["is_available"] for one in has_groups if one["name"] == "limits"
    ):
        pytest.skip("this user has a control group")
    ended = run(session, *option, "true")
    assert ended.returncode == 125
    assert f"Error: {' '.join(option)} is not available here" in ended.stderr
    assert "hint: " in ended.stderr


def test_the_namespace_of_a_container_of_another_program_is_refused_with_a_remedy(session):
    session.done(
        *("run", "-d", "--name", "donor", "--ipc", "shareable", "starter", "sleep", "1000")
    )
    ended = run(session, "--ipc", "container:donor", "true")
    assert ended.returncode == 125
    assert "in a user namespace of its own" in ended.stderr
    assert "hint: Start both from the same application, or run Lamella as root" in ended.stderr
    session.done("rm", "-f", "donor")
    assert session.done("ps", "-aq") == ""


def test_the_score_of_the_container_is_its_own(session):
    assert said(session, "--oom-score-adj", "321", "cat /proc/self/oom_score_adj") == ["321"]


def test_the_hosts_user_namespace_cannot_be_shared_and_that_is_said(session):
    ended = run(session, "--userns", "host", "true")
    assert ended.returncode == 125
    assert "--userns host is not available" in ended.stderr
