"""Device rules on cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program, put together by hand.

Where v1 has files to write rules to, v2 asks a program at each open and mknod of a device. Ours
tests one rule after another, allows at the first that fits and refuses at the end.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import TYPE_CHECKING, Protocol

from engine.errors import InvalidInputError, SyscallError
from engine.linux.libc import syscall

if TYPE_CHECKING:
    from collections.abc import Iterable


class DeviceAccess(Protocol):
    """One allowed kind of access; what fits none is refused."""

    @property
    def kind(self) -> str:
        """`c` or `b`."""

    @property
    def major(self) -> int:
        """Device number, -1 for every one."""

    @property
    def minor(self) -> int:
        """Device number, -1 for every one."""

    @property
    def access(self) -> str:
        """Letters of `rwm`; a use of the device must need no other."""


# struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | kind), u32 major, u32 minor
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERY_ACCESS = 7

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_COPY_32 = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_SET = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND_32 = 0x54  # BPF_ALU | BPF_AND | BPF_K
_SHIFT_RIGHT_32 = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_JUMP_UNLESS_EQUAL = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_EXIT = 0x95

_RESULT, _CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6
_INSTRUCTION = struct.Struct("<BBhi")

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2
_PROGRAM_NAME = b"lamella_devices"  # at most 15 bytes


def build_device_program(rules: Iterable[DeviceAccess]) -> bytes:
    """Assemble the program that allows what one of the rules allows.

    Returns:
        struct bpf_insn[], eight bytes each.

    Raises:
        InvalidInputError: A rule has a kind, a number or an access that there is not.
    """
    instructions = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, offset=0),
        _instruction(_COPY_32, _WANTED, _KIND),
        _instruction(_AND_32, _KIND, operand=0xFFFF),
        _instruction(_SHIFT_RIGHT_32, _WANTED, operand=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, offset=4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, offset=8),
    ]
    for rule in rules:
        instructions += _rule_instructions(rule)
    instructions += [_instruction(_SET, _RESULT, operand=0), _instruction(_EXIT)]
    return b"".join(instructions)


def attach_device_filter(cgroup_descriptor: int, rules: Iterable[DeviceAccess]) -> None:
    """Refuse the processes of a v2 group every device that no rule allows; blocking, under 1 ms.

    Needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace. The kernel drops
    the program with the group. It adds to those of the groups above: all must allow.

    Args:
        cgroup_descriptor: Of the group's directory.
        rules: What is allowed.

    Raises:
        SyscallError: The kernel refused the program (`detail` is the verifier's complaint) or to
            attach it: EPERM without the privileges.
    """
    program = _load_program(build_device_program(rules))
    try:
        # union bpf_attr of BPF_PROG_ATTACH: target_fd, attach_bpf_fd, attach_type, attach_flags
        attributes = struct.pack(
            "=4I", cgroup_descriptor, program, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI
        )
        try:
            syscall("bpf", _BPF_PROG_ATTACH, attributes, len(attributes))
        except SyscallError as error:
            raise SyscallError("bpf", error.errno, "BPF_PROG_ATTACH") from None
    finally:
        os.close(program)


def _rule_instructions(rule: DeviceAccess) -> list[bytes]:
    try:
        kind = _KINDS[rule.kind]
        access = sum(_ACCESS[letter] for letter in set(rule.access))
    except KeyError:
        raise _rule_error(rule) from None
    if not access or not all(-1 <= number < 2**31 for number in (rule.major, rule.minor)):
        raise _rule_error(rule)
    # Register and the value that it must have.
    tests = [(_KIND, kind)]
    if rule.major >= 0:
        tests.append((_MAJOR, rule.major))
    if rule.minor >= 0:
        tests.append((_MINOR, rule.minor))
    instructions: list[bytes] = []
    if access != _EVERY_ACCESS:
        instructions += [
            _instruction(_COPY_32, _SCRATCH, _WANTED),
            _instruction(_AND_32, _SCRATCH, operand=_EVERY_ACCESS & ~access),
        ]
        tests.insert(0, (_SCRATCH, 0))
    for index, (register, value) in enumerate(tests):
        # To the next rule: over the remaining tests and the two instructions that allow.
        distance = len(tests) - index - 1 + 2
        instructions.append(
            _instruction(_JUMP_UNLESS_EQUAL, register, offset=distance, operand=value)
        )
    instructions += [_instruction(_SET, _RESULT, operand=1), _instruction(_EXIT)]
    return instructions


def _rule_error(rule: DeviceAccess) -> InvalidInputError:
    return InvalidInputError(
        f"invalid device rule: {rule.kind} {rule.major}:{rule.minor} {rule.access}"
    )


def _instruction(
    code: int, destination: int = 0, source: int = 0, *, offset: int = 0, operand: int = 0
) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | destination, offset, operand)


def _load_program(program: bytes) -> int:
    """Have the kernel check the program; returns its descriptor (close-on-exec)."""
    # Kernels before 5.11 count programs against RLIMIT_MEMLOCK. It is set back at once: the
    # container's processes inherit the limits of who calls this.
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    is_raised = _set_locked_memory_limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if not is_raised:  # no CAP_SYS_RESOURCE
        is_raised = _set_locked_memory_limit(hard, hard)
    try:
        return _load_or_explain(program)
    finally:
        if is_raised:
            _set_locked_memory_limit(soft, hard)


def _set_locked_memory_limit(soft: int, hard: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    except (OSError, ValueError):
        return False
    return True


def _load_or_explain(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        # union bpf_attr of BPF_PROG_LOAD: prog_type, insn_cnt, insns, license, log_level,
        # log_size, log_buf, kern_version, prog_flags, prog_name[16]
        attributes = struct.pack(
            "=IIQQIIQII16s",
            _BPF_PROG_TYPE_CGROUP_DEVICE,
            len(program) // _INSTRUCTION.size,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if log else 0,
            len(log) if log else 0,
            ctypes.addressof(log) if log else 0,
            0,
            0,
            _PROGRAM_NAME,
        )
        return syscall("bpf", _BPF_PROG_LOAD, attributes, len(attributes))

    try:
        return load(None)
    except SyscallError as error:
        # A second time for the verifier's words: asking for them slows the usual case down.
        log = ctypes.create_string_buffer(64 * 1024)
        try:
            return load(log)
        except SyscallError:
            complaint = log.value.decode("utf-8", "replace").strip().rpartition("\n")[2]
            detail = f"BPF_PROG_LOAD: {complaint}" if complaint else "BPF_PROG_LOAD"
            raise SyscallError("bpf", error.errno, detail) from None
