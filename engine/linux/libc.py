"""The raw system call, by architecture, with errors as SyscallError.

Calls without a glibc wrapper, or whose wrapper is younger than the hosts we run on, go through
`syscall`. Numbers are those of the generic table except where x86_64 has its own; only the
`*at` forms exist on both.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_long, c_void_p

from engine.errors import FeatureUnavailableError, SyscallError

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = c_long
# Words as the kernel takes them: with the types told once, no argument needs an object of its own.
_MOST_ARGUMENTS = 6
_syscall.argtypes = [c_long] + [c_void_p] * _MOST_ARGUMENTS
_PADDING = tuple((0,) * (_MOST_ARGUMENTS - count) for count in range(_MOST_ARGUMENTS + 1))

ARCHITECTURE = os.uname().machine
"""The kernel's name of it: `x86_64` or `aarch64`."""

_NUMBERS: dict[str, tuple[int, int]] = {
    # call: (x86_64, aarch64)
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "unshare": (272, 97),
    "prctl": (157, 167),
    "capget": (125, 90),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "bpf": (321, 280),
    "syncfs": (306, 267),
    "sync_file_range": (277, 84),
    "mknodat": (259, 33),
    "renameat2": (316, 276),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
    "memfd_create": (319, 279),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    "eventfd2": (290, 19),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "ioprio_set": (251, 30),
    "keyctl": (250, 219),
}
_COLUMNS = {"x86_64": 0, "aarch64": 1}

if ARCHITECTURE not in _COLUMNS:
    raise FeatureUnavailableError(
        "the container engine",
        f"no system call table for {ARCHITECTURE}",
        remedy="Run Lamella on x86_64 or aarch64 with a 64-bit Python",
    )


def syscall_number(call: str) -> int:
    """The number of a call on this architecture; KeyError for one that is not in the table."""
    return _NUMBERS[call][_COLUMNS[ARCHITECTURE]]


def syscall(call: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | object) -> int:
    """Make a system call and return its result; blocking.

    Integers are passed as 64-bit words, bytes as pointers to NUL-terminated copies, None as a
    null pointer, ctypes objects as they are (pass structures with `ctypes.byref`).

    Raises:
        SyscallError: The call returned -1; `detail` is empty.
    """
    result = int(_syscall(syscall_number(call), *arguments, *_PADDING[len(arguments)]))
    if result == -1:
        raise SyscallError(call, ctypes.get_errno())
    return result
