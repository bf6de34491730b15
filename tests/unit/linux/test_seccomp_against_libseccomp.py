"""libseccomp, given the same policy, compiles it to a filter with the same answers."""

from __future__ import annotations

import ctypes
import os

import pytest

from engine.linux.seccomp_compiler import compile_filter
from engine.linux.seccomp_profile import ALLOW, MISSING, REFUSE, ArgumentCondition, decide
from engine.linux.syscall_tables import syscall_numbers
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from tests.unit.linux.machines import run_classic

try:
    libseccomp = ctypes.CDLL("libseccomp.so.2")
except OSError:
    pytest.skip("libseccomp2 is not installed", allow_module_level=True)

libseccomp.seccomp_init.restype = ctypes.c_void_p
MASKED_EQUAL = 7
TABLES = [
    ("x86_64", "x86_64", 0xC000003E),
    ("x86_64", "i386", 0x40000003),
    ("aarch64", "aarch64", 0xC00000B7),
    ("aarch64", "arm", 0x40000028),
]
WORDS = (0, 1, 2, 8, 16, 37, 38, 39, 40, 41, 45, 0x11, 0x20000, 0x20008, 0x20009, 0x10000011,
         0x3D0F00, 0xFFFFFFFF, 38 | 1 << 32)  # fmt: skip


class Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def resolve(name: str, audit: int) -> int:
    return libseccomp.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(audit), name.encode())


def compile_with_libseccomp(table: str, audit: int, decisions: dict[int, object]) -> bytes:
    context = ctypes.c_void_p(libseccomp.seccomp_init(ctypes.c_uint32(REFUSE)))
    try:
        native = libseccomp.seccomp_arch_native()
        if ctypes.c_uint32(native).value != audit:
            assert libseccomp.seccomp_arch_add(context, ctypes.c_uint32(audit)) == 0
            assert libseccomp.seccomp_arch_remove(context, ctypes.c_uint32(native)) == 0
        for name, number in syscall_numbers(table).items():
            decision = decisions.get(number, MISSING)
            if resolve(name, audit) != number or decision == REFUSE:
                continue
            # Rules are given by the number of this machine, whatever table the filter is for.
            rule = libseccomp.seccomp_syscall_resolve_name(name.encode())
            if not isinstance(decision, ArgumentCondition):
                result = libseccomp.seccomp_rule_add_array(
                    context, ctypes.c_uint32(decision), rule, 0, None
                )
                assert result == 0, name
                continue
            for first, last in decision.ranges:
                for value in range(first, last + 1):
                    comparison = Comparison(decision.argument, MASKED_EQUAL, decision.mask, value)
                    result = libseccomp.seccomp_rule_add_array(
                        context, ctypes.c_uint32(ALLOW), rule, 1, ctypes.byref(comparison)
                    )
                    assert result == 0, name
        descriptor = os.memfd_create("filter")
        try:
            assert libseccomp.seccomp_export_bpf(context, descriptor) == 0
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
    finally:
        libseccomp.seccomp_release(context)


@pytest.mark.parametrize(("architecture", "table", "audit"), TABLES)
def test_each_number_in_our_tables_is_libseccomps(architecture, table, audit):
    numbers = syscall_numbers(table)
    known = {name: resolve(name, audit) for name in numbers}
    # Negative: younger than the library, or one of its names for a call that others multiplex.
    differing = {
        name: (numbers[name], found)
        for name, found in known.items()
        if found >= 0 and found != numbers[name]
    }
    assert not differing
    assert sum(found >= 0 for found in known.values()) > 300


@pytest.mark.parametrize(("architecture", "table", "audit"), TABLES)
def test_the_answers_are_those_of_libseccomps_filter(architecture, table, audit):
    decisions = decide(table, DEFAULT_CAPABILITIES, architecture=architecture)
    theirs = compile_with_libseccomp(table, audit, decisions)
    ours = compile_filter(DEFAULT_CAPABILITIES, architecture=architecture)
    compared = 0
    for name, number in syscall_numbers(table).items():
        if resolve(name, audit) != number:
            continue
        for word in WORDS if isinstance(decisions.get(number), ArgumentCondition) else (0,):
            call = {"number": number, "architecture": audit, "arguments": (word,) * 6}
            assert run_classic(ours, **call) == run_classic(theirs, **call), (name, hex(word))
            compared += 1
    assert compared > 300
