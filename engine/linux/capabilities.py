"""Capabilities of the calling thread, and the process attributes that go with giving them up.

Used by a container's init between its mounts and exec, so it imports next to nothing and reads
nothing from the file system, which is the container's by then.
"""

from __future__ import annotations

import ctypes
import struct

from engine.errors import LimitError, SyscallError
from engine.late_dataclasses import dataclass
from engine.linux.libc import syscall

CAPABILITY_NAMES: tuple[str, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""Names by number, without their `CAP_`, as linux/capability.h has them."""

_NUMBERS = {name: number for number, name in enumerate(CAPABILITY_NAMES)}

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_IS_SET = 1
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22
_HIGHEST_IMAGINABLE = 63  # the kernel's masks are 64 bits wide


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitySets:
    """The five sets of a thread, as numbers."""

    effective: frozenset[int]
    permitted: frozenset[int]
    inheritable: frozenset[int]
    bounding: frozenset[int]
    ambient: frozenset[int]


def capability_number(name: str) -> int:
    """The number of `CAP_NET_RAW`, `NET_RAW` or `net_raw`.

    Raises:
        LimitError: There is no such capability.
    """
    number = _NUMBERS.get(name.strip().upper().removeprefix("CAP_"))
    if number is None:
        raise LimitError("capability", name, "a name such as CAP_NET_ADMIN")
    return number


def capability_name(number: int) -> str:
    """`CAP_NET_RAW` for 13; `CAP_63` for one that is younger than this table."""
    if 0 <= number < len(CAPABILITY_NAMES):
        return f"CAP_{CAPABILITY_NAMES[number]}"
    return f"CAP_{number}"


def last_capability() -> int:
    """The highest number that the running kernel knows (cap_last_cap), without reading /proc."""
    number = len(CAPABILITY_NAMES) - 1
    while number > 0 and not _is_known(number):
        number -= 1
    while number < _HIGHEST_IMAGINABLE and _is_known(number + 1):
        number += 1
    return number


def read_capabilities() -> CapabilitySets:
    """The sets that the calling thread has now."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    syscall("capget", header, data)
    words = struct.unpack("=6I", data.raw)
    numbers = range(last_capability() + 1)
    return CapabilitySets(
        effective=_numbers_of(words[0], words[3]),
        permitted=_numbers_of(words[1], words[4]),
        inheritable=_numbers_of(words[2], words[5]),
        bounding=frozenset(
            number for number in numbers if _prctl(PR_CAPBSET_READ, "PR_CAPBSET_READ", number)
        ),
        ambient=frozenset(
            number
            for number in numbers
            if _prctl(PR_CAP_AMBIENT, "PR_CAP_AMBIENT_IS_SET", _PR_CAP_AMBIENT_IS_SET, number)
        ),
    )


def drop_bounding(keep: frozenset[int]) -> None:
    """Take every capability that is not in `keep` out of the bounding set.

    Needs CAP_SETPCAP, unless there is nothing to drop. What the set lacks already stays out.

    Raises:
        SyscallError: The kernel refused one; `detail` names it.
    """
    for number in range(last_capability() + 1):
        if number not in keep and _prctl(PR_CAPBSET_READ, "PR_CAPBSET_READ", number):
            _prctl(PR_CAPBSET_DROP, f"PR_CAPBSET_DROP {capability_name(number)}", number)


def set_process_capabilities(capabilities: frozenset[int]) -> None:
    """Make `capabilities` the effective and the permitted set, and the inheritable set empty.

    An inheritable set that is not empty gives ordinary users of the container capabilities
    through files (CVE-2022-24769), so there is no way to ask for one. With it empty the kernel
    empties the ambient set too.

    Raises:
        SyscallError: The thread does not hold one of them.
    """
    mask = 0
    for number in capabilities:
        mask |= 1 << number
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    try:
        syscall("capset", header, struct.pack("=6I", low, low, 0, high, high, 0))
    except SyscallError as error:
        names = " ".join(capability_name(number) for number in sorted(capabilities))
        raise SyscallError("capset", error.errno, names or "none") from None


def clear_ambient() -> None:
    """Empty the ambient set.

    Raises:
        SyscallError: The kernel is older than 4.3.
    """
    _prctl(PR_CAP_AMBIENT, "PR_CAP_AMBIENT_CLEAR_ALL", _PR_CAP_AMBIENT_CLEAR_ALL)


def set_keep_capabilities(*, is_kept: bool) -> None:
    """Let the permitted set survive the change from user 0 to another one; exec resets it."""
    _prctl(PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", int(is_kept))


def set_no_new_privileges() -> None:
    """Exec gives no privileges (setuid, file capabilities) from now on; it cannot be undone."""
    _prctl(PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1)


def has_no_new_privileges() -> bool:
    """Whether `set_no_new_privileges` was called by this thread or one before it."""
    return bool(_prctl(PR_GET_NO_NEW_PRIVS, "PR_GET_NO_NEW_PRIVS"))


def set_dumpable(*, is_dumpable: bool) -> None:
    """Whether processes of the same user may trace this one and open its /proc/<pid>/fd.

    Exec and a change of user id reset it.
    """
    _prctl(PR_SET_DUMPABLE, "PR_SET_DUMPABLE", int(is_dumpable))


def is_dumpable() -> bool:
    """The present value of `set_dumpable`."""
    return _prctl(PR_GET_DUMPABLE, "PR_GET_DUMPABLE") == 1


def set_parent_death_signal(signal_number: int) -> None:
    """Have the kernel send a signal to this process when the thread that made it ends; 0 for none.

    It is lost by a change of user id and by exec of a setuid program, and it is not sent if the
    parent is gone already: compare getppid() after the call.
    """
    _prctl(PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", signal_number)


def _is_known(number: int) -> bool:
    try:
        _prctl(PR_CAPBSET_READ, "PR_CAPBSET_READ", number)
    except SyscallError as error:
        if error.errno == _EINVAL:
            return False
        raise
    return True


def _numbers_of(low: int, high: int) -> frozenset[int]:
    mask = low | high << 32
    return frozenset(number for number in range(64) if mask >> number & 1)


def _prctl(option: int, name: str, second: int = 0, third: int = 0) -> int:
    # The unused arguments must be 0 for the newer options.
    try:
        return syscall("prctl", option, second, third, 0, 0)
    except SyscallError as error:
        raise SyscallError("prctl", error.errno, name) from None
