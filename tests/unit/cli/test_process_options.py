"""Process options as they are typed, and the files that they name."""

import pytest

from engine.errors import InvalidInputError
from engine.types import DeviceRequest, ProcessOptions, Ulimit
from tui.cli.identity_file import IdentityFile
from tui.cli.options import parse
from tui.cli.process_options import PROCESS_OPTIONS, file_labels, file_variables, read_options


def options(*words):
    return read_options(parse(words, PROCESS_OPTIONS, command="run"))


def test_without_a_word_there_are_none():
    assert options() == ProcessOptions()


def test_each_is_read(tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text("{}")
    read = options(
        *("--group-add", "video", "--group-add=40", "--ulimit", "nofile=1024:2048"),
        *("--ulimit", "core=-1", "--ulimit", "nofile=10", "--cap-add", "NET_RAW"),
        *("--cap-drop=ALL", "--security-opt", f"seccomp={profile}", "--privileged"),
        *("--security-opt", "no-new-privileges", "--security-opt", "systempaths=unconfined"),
        *("--device", "/dev/fuse", "--device=/dev/sda:r", "--device=/dev/sda:/dev/x:rm"),
        *("--device", "/dev/sdb:/dev/y", "--shm-size", "128m", "--pid=host"),
        *("--ipc", "container:web", "--uts=host", "--userns", "host", "--cgroupns=private"),
        *("--sysctl", "net.ipv4.ip_forward=1", "--oom-score-adj", "-500"),
    )
    assert read == ProcessOptions(
        group_add=("video", "40"),
        ulimits=(
            Ulimit(name="nofile", soft=10, hard=10),
            Ulimit(name="core", soft=-1, hard=-1),
        ),
        cap_add=("NET_RAW",),
        cap_drop=("ALL",),
        seccomp_profile="{}",
        has_no_new_privileges=True,
        has_unconfined_system_paths=True,
        is_privileged=True,
        devices=(
            DeviceRequest(host_path="/dev/fuse", container_path="/dev/fuse"),
            DeviceRequest(host_path="/dev/sda", container_path="/dev/sda", access="r"),
            DeviceRequest(host_path="/dev/sda", container_path="/dev/x", access="rm"),
            DeviceRequest(host_path="/dev/sdb", container_path="/dev/y"),
        ),
        shared_memory_bytes=128 << 20,
        pid_mode="host",
        ipc_mode="container:web",
        uts_mode="host",
        user_namespace_mode="host",
        cgroup_namespace_mode="private",
        sysctls=(("net.ipv4.ip_forward", "1"),),
        oom_score_adjustment=-500,
    )


@pytest.mark.parametrize(
    ("text", "is_on"),
    [
        ("no-new-privileges", True),
        ("no-new-privileges=true", True),
        ("no-new-privileges:true", True),
        ("no-new-privileges=false", False),
    ],
)
def test_no_new_privileges_has_four_spellings(text, is_on):
    assert options("--security-opt", text).has_no_new_privileges is is_on


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--ulimit", "nofile"), "invalid ulimit argument: nofile"),
        (("--ulimit", "nofile=many"), "invalid ulimit argument: nofile=many"),
        (("--ulimit", "nofile=1:2:3"), "invalid ulimit argument"),
        (("--device", "/a:/b:r:w"), "invalid device specification: /a:/b:r:w"),
        (("--device", ""), "invalid device specification"),
        (("--sysctl", "net.ipv4.ip_forward"), "sysctl 'net.ipv4.ip_forward' is not allowed"),
        (("--security-opt", "unknown"), 'invalid --security-opt 1: "unknown"'),
        (("--security-opt", "unknown=x"), 'invalid --security-opt 2: "unknown=x"'),
        (("--security-opt", "no-new-privileges=maybe"), "invalid --security-opt 2"),
        (("--security-opt", "systempaths=masked"), "invalid --security-opt 2"),
        (("--security-opt", "seccomp="), "invalid --security-opt 2"),
        (("--security-opt", "apparmor=unconfined"), "apparmor is not there"),
        (("--security-opt", "label:disable"), "label is not there"),
        (("--security-opt", "seccomp=/nosuch.json"), r"opening seccomp profile \(/nosuch.json\)"),
        (("--shm-size", "big"), "--shm-size"),
        (("--oom-score-adj", "x"), "--oom-score-adj"),
    ],
)
def test_what_makes_no_sense_is_refused(words, text):
    with pytest.raises(InvalidInputError, match=text) as caught:
        options(*words)
    assert caught.value.hint or "expected" in caught.value.message


def test_variables_of_a_file_are_read_as_docker_reads_them(tmp_path):
    file = tmp_path / "env"
    file.write_bytes(
        b"\xef\xbb\xbf# a comment\n\nA=1\r\n  B= two words \nHERE\nGONE\nC=x=y # kept\nD=\n"
    )
    assert file_variables((str(file),), {"HERE": "now"}) == (
        "A=1",
        "B= two words ",
        "HERE=now",
        "C=x=y # kept",
        "D=",
    )


def test_labels_of_a_file_may_be_names_alone(tmp_path):
    file = tmp_path / "labels"
    file.write_text("a=1\nb\n#c=2\n")
    assert file_labels((str(file),)) == (("a", "1"), ("b", ""))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"=1\n", "no variable name on line '=1'"),
        (b"A B=1\n", "variable 'A B' contains whitespaces"),
        (b"A=1\nB=\xff\n", "contains invalid utf8 bytes at line 2"),
    ],
)
def test_a_line_that_is_no_variable_is_refused(tmp_path, content, text):
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=text) as caught:
        file_variables((str(file),), {})
    assert caught.value.hint


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match="open /nosuch: no such file or directory"):
        file_variables(("/nosuch",), {})
    with pytest.raises(InvalidInputError, match="is a directory"):
        file_labels((str(tmp_path),))


def test_the_file_with_the_id_stays_with_a_container_and_goes_without_one(tmp_path):
    path = tmp_path / "id"
    IdentityFile(str(path)).discard()
    assert not path.exists()
    IdentityFile(str(path)).write("c" * 64)
    assert path.read_text() == "c" * 64
    with pytest.raises(InvalidInputError, match="container ID file found, make sure the other"):
        IdentityFile(str(path))
    assert path.read_text() == "c" * 64
    with pytest.raises(InvalidInputError, match="failed to create the container ID file"):
        IdentityFile(str(tmp_path / "no" / "id"))
