"""Processes: clone3, namespaces, pidfds, locks that prove life, and what a /proc stat tells."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from ctypes import c_uint64

from engine.errors import SyscallError
from engine.linux.libc import syscall, syscall_number

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_PIDFD = 0x00001000
_CLONE_PARENT = 0x00008000
_CLONE_INTO_CGROUP = 0x200000000
_SIGCHLD = 17
_PR_SET_NAME = 15
_CLOSE_RANGE_CLOEXEC = 4
_HIGHEST_DESCRIPTOR = 0xFFFFFFFF

_F_OFD_GETLK = 36
_F_OFD_SETLK = 37
_FLOCK = struct.Struct("hhqqi4x")

# The GIL stays held across the call: the child is a copy of this one thread, and must find the
# interpreter as if it had never let go.
_python = ctypes.PyDLL(None, use_errno=True)


class _CloneArguments(ctypes.Structure):
    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


def find_program(name: str) -> str:
    """Where on PATH a program is, empty for nowhere.

    As shutil.which, which takes two milliseconds to load of every command that starts something.
    """
    paths = (f"{directory}/{name}" for directory in os.get_exec_path())
    return next((one for one in paths if os.path.isfile(one) and os.access(one, os.X_OK)), "")


def clone_process(
    namespaces: int, *, cgroup: int | None = None, is_sibling: bool = False
) -> tuple[int, int]:
    """Fork into new namespaces, and into a v2 cgroup if a descriptor of its directory is given.

    Only for a process with one thread. Returns (0, -1) in the new process and (process id, pidfd)
    in this one; the pidfd is close-on-exec. A sibling is a child of this process's parent, which
    alone can wait for it.

    Raises:
        SyscallError: No process was made.
    """
    pidfd = ctypes.c_int(-1)
    flags = namespaces | _CLONE_PIDFD
    if cgroup is not None:
        flags |= _CLONE_INTO_CGROUP
    if is_sibling:
        flags |= _CLONE_PARENT
    arguments = _CloneArguments(
        flags=flags,
        pidfd=ctypes.addressof(pidfd),
        # A sibling ends with the signal that this process itself would (clone(2)).
        exit_signal=0 if is_sibling else _SIGCHLD,
        cgroup=cgroup or 0,
    )
    size = ctypes.sizeof(_CloneArguments)
    _python.PyOS_BeforeFork()
    result = _python.syscall(
        ctypes.c_long(syscall_number("clone3")), ctypes.byref(arguments), ctypes.c_long(size)
    )
    if result == 0:
        _python.PyOS_AfterFork_Child()
        return 0, -1
    error_number = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if result < 0:
        raise SyscallError("clone3", error_number)
    return int(result), pidfd.value


def leave_namespaces(namespaces: int) -> None:
    """Move this process into new namespaces of the kinds given (unshare(2))."""
    syscall("unshare", namespaces)


def enter_namespaces(process: int, namespaces: int) -> None:
    """Move this process into namespaces of the kinds given of another one, named by its pidfd.

    A pid namespace is entered by the next child only (setns(2)).
    """
    syscall("setns", process, namespaces)


def set_process_name(name: str) -> None:
    """Set the name that ps shows; its first 15 characters count.

    Not through /proc/self/comm, which a process that is not dumpable may not write.
    """
    syscall("prctl", _PR_SET_NAME, name.encode(), 0, 0, 0)


def fork_named(name: str, own_name: str) -> int:
    """Fork a process that has a name from its birth; returns its id, and 0 in the process itself.

    To name itself costs a fork a dozen pages that it shares otherwise.

    Args:
        name: The new process's.
        own_name: The caller's, which it has again when the other one is there.

    Raises:
        OSError: No process can be had.
    """
    set_process_name(name)
    try:
        process_id = os.fork()
    except OSError:
        set_process_name(own_name)
        raise
    if process_id:
        set_process_name(own_name)
    return process_id


def close_descriptors_on_exec(lowest: int) -> None:
    """Mark every descriptor from `lowest` up close-on-exec."""
    syscall("close_range", lowest, _HIGHEST_DESCRIPTOR, _CLOSE_RANGE_CLOEXEC)


def close_other_descriptors(kept: set[int]) -> None:
    """Close every descriptor from 3 up that is not in `kept`."""
    lowest = 3
    for descriptor in sorted(kept):
        if descriptor < lowest:
            continue
        if descriptor > lowest:
            syscall("close_range", lowest, descriptor - 1, 0)
        lowest = descriptor + 1
    syscall("close_range", lowest, _HIGHEST_DESCRIPTOR, 0)


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = name.encode()
    syscall("sethostname", encoded, len(encoded))


def try_lock(descriptor: int) -> bool:
    """Take the open-file-description lock on byte 0; False if another holds it.

    The lock belongs to the open file, so it lives until the last duplicate of the descriptor is
    closed, whatever the process does (fcntl(2), open file description locks).
    """
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give the lock of `try_lock` back."""
    fcntl.fcntl(descriptor, _F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0))


def is_locked(descriptor: int) -> bool:
    """Tell whether another open file holds the lock, without taking it."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def start_ticks(process_id: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is no such process.

    With the id it names a process for good, as ids are used again (proc(5), field 22 of stat).
    """
    try:
        with open(f"/proc/{process_id}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def sealed_copy(path: str) -> int:
    """Return a descriptor of a sealed, executable copy of a file in memory.

    What runs from it cannot be written through /proc/<pid>/exe (CVE-2019-5736).

    Raises:
        OSError: It cannot be made; EBUSY after several attempts.
    """
    for _attempt in range(_SEAL_ATTEMPTS - 1):
        try:
            return _sealed_copy(path)
        except OSError as error:
            # The kernel refuses to seal while it still moves pages about; it has waited already.
            if error.errno != errno.EBUSY:
                raise
    return _sealed_copy(path)


def _sealed_copy(path: str) -> int:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            copy = os.memfd_create("lamella-launcher", flags | _MFD_EXEC)
        except OSError:
            # Before Linux 6.3 the flag is unknown and every memfd may be executed.
            copy = os.memfd_create("lamella-launcher", flags)
        try:
            size = os.fstat(source).st_size
            offset = 0
            while offset < size:
                offset += os.sendfile(copy, source, offset, size - offset)
            fcntl.fcntl(copy, _F_ADD_SEALS, _ALL_SEALS)
        except BaseException:
            os.close(copy)
            raise
    finally:
        os.close(source)
    return copy


_SEAL_ATTEMPTS = 5
_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
# seal, shrink, grow, write
_ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8


def is_booted_with_systemd() -> bool:
    """Tell whether systemd runs this host and may give or end sessions (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")
