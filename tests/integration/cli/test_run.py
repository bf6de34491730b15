"""The command line as a person has it: a process, a store, real containers."""

import os
import signal

import pytest

# The first process of a pid namespace cannot be killed from inside.
KILLED = "sh -c 'kill -9 $$'; exit $?"

pytestmark = pytest.mark.usefixtures("starter_image")


def test_run_gives_streams_and_exit_code_of_the_program(lamella):
    done = lamella("run", "--rm", "starter", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert b"starter" not in lamella("ps", "-a", "--filter", "status=exited").stdout


def test_exit_codes_are_dockers(lamella):
    assert lamella("run", "--rm", "starter", "/no/such/program").returncode == 127
    assert lamella("run", "--rm", "starter", "/etc").returncode == 126
    assert lamella("run", "--rm", "no-such-image").returncode == 125
    assert lamella("run", "--rm", "starter", "sh", "-c", KILLED).returncode == 137


def test_an_interrupt_reaches_the_program(lamella):
    script = "trap 'exit 7' INT; echo ready; while :; do read -t 1 x </dev/zero; done"
    with lamella.open("run", "--rm", "starter", "sh", "-c", script) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 7


def test_a_name_in_use_is_refused_and_changes_nothing(lamella):
    assert lamella("create", "--name", "one", "starter").returncode == 0
    refused = lamella("create", "--name", "one", "starter")

    assert refused.returncode == 125
    assert b'The container name "/one" is already in use' in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_one_that_is_removed_on_exit_shows_all_its_output_beside_another_application(
    lamella,
):
    containers = lamella.root / "containers"
    with lamella.open("events") as other:
        try:
            for number in range(10):
                done = lamella(
                    "run", "--rm", "starter", "sh", "-c", f"echo {number}; exit {number}"
                )
                assert (done.returncode, done.stdout, done.stderr) == (
                    number,
                    b"%d\n" % number,
                    b"",
                )
                assert os.listdir(containers) == []
        finally:
            other.terminate()
            other.communicate(timeout=30)


def test_a_long_output_comes_whole_and_in_order(lamella):
    count = 100_000
    script = f"n=0; while [ $n -lt {count} ]; do n=$((n+1)); echo $n; done; exit 5"
    done = lamella("run", "--rm", "starter", "sh", "-c", script)

    assert (done.returncode, done.stderr) == (5, b"")
    assert done.stdout.split() == [b"%d" % number for number in range(1, count + 1)]
