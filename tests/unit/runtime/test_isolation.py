import os
import signal

import pytest

from engine.errors import InvalidInputError, LimitError, StartError
from engine.linux.capabilities import capability_name
from engine.runtime import isolation
from engine.runtime.isolation import (
    ResolvedUser,
    default_environment,
    find_executable,
    parse_signal,
    resolve_user,
)

PASSWD = b"""\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

web:x:1000:1000:Web,,,:/home/web:/bin/sh
web:x:1001:1001:a second one:/home/other:/bin/sh
7:x:70:71:a name of digits:/home/seven:/bin/sh
broken:x:notanumber:0::/:/bin/sh
short:x:1200:1200
far:x:4294967294:1::/:/bin/sh
caf\xc3\xa9:x:1300:1300::/home/caf\xe9:/bin/sh
"""
GROUP = b"""\
root:x:0:root
audio:x:29:web,daemon
web:x:1000:
video:x:44:daemon,web
web-admin:x:50:webmaster
dup:x:60:
dup:x:61:
badgid:x:none:web
"""


def test_no_user_is_root():
    assert resolve_user("", PASSWD, GROUP) == ResolvedUser(uid=0, gid=0, groups=(0,), home="/root")


def test_an_image_without_passwd_still_has_root():
    assert resolve_user("", b"", b"") == ResolvedUser(uid=0, gid=0, groups=(0,), home="")


def test_a_name_gives_ids_home_and_supplementary_groups():
    user = resolve_user("web", PASSWD, GROUP)
    assert user == ResolvedUser(uid=1000, gid=1000, groups=(1000, 29, 44), home="/home/web")


def test_a_known_id_gives_the_same_as_its_name():
    assert resolve_user("1000", PASSWD, GROUP) == resolve_user("web", PASSWD, GROUP)


def test_an_unknown_id_needs_no_entry():
    user = resolve_user("4242", PASSWD, GROUP)
    assert user == ResolvedUser(uid=4242, gid=0, groups=(0,), home="")


def test_digits_are_an_id_even_if_a_user_has_them_for_a_name():
    assert resolve_user("7", PASSWD, GROUP).uid == 7


def test_a_group_that_is_named_is_the_only_one():
    user = resolve_user("web:video", PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups) == (1000, 44, (44,))


def test_a_group_may_be_an_id_without_an_entry():
    assert resolve_user("web:777", PASSWD, GROUP).groups == (777,)
    assert resolve_user("4242:4343", b"", b"").groups == (4343,)


def test_a_group_alone_goes_with_root():
    user = resolve_user(":video", PASSWD, GROUP)
    assert (user.uid, user.gid, user.home) == (0, 44, "/root")


def test_the_first_entry_of_a_name_counts():
    assert resolve_user("web", PASSWD, GROUP).home == "/home/web"
    assert resolve_user("web:dup", PASSWD, GROUP).gid == 60


def test_names_are_compared_as_bytes():
    user = resolve_user("café", PASSWD, GROUP)
    assert user.uid == 1300
    assert os.fsencode(user.home) == b"/home/caf\xe9"


def test_an_entry_that_is_cut_short_has_no_home():
    assert resolve_user("short", PASSWD, GROUP).home == ""


def test_an_unknown_name_is_refused_in_dockers_words():
    with pytest.raises(
        StartError, match=r"^unable to find user nobody: no matching entries in passwd file$"
    ) as caught:
        resolve_user("nobody", PASSWD, GROUP)
    assert caught.value.exit_code == 125
    with pytest.raises(
        StartError, match=r"^unable to find group nope: no matching entries in group file$"
    ):
        resolve_user("web:nope", PASSWD, GROUP)


def test_an_entry_with_a_broken_id_makes_nobody_root():
    with pytest.raises(StartError):
        resolve_user("broken", PASSWD, GROUP)


@pytest.mark.parametrize("spec", ["-1", "2147483648", "web:-1", "0:4294967295", "far", "far:1"])
def test_ids_outside_the_range_are_refused(spec):
    with pytest.raises(StartError, match="must be in range 0-2147483647"):
        resolve_user(spec, PASSWD, GROUP)


@pytest.mark.parametrize("spec", ["1_000", "0x10", "１", "²", "99999999999999999999"])
def test_odd_numbers_are_names(spec):
    with pytest.raises(StartError, match="unable to find user"):
        resolve_user(spec, PASSWD, GROUP)


def test_hostile_files_are_survived():
    for contents in (b"\0" * 4096, b":" * 100_000, b"\xff\xfe\n" * 1000, b"root" * 100_000):
        assert resolve_user("5:6", contents, contents).groups == (6,)


def test_the_environment_is_defaults_then_image_then_user():
    environment = default_environment(
        hostname="0123456789ab",
        image_environment=["PATH=/app", "LANG=C", "MODE=image"],
        user_environment=["MODE=user", "EMPTY=", "URL=a=b"],
        has_terminal=True,
    )
    assert environment == (
        "PATH=/app", "HOSTNAME=0123456789ab", "TERM=xterm", "LANG=C", "MODE=user", "EMPTY=",
        "URL=a=b",
    )  # fmt: skip


def test_the_environment_is_never_without_a_path():
    assert default_environment(hostname="h") == (f"PATH={isolation.DEFAULT_PATH}", "HOSTNAME=h")


@pytest.mark.parametrize("entry", ["", "NAME", "=value", "A=b\0c"])
def test_an_environment_entry_without_name_or_value_is_refused(entry):
    with pytest.raises(InvalidInputError):
        default_environment(hostname="h", user_environment=[entry])


FILES = {
    "/usr/bin/env": "executable",
    "/bin/env": "executable",
    "/usr/bin/notes": "denied",
    "/bin/both": "executable",
    "/usr/bin/both": "denied",
    "/usr/bin/dir": "directory",
    "./run": "executable",
    "/opt/dir": "directory",
    "/etc/passwd": "denied",
}


def find(command, path="/usr/bin:/bin"):
    return find_executable(command, path, lambda name: FILES.get(name, "missing"))


def test_a_command_is_the_first_that_the_path_has():
    assert find("env") == "/usr/bin/env"
    assert find("env", "/nowhere:/bin/:/usr/bin") == "/bin/env"
    assert find("both") == "/bin/both"


def test_a_command_with_a_slash_is_taken_as_it_is():
    assert find("./run") == "./run"


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        ("nope", 127, 'exec: "nope": executable file not found in $PATH'),
        ("notes", 127, 'exec: "notes": executable file not found in $PATH'),
        ("dir", 127, 'exec: "dir": executable file not found in $PATH'),
        ("", 127, 'exec: "": executable file not found in $PATH'),
        ("/nope", 127, 'exec: "/nope": stat /nope: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/opt/dir", 126, 'exec: "/opt/dir": is a directory'),
    ],
)
def test_what_cannot_be_run_has_dockers_exit_code_and_words(command, exit_code, message):
    with pytest.raises(StartError) as caught:
        find(command)
    assert (caught.value.exit_code, caught.value.message) == (exit_code, message)


def test_a_file_that_lacks_the_executable_bit_is_hinted_at():
    with pytest.raises(StartError) as caught:
        find("notes")
    assert "/usr/bin/notes" in caught.value.hint


def test_relative_directories_of_the_path_are_not_searched():
    with pytest.raises(StartError):
        find("run", ":.:")


def test_real_files_are_probed(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    assert isolation.probe_executable(str(program)) == "denied"
    program.chmod(0o755)
    (tmp_path / "link").symlink_to("program")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone")
    assert isolation.probe_executable(str(program)) == "executable"
    assert isolation.probe_executable(str(tmp_path / "link")) == "executable"
    assert isolation.probe_executable(str(tmp_path)) == "directory"
    assert isolation.probe_executable(str(tmp_path / "dangling")) == "missing"
    assert isolation.probe_executable(str(program / "below")) == "missing"
    assert isolation.probe_executable(str(tmp_path / "loop")) == "denied"
    assert isolation.probe_executable("a\0b") == "missing"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("sigkill", 9),
        ("15", 15),
        ("64", 64),
        ("SIGRTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMIN+30", 64),
        ("SIGRTMAX", 64),
        ("RTMAX-14", 50),
        ("SIGRTMAX-30", 34),
        (" HUP ", 1),
        ("CHLD", 17),
        ("WINCH", 28),
    ],
)
def test_a_signal_is_a_name_or_a_number(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65",
        "-1",
        "SIG",
        "NOPE",
        "RTMIN+31",
        "RTMIN-1",
        "RTMAX+1",
        "SIGRTMIN+",
        "1.5",
        "٣",
        "9" * 5000,
    ],
)
def test_what_is_no_signal_is_refused(text):
    with pytest.raises(LimitError, match="--stop-signal"):
        parse_signal(text, option="--stop-signal")


def test_signal_numbers_are_the_kernels():
    for member in signal.Signals:
        if member.name not in ("SIGRTMIN", "SIGRTMAX"):
            assert parse_signal(member.name) == member.value


def test_the_default_capabilities_are_podmans_eleven():
    assert sorted(capability_name(number) for number in isolation.DEFAULT_CAPABILITIES) == [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
        "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ]  # fmt: skip


def test_ping_groups_are_only_set_where_they_are_mapped():
    assert "net.ipv4.ping_group_range" in dict(isolation.default_sysctls(is_rootless=False))
    assert "net.ipv4.ping_group_range" not in dict(isolation.default_sysctls(is_rootless=True))


def test_thermal_counters_are_masked_where_there_are_some(tmp_path):
    for name in ("cpu0", "cpu10", "cpu2"):
        (tmp_path / name / "thermal_throttle").mkdir(parents=True)
    (tmp_path / "cpu1").mkdir()
    (tmp_path / "cpufreq" / "thermal_throttle").mkdir(parents=True)
    assert isolation.thermal_throttle_paths(str(tmp_path)) == tuple(
        f"{tmp_path}/cpu{number}/thermal_throttle" for number in (0, 2, 10)
    )
    assert isolation.thermal_throttle_paths(str(tmp_path / "none")) == ()
    assert set(isolation.MASKED_PATHS) <= set(isolation.masked_paths())
