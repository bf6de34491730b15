import errno
import os
import signal

import pytest

from engine.errors import LimitError, SyscallError
from engine.linux import capabilities
from tests.unit.linux.children import run_in_child, run_program


def status_field(name):
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return line.split()[1]
    raise AssertionError(name)


def mask(numbers):
    return sum(1 << number for number in numbers)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")


@pytest.mark.parametrize(
    "name", ["CAP_NET_RAW", "NET_RAW", "net_raw", "Cap_Net_Raw", " cap_net_raw "]
)
def test_a_capability_is_found_by_its_name_in_any_spelling(name):
    assert capabilities.capability_number(name) == 13


@pytest.mark.parametrize("name", ["", "CAP_", "ALL", "NET RAW", "13", "CAP_CAP_NET_RAW"])
def test_a_name_that_is_no_capability_is_refused(name):
    with pytest.raises(LimitError):
        capabilities.capability_number(name)


def test_the_table_has_the_kernels_numbers():
    assert len(capabilities.CAPABILITY_NAMES) == 41
    for name, number in (
        ("CHOWN", 0),
        ("SETPCAP", 8),
        ("SYS_ADMIN", 21),
        ("MKNOD", 27),
        ("SETFCAP", 31),
        ("SYSLOG", 34),
        ("CHECKPOINT_RESTORE", 40),
    ):
        assert capabilities.capability_number(name) == number
        assert capabilities.capability_name(number) == f"CAP_{name}"
    assert capabilities.capability_name(63) == "CAP_63"


def test_the_last_capability_is_the_one_that_the_kernel_names():
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        assert capabilities.last_capability() == int(file.read())


def test_the_sets_are_those_that_proc_shows():
    sets = capabilities.read_capabilities()
    for name, numbers in (
        ("CapEff", sets.effective),
        ("CapPrm", sets.permitted),
        ("CapInh", sets.inheritable),
        ("CapBnd", sets.bounding),
        ("CapAmb", sets.ambient),
    ):
        assert mask(numbers) == int(status_field(name), 16)


@needs_root
def test_what_is_dropped_is_gone_from_every_set():
    def check():
        keep = frozenset({0, 5, 8, 18})
        capabilities.drop_bounding(keep)
        capabilities.clear_ambient()
        capabilities.set_process_capabilities(keep)
        sets = capabilities.read_capabilities()
        assert sets.bounding == sets.effective == sets.permitted == keep
        assert not sets.inheritable
        assert not sets.ambient

    run_in_child(check)


@needs_root
def test_what_was_given_up_cannot_be_taken_back():
    def check():
        capabilities.set_process_capabilities(frozenset({5}))
        with pytest.raises(SyscallError) as caught:
            capabilities.set_process_capabilities(frozenset({5, 21}))
        assert caught.value.errno == errno.EPERM
        assert caught.value.detail == "CAP_KILL CAP_SYS_ADMIN"
        capabilities.drop_bounding(capabilities.read_capabilities().bounding)
        with pytest.raises(SyscallError) as caught:
            capabilities.drop_bounding(frozenset())
        assert "CAP_CHOWN" in caught.value.detail

    run_in_child(check)


@needs_root
def test_capabilities_survive_a_change_of_user_only_if_kept():
    def check():
        capabilities.set_keep_capabilities(is_kept=True)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        capabilities.set_process_capabilities(frozenset({5}))
        assert capabilities.read_capabilities().effective == {5}

    run_in_child(check)

    def check_not_kept():
        os.setresuid(65534, 65534, 65534)
        assert not capabilities.read_capabilities().permitted

    run_in_child(check_not_kept)


@needs_root
def test_a_program_of_an_ordinary_user_ends_up_with_no_capability():
    def give_up():
        keep = frozenset({0, 5})
        capabilities.drop_bounding(keep)
        capabilities.set_keep_capabilities(is_kept=True)
        os.setresuid(65534, 65534, 65534)
        capabilities.set_process_capabilities(keep)

    exit_code, output = run_program(["/bin/grep", "^Cap", "/proc/self/status"], give_up)
    assert exit_code == 0, output
    assert dict(line.split(":\t") for line in output.splitlines()) == {
        "CapInh": "0" * 16,
        "CapPrm": "0" * 16,
        "CapEff": "0" * 16,
        "CapBnd": "0" * 14 + "21",
        "CapAmb": "0" * 16,
    }


def test_no_new_privileges_is_set_for_good():
    def check():
        assert not capabilities.has_no_new_privileges()
        capabilities.set_no_new_privileges()
        assert capabilities.has_no_new_privileges()
        assert status_field("NoNewPrivs") == "1"

    run_in_child(check)


def test_dumpable_can_be_taken_away_and_given_back():
    def check():
        capabilities.set_dumpable(is_dumpable=False)
        assert not capabilities.is_dumpable()
        capabilities.set_dumpable(is_dumpable=True)
        assert capabilities.is_dumpable()

    run_in_child(check)


def test_a_process_dies_with_its_parent_if_it_asked_to():
    reader, writer = os.pipe()  # its end closes when the last holder is gone
    parent = os.fork()
    if parent == 0:
        os.close(reader)
        ready_reader, ready_writer = os.pipe()
        if os.fork() == 0:
            capabilities.set_parent_death_signal(signal.SIGKILL)
            os.write(ready_writer, b"x")
            while True:
                signal.pause()
        os.read(ready_reader, 1)
        os._exit(0)
    os.close(writer)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""
    os.close(reader)
