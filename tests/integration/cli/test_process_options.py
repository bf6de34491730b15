"""`run` and `create` with files of variables, labels and ids, and what `inspect` then shows."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("starter_image")


def test_variables_of_files_come_before_those_of_the_command_line(lamella, tmp_path):
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\nFROM_HERE\nGONE_FROM_HERE\n")
    lamella.environment["FROM_HERE"] = "taken"
    done = lamella(
        *("run", "--rm", "--env-file", str(file), "-e", "B=line", "starter"),
        *("sh", "-c", "echo $A $B $FROM_HERE ${GONE_FROM_HERE-none}"),
    )
    assert (done.returncode, done.stdout) == (0, b"file line taken none\n")


def test_the_id_is_written_once_and_never_over_another(lamella, tmp_path):
    file = tmp_path / "id"
    made = lamella("create", "--cidfile", str(file), "starter", "true")
    assert (made.returncode, made.stdout) == (0, file.read_bytes() + b"\n")
    again = lamella("run", "--cidfile", str(file), "starter", "true")
    assert again.returncode == 125
    assert b"container ID file found, make sure the other container isn't running" in again.stderr
    assert file.read_bytes() + b"\n" == made.stdout
    lamella("rm", file.read_text())
    assert file.exists()


def test_without_a_container_there_is_no_file_with_its_id(lamella, tmp_path):
    file = tmp_path / "id"
    assert lamella("create", "--cidfile", str(file), "no-such-image").returncode != 0
    assert not file.exists()
    refused = lamella("create", "--cidfile", str(file), "--cap-add", "BOGUS", "starter")
    assert b'unknown capability: "CAP_BOGUS"' in refused.stderr
    assert not file.exists()


def test_inspect_shows_every_option_by_dockers_names(lamella, tmp_path):
    labels = tmp_path / "labels"
    labels.write_text("role=web\nalone\n")
    made = lamella(
        *("create", "--name", "one", "--label-file", str(labels), "-l", "role=db"),
        *("--cap-add", "NET_RAW", "--cap-drop", "CHOWN", "--group-add", "7", "--pid", "host"),
        *("--security-opt", "no-new-privileges", "--ulimit", "core=0", "--shm-size", "1m"),
        *("--device", "/dev/full:/dev/x:r", "--sysctl", "net.ipv4.ip_forward=1"),
        *("--oom-score-adj", "5", "--cpu-shares", "512", "--ipc", "shareable", "starter", "true"),
    )
    if b"--pid host is not available here" in made.stderr:
        pytest.skip("an ordinary user without a control group")
    assert made.returncode == 0, made.stderr
    (document,) = json.loads(lamella.text("inspect", "one"))
    shown = document["HostConfig"]
    assert {"role": "db", "alone": ""}.items() <= document["Config"]["Labels"].items()
    assert shown["CapAdd"] == ["NET_RAW"]
    assert shown["CapDrop"] == ["CHOWN"]
    assert shown["GroupAdd"] == ["7"]
    assert (shown["PidMode"], shown["IpcMode"]) == ("host", "shareable")
    assert shown["SecurityOpt"] == ["no-new-privileges"]
    assert shown["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert shown["ShmSize"] == 1 << 20
    assert shown["Devices"] == [
        {"PathOnHost": "/dev/full", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}
    ]
    assert shown["Sysctls"] == {"net.ipv4.ip_forward": "1"}
    assert (shown["OomScoreAdj"], shown["CpuShares"]) == (5, 512)


def test_a_run_whose_device_is_gone_leaves_nothing(lamella):
    for words in (("run", "--rm"), ("run", "--rm", "-d")):
        done = lamella(*words, "--device", "/dev/nosuch", "starter", "true")
        assert done.returncode == 125
        assert b"error gathering device information while adding custom device" in done.stderr
        assert b"Traceback" not in done.stderr
    assert lamella.text("ps", "-aq") == ""


def test_a_program_in_a_container_gets_the_variables_of_a_file(lamella, tmp_path):
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\n")
    assert lamella("run", "-d", "--name", "one", "starter", "sleep", "1000").returncode == 0
    done = lamella("exec", "--env-file", str(file), "-e", "B=line", "one", "sh", "-c", "echo $A $B")
    assert (done.returncode, done.stdout) == (0, b"file line\n")
