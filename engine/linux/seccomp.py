"""Loading a finished system call filter into the calling thread.

Container init does this as one of its last steps. The filter is compiled by the engine
(`engine.linux.seccomp_compiler`), so nothing of the compiler or its tables is imported here.
"""

from __future__ import annotations

import ctypes

from engine.errors import InvalidInputError, SyscallError
from engine.linux.libc import syscall

INSTRUCTION_BYTES = 8
"""Size of a struct sock_filter: u16 code, u8 jump if true, u8 jump if false, u32 operand."""
MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: the kernel takes no longer filter."""

_SECCOMP_SET_MODE_FILTER = 1


class _Program(ctypes.Structure):
    # struct sock_fprog; ctypes pads to the pointer's alignment as C does.
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load_filter(program: bytes) -> None:
    """Make every system call of this thread and its descendants pass a filter; for good.

    Needs CAP_SYS_ADMIN in the thread's user namespace or no_new_privs. The filter must allow
    what is called after it, exec included.

    Args:
        program: struct sock_filter[], as `compile_filter` gives it.

    Raises:
        InvalidInputError: `program` has no possible length.
        SyscallError: EACCES without the privilege, EINVAL for a bad program.
    """
    length, remainder = divmod(len(program), INSTRUCTION_BYTES)
    if remainder or not 0 < length <= MOST_INSTRUCTIONS:
        raise InvalidInputError(f"a system call filter cannot be {len(program)} bytes long")
    # c_char_p keeps the bytes alive and does not copy; embedded zeros are no matter to it.
    description = _Program(length, program)
    try:
        syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(description))
    except SyscallError as error:
        raise SyscallError("seccomp", error.errno, f"filter of {length} instructions") from None
