"""Rules with arguments: libseccomp compiles them to a filter with the same answers."""

from __future__ import annotations

import ctypes
import os
import random

import pytest

from engine.linux.libc import ARCHITECTURE
from engine.linux.seccomp_compiler import compile_rules
from engine.linux.seccomp_profile import ALLOW, CALL_TABLES, MISSING
from engine.linux.seccomp_rules import ArgumentTest, FilterRule, FilterRules
from engine.linux.syscall_tables import syscall_numbers
from tests.unit.linux.machines import run_classic

try:
    libseccomp = ctypes.CDLL("libseccomp.so.2")
except OSError:
    pytest.skip("libseccomp2 is not installed", allow_module_level=True)

libseccomp.seccomp_init.restype = ctypes.c_void_p
ERRNO = 0x00050000
OPERATORS = {"!=": 1, "<": 2, "<=": 3, "==": 4, ">=": 5, ">": 6, "&": 7}
NAMES = ("read", "write", "ioctl", "openat", "fcntl", "mmap", "kill", "dup", "statx")
WORDS = (0, 1, 5, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (7 << 32) + 7,
         1 << 63, (1 << 64) - 1)  # fmt: skip
TABLE, AUDIT = CALL_TABLES[ARCHITECTURE][0]


class Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def compile_with_libseccomp(rules: FilterRules) -> bytes:
    context = ctypes.c_void_p(libseccomp.seccomp_init(ctypes.c_uint32(rules.default)))
    try:
        for rule in rules.rules:
            comparisons = [
                Comparison(test.argument, OPERATORS[test.operator], test.mask, test.value)
                if test.operator == "&"
                else Comparison(test.argument, OPERATORS[test.operator], test.value, 0)
                for test in rule.tests
            ]
            for name in rule.names:
                result = libseccomp.seccomp_rule_add_array(
                    context,
                    ctypes.c_uint32(rule.answer),
                    libseccomp.seccomp_syscall_resolve_name(name.encode()),
                    len(comparisons),
                    (Comparison * len(comparisons))(*comparisons),
                )
                assert result == 0, rule
        descriptor = os.memfd_create("filter")
        try:
            assert libseccomp.seccomp_export_bpf(context, descriptor) == 0
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
    finally:
        libseccomp.seccomp_release(context)


def draw_rules(drawn: random.Random, default: int) -> FilterRules:
    """One rule a call: what several come to together is not told by libseccomp's documents."""

    def test(argument: int) -> ArgumentTest:
        operator = drawn.choice(tuple(OPERATORS))
        mask = drawn.choice(WORDS[1:])
        value = drawn.choice(WORDS)
        return ArgumentTest(argument, operator, value & mask if operator == "&" else value, mask)

    return FilterRules(
        default=default,
        rules=tuple(
            FilterRule(
                names=(name,),
                answer=ERRNO | drawn.randrange(2, 30) if default == ALLOW else ALLOW,
                tests=tuple(
                    test(argument)
                    for argument in sorted(drawn.sample(range(6), drawn.randrange(4)))
                ),
            )
            for name in drawn.sample(NAMES, 5)
        ),
        tables=frozenset({TABLE}),
    )


@pytest.mark.parametrize("default", [ALLOW, ERRNO | 1])
def test_the_answers_are_those_of_libseccomps_filter(default):
    drawn = random.Random(3)
    numbers = syscall_numbers(TABLE)
    answers = set()
    for _ in range(40):
        rules = draw_rules(drawn, default)
        ours, theirs = compile_rules(rules), compile_with_libseccomp(rules)
        for name in NAMES:
            for _ in range(60):
                call = {
                    "number": numbers[name],
                    "architecture": AUDIT,
                    "arguments": tuple(drawn.choice(WORDS) for _ in range(6)),
                }
                ours_says = run_classic(ours, **call)
                if ours_says == MISSING:
                    continue  # newer than what the rules name: only ours lets libraries fall back
                assert ours_says == run_classic(theirs, **call), (name, call, rules)
                answers.add(ours_says)
    assert len(answers) > 1
