"""The default filter in the kernel: what it stops, and that programs run under it."""

import ctypes
import errno
import faulthandler
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from engine.errors import InvalidInputError, SyscallError
from engine.linux.capabilities import clear_ambient, set_no_new_privileges, set_process_capabilities
from engine.linux.libc import ARCHITECTURE
from engine.linux.seccomp import load_filter
from engine.linux.seccomp_compiler import compile_filter
from engine.linux.syscall_tables import syscall_numbers
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from tests.unit.linux.children import run_in_child, run_program

PROGRAM = compile_filter(DEFAULT_CAPABILITIES)
NUMBERS = syscall_numbers(ARCHITECTURE)
libc = ctypes.CDLL(None, use_errno=True)


def load_default_filter():
    set_no_new_privileges()
    load_filter(PROGRAM)


def call(name, *arguments):
    """The error number of a system call, 0 if it worked."""
    number = NUMBERS[name] if isinstance(name, str) else name
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(word) for word in arguments))
    return ctypes.get_errno() if result == -1 else 0


REFUSED = {
    "AF_ALG socket": ("socket", 38, 5, 0),
    "AF_VSOCK socket": ("socket", 40, 1, 0),
    "AF_ALG socket with bits that the kernel drops": ("socket", 38 | 1 << 32, 5, 0),
    "user namespace by unshare": ("unshare", 0x10000000),
    "mount namespace by unshare": ("unshare", 0x00020000),
    "user namespace by clone": ("clone", 0x10000000 | 17, 0, 0, 0, 0),
    "setns": ("setns", 0, 0),
    "keyctl": ("keyctl", 0, -3, 0),
    "add_key": ("add_key", 0, 0, 0, 0, 0),
    "request_key": ("request_key", 0, 0, 0, 0),
    "bpf": ("bpf", 0, 0, 0),
    "userfaultfd": ("userfaultfd", 1),
    "io_uring": ("io_uring_setup", 1, 0),
    "perf_event_open": ("perf_event_open", 0, 0, -1, -1, 0),
    "mount": ("mount", 0, 0, 0, 0, 0),
    "fsopen": ("fsopen", 0, 0),
    "pivot_root": ("pivot_root", 0, 0),
    "open_by_handle_at": ("open_by_handle_at", -100, 0, 0),
    "init_module": ("init_module", 0, 0, 0),
    "kexec_load": ("kexec_load", 0, 0, 0, 0),
    "personality ADDR_NO_RANDOMIZE": ("personality", 0x0040000),
    "personality READ_IMPLIES_EXEC": ("personality", 0x0400000),
    "syslog": ("syslog", 10, 0, 0),
}
MISSING = {"clone3": ("clone3", 0, 0), "a call of the future": (5000,)}


@pytest.mark.parametrize("what", REFUSED)
def test_a_dangerous_call_is_not_permitted(what):
    def check():
        load_default_filter()
        assert call(*REFUSED[what]) == errno.EPERM

    run_in_child(check)


@pytest.mark.parametrize("what", MISSING)
def test_a_call_that_libraries_can_do_without_seems_not_to_exist(what):
    def check():
        load_default_filter()
        assert call(*MISSING[what]) == errno.ENOSYS

    run_in_child(check)


def test_ordinary_calls_work_as_before():
    def check():
        load_default_filter()
        assert call("personality", 0xFFFFFFFF) == 0
        assert call("getpid") == 0
        for family in (socket.AF_INET, socket.AF_UNIX):
            socket.socket(family, socket.SOCK_STREAM).close()
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
        thread = threading.Thread(target=os.getpid)
        thread.start()
        thread.join()
        assert subprocess.run(["/bin/true"], check=False).returncode == 0

    run_in_child(check)


@pytest.mark.skipif(ARCHITECTURE != "x86_64", reason="only x86_64 has this second call table")
def test_calls_of_the_x32_table_seem_not_to_exist():
    def check():
        load_default_filter()
        assert call(0x40000000 | NUMBERS["getpid"]) == errno.ENOSYS
        assert call(0x40000000 | NUMBERS["bpf"], 0, 0, 0) == errno.ENOSYS

    run_in_child(check)


def make_compatibility_call():
    """A function that makes a call of the i386 table from this 64-bit process."""
    code = bytes.fromhex("53 89f8 89f3 31c9 31d2 cd80 5b c3")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)

    def call_32(name, argument=0):
        assert not page.closed  # the code lives as long as this function
        return function(syscall_numbers("i386")[name], argument)

    return call_32


def has_compatibility_calls():
    if ARCHITECTURE != "x86_64":
        return False
    pid = os.fork()
    if pid == 0:
        # Without 32-bit support in the kernel this ends in a signal.
        faulthandler.disable()
        os._exit(0 if make_compatibility_call()("getpid") == os.getpid() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not has_compatibility_calls(), reason="this kernel makes no 32-bit calls")
def test_the_32_bit_table_is_no_way_around():
    def check():
        call_32 = make_compatibility_call()
        load_default_filter()
        assert call_32("getpid") == os.getpid()
        assert call_32("socket", 38) == -errno.EPERM
        assert call_32("unshare", 0x10000000) == -errno.EPERM
        assert call_32("bpf") == -errno.EPERM
        assert call_32("keyctl") == -errno.EPERM
        assert call_32("io_uring_setup", 1) == -errno.EPERM
        assert call_32("clone3") == -errno.ENOSYS

    run_in_child(check)


@pytest.mark.parametrize(
    "arguments",
    [
        ["/bin/sh", "-c", "echo one | cat | grep -c one"],
        ["/bin/bash", "-c", "for i in 1 2 3; do (exit $i) & done; wait; [[ $(ls /) == *usr* ]]"],
        [sys.executable, "-I", "-c", "import asyncio, subprocess, threading, socket, ssl;"
         "asyncio.run(asyncio.to_thread(subprocess.run, ['/bin/true'], check=True))"],
        ["/usr/bin/apt-get", "--version"],
        ["/usr/bin/dpkg", "--version"],
    ],
    ids=lambda arguments: os.path.basename(arguments[0]),
)  # fmt: skip
def test_programs_run_under_the_filter(arguments):
    if not os.path.exists(arguments[0]):
        pytest.skip(f"{arguments[0]} is not installed")
    exit_code, output = run_program(arguments, load_default_filter)
    assert exit_code == 0, output


def test_the_kernel_shows_the_filter_and_hands_it_down():
    exit_code, output = run_program(
        ["/bin/sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"],
        load_default_filter,
    )
    assert exit_code == 0
    assert output.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_SYS_ADMIN")
def test_the_administrator_loads_it_without_giving_up_new_privileges():
    def check():
        load_filter(PROGRAM)
        assert call("bpf", 0, 0, 0) == errno.EPERM

    run_in_child(check)


def test_without_privilege_or_no_new_privileges_it_is_refused():
    def check():
        clear_ambient()
        set_process_capabilities(frozenset())
        with pytest.raises(SyscallError) as caught:
            load_filter(PROGRAM)
        assert caught.value.errno == errno.EACCES
        assert caught.value.call == "seccomp"

    run_in_child(check)


@pytest.mark.parametrize("program", [b"", b"\0" * 7, b"\0" * 8 * 4097])
def test_a_filter_of_impossible_length_is_refused_before_the_kernel_sees_it(program):
    with pytest.raises(InvalidInputError):
        load_filter(program)


def test_a_filter_that_is_no_program_is_refused_by_the_kernel():
    def check():
        set_no_new_privileges()
        with pytest.raises(SyscallError) as caught:
            load_filter(b"\xff" * 16)
        assert caught.value.errno == errno.EINVAL

    run_in_child(check)


def test_the_filter_of_another_architecture_is_a_valid_program_that_ends_every_process():
    foreign = "aarch64" if ARCHITECTURE == "x86_64" else "x86_64"

    def load():
        set_no_new_privileges()
        load_filter(compile_filter(DEFAULT_CAPABILITIES, architecture=foreign))

    exit_code, output = run_program(["/bin/true"], load)
    assert exit_code == -signal.SIGSYS, output


def test_the_filter_for_every_capability_is_a_valid_program():
    def check():
        set_no_new_privileges()
        load_filter(compile_filter(frozenset(range(41))))
        assert call("clone3", 0, 0) == errno.EINVAL  # it reached the kernel
        assert call("keyctl", 0, -3, 0) == errno.EPERM

    run_in_child(check)
