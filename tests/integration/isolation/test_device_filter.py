"""The device program in the kernel, on a v2 group of its own."""

import errno
import os
import resource
import stat

import pytest

from engine.errors import SyscallError
from engine.linux.device_filter import attach_device_filter
from engine.runtime.isolation import DEVICE_RULES
from tests.unit.linux.children import run_in_child


def unified_mount():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _, tail = line.partition(" - ")
            if tail.split()[0] == "cgroup2":
                return fields.split()[4]
    return None


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_BPF in the first user namespace"),
    pytest.mark.skipif(unified_mount() is None, reason="no cgroup v2 is mounted"),
]


@pytest.fixture
def group(tmp_path):
    path = f"{unified_mount()}/lamella-test-{os.getpid()}-{tmp_path.name}"
    os.mkdir(path)
    yield path
    os.rmdir(path)


@pytest.fixture
def group_descriptor(group):
    descriptor = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def join(group):
    with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def open_error(path, flags=os.O_RDONLY):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError as error:
        return error.errno
    return 0


def device_node(directory, name, kind, major, minor):
    path = str(directory / name)
    os.mknod(path, kind | 0o666, os.makedev(major, minor))
    return path


def test_a_process_of_the_group_opens_what_the_rules_allow_and_nothing_else(
    tmp_path, group, group_descriptor
):
    null = device_node(tmp_path, "null", stat.S_IFCHR, 1, 3)
    kernel_log = device_node(tmp_path, "kmsg", stat.S_IFCHR, 1, 11)
    memory = device_node(tmp_path, "mem", stat.S_IFCHR, 1, 1)
    fuse = device_node(tmp_path, "fuse", stat.S_IFCHR, 10, 229)
    loop = device_node(tmp_path, "loop", stat.S_IFBLK, 7, 0)
    attach_device_filter(group_descriptor, DEVICE_RULES)

    def check():
        join(group)
        assert open_error(null, os.O_RDWR) == 0
        assert open_error("/dev/urandom") == 0
        for path in (kernel_log, memory, fuse, loop):
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                assert open_error(path, flags) == errno.EPERM, path
        device_node(tmp_path, "made", stat.S_IFBLK, 7, 1)  # may be made, but not opened
        assert open_error(str(tmp_path / "made")) == errno.EPERM

    run_in_child(check)
    assert open_error(kernel_log) == 0  # outside the group nothing changes


def test_access_is_refused_letter_by_letter(tmp_path, group, group_descriptor):
    class ReadNull:
        kind, major, minor, access = "c", 1, 3, "r"

    null = device_node(tmp_path, "null", stat.S_IFCHR, 1, 3)
    attach_device_filter(group_descriptor, [ReadNull()])

    def check():
        join(group)
        assert open_error(null, os.O_RDONLY) == 0
        assert open_error(null, os.O_WRONLY) == errno.EPERM
        with pytest.raises(PermissionError):
            device_node(tmp_path, "made", stat.S_IFCHR, 1, 3)

    run_in_child(check)


def test_a_group_below_cannot_allow_what_the_one_above_refuses(group, group_descriptor):
    class Everything:
        kind, major, minor, access = "c", -1, -1, "rwm"

    attach_device_filter(group_descriptor, DEVICE_RULES)
    below = f"{group}/below"
    os.mkdir(below)
    try:
        descriptor = os.open(below, os.O_RDONLY | os.O_DIRECTORY)
        try:
            attach_device_filter(descriptor, [Everything()])
        finally:
            os.close(descriptor)

        def check():
            join(below)
            assert open_error("/dev/null") == 0
            assert open_error("/dev/kmsg") == errno.EPERM

        run_in_child(check)
    finally:
        os.rmdir(below)


def test_what_is_no_group_is_refused_and_nothing_stays_open(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SyscallError) as caught:
        attach_device_filter(descriptor, DEVICE_RULES)
    assert caught.value.errno in (errno.EBADF, errno.EINVAL)
    assert caught.value.detail == "BPF_PROG_ATTACH"
    assert os.listdir("/proc/self/fd") == before
    os.close(descriptor)


def test_without_privilege_it_is_refused(group_descriptor):
    def check():
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(SyscallError) as caught:
            attach_device_filter(group_descriptor, DEVICE_RULES)
        assert caught.value.errno == errno.EPERM

    run_in_child(check)


def test_the_limit_of_locked_memory_is_what_it_was(group_descriptor):
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    attach_device_filter(group_descriptor, DEVICE_RULES)
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before
