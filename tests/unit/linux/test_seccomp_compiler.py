"""The compiled filter does what the policy says, for every call table and number."""

from __future__ import annotations

import itertools
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.linux import seccomp_compiler
from engine.linux.capabilities import CAPABILITY_NAMES, capability_number
from engine.linux.seccomp_compiler import compile_filter
from engine.linux.seccomp_profile import (
    ALLOW,
    CALL_TABLES,
    KILL,
    MISSING,
    REFUSE,
    ArgumentCondition,
    decide,
)
from engine.linux.syscall_tables import syscall_numbers
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from tests.unit.linux.machines import run_classic

ALL_CAPABILITIES = frozenset(range(len(CAPABILITY_NAMES)))
TABLES = [
    (architecture, table, audit)
    for architecture, tables in CALL_TABLES.items()
    for table, audit in tables
]
CAPABILITY_SETS = {
    "default": DEFAULT_CAPABILITIES,
    "none": frozenset[int](),
    "all": ALL_CAPABILITIES,
}
INTERESTING_WORDS = (
    0, 1, 2, 8, 9, 37, 38, 39, 40, 41, 45, 46, 0x11, 0x1FFFF, 0x20000, 0x20008, 0x20009, 0x40000,
    0x7E020000, 0x10000000, 0x02000000, 0x00020000, 0x3D0F00, 0x1200011, 0x0400000, 0xFFFFFFFE,
    0xFFFFFFFF, 38 | 1 << 32, 40 | 7 << 40, 1 << 63, 0x10000000 | 1 << 32, 2 | 1 << 32,
)  # fmt: skip


def answer(
    architecture: str, audit: int, number: int, capabilities: frozenset[int], *arguments: int
) -> int:
    program = compile_filter(capabilities, architecture=architecture)
    return run_classic(program, number=number, architecture=audit, arguments=arguments)


def call(
    name: str,
    *arguments: int,
    capabilities: frozenset[int] = DEFAULT_CAPABILITIES,
    table: str = "x86_64",
) -> int:
    architecture, _, audit = next(entry for entry in TABLES if entry[1] == table)
    return answer(architecture, audit, syscall_numbers(table)[name], capabilities, *arguments)


@pytest.mark.parametrize("capability_set", CAPABILITY_SETS)
@pytest.mark.parametrize(("architecture", "table", "audit"), TABLES)
def test_every_number_gets_the_answer_that_the_policy_has_for_it(
    architecture, table, audit, capability_set
):
    capabilities = CAPABILITY_SETS[capability_set]
    decisions = decide(table, capabilities, architecture=architecture)
    edges = (0x3FFFFFFF, 0x40000000, 0x40000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    for number in (*range(700), *range(0xF0000 - 1, 0xF0010), *edges):
        decision = decisions.get(number, MISSING)
        if isinstance(decision, ArgumentCondition):
            for word in INTERESTING_WORDS:
                arguments = [~word & 0xFFFFFFFF] * 6
                arguments[decision.argument] = word
                expected = ALLOW if decision.allows(word) else REFUSE
                assert answer(architecture, audit, number, capabilities, *arguments) == expected
        else:
            assert answer(architecture, audit, number, capabilities) == decision, number


@settings(database=None)  # the tree may be another user's
@given(
    entry=st.sampled_from(TABLES),
    capabilities=st.frozensets(st.integers(0, 40)),
    number=st.integers(0, 2**32 - 1) | st.integers(0, 500),
    word=st.integers(0, 2**64 - 1) | st.sampled_from(INTERESTING_WORDS),
)
def test_any_call_with_any_capabilities_gets_what_the_policy_says(
    entry, capabilities, number, word
):
    architecture, table, audit = entry
    decision = decide(table, capabilities, architecture=architecture).get(number, MISSING)
    if isinstance(decision, ArgumentCondition):
        decision = ALLOW if decision.allows(word) else REFUSE
    # Without the cache: random sets would push the useful ones out.
    program = compile_filter.__wrapped__(capabilities, architecture=architecture)
    result = run_classic(program, number=number, architecture=audit, arguments=(word,) * 6)
    assert result == decision


@pytest.mark.parametrize("architecture", CALL_TABLES)
def test_a_call_table_that_the_kernel_should_not_have_ends_the_process(architecture):
    known = {audit for _, audit in CALL_TABLES[architecture]}
    for audit in {0, 0x16, 0xC00000F3, 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028} - known:
        assert answer(architecture, audit, 0, ALL_CAPABILITIES) == KILL


@pytest.mark.parametrize("architecture", CALL_TABLES)
def test_the_filter_is_short_and_its_jumps_stay_inside(architecture):
    for capabilities in CAPABILITY_SETS.values():
        program = compile_filter(capabilities, architecture=architecture)
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 450


def test_numbers_far_apart_in_decision_still_compile_with_long_jumps(monkeypatch):
    # Thousands of ranges need jumps of more than 255 instructions in both directions.
    generator = random.Random(7)
    answers = [
        ALLOW,
        REFUSE,
        MISSING,
        ArgumentCondition(3, 0xFF00, ((0x100, 0x200), (0x900, 0x900))),
    ]
    decisions = {number: generator.choice(answers) for number in range(0, 4000, 3)}
    monkeypatch.setattr(seccomp_compiler, "decide", lambda *_, **__: decisions)
    program = compile_filter.__wrapped__(frozenset(), architecture="x86_64")
    for number, word in itertools.product(range(4001), (0, 0x100, 0x9FF)):
        decision = decisions.get(number, MISSING)
        if isinstance(decision, ArgumentCondition):
            decision = ALLOW if decision.allows(word) else REFUSE
        arguments = (0, 0, 0, word)
        for audit in (0xC000003E, 0x40000003):
            result = run_classic(program, number=number, architecture=audit, arguments=arguments)
            assert result == decision, number


def test_the_same_capabilities_are_compiled_once():
    assert compile_filter(frozenset({1, 2})) is compile_filter(frozenset({2, 1}))


def test_another_architecture_is_refused():
    with pytest.raises(KeyError):
        compile_filter(frozenset(), architecture="riscv64")


@pytest.mark.parametrize("table", ["x86_64", "i386", "aarch64", "arm"])
def test_each_number_of_a_table_has_one_name(table):
    numbers = syscall_numbers(table)
    assert len(set(numbers.values())) == len(numbers)
    assert numbers["openat2"] == 437


@pytest.mark.parametrize(
    "name",
    [
        "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "bpf", "keyctl",
        "add_key", "request_key", "unshare", "setns", "mount", "umount2", "pivot_root", "fsopen",
        "move_mount", "open_tree", "open_by_handle_at", "init_module", "finit_module",
        "kexec_load", "kexec_file_load", "reboot", "swapon", "perf_event_open", "quotactl",
        "move_pages", "mbind", "acct", "settimeofday", "clock_settime", "process_madvise",
        "pidfd_getfd", "kcmp", "vhangup", "syslog",
    ],
)  # fmt: skip
def test_a_dangerous_call_is_refused_by_default(name):
    for table in ("x86_64", "i386", "aarch64", "arm"):
        if name in syscall_numbers(table):
            assert call(name, table=table) == REFUSE


def test_address_families_of_the_host_are_refused_however_they_are_written():
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
        for family in (38, 40, 46, 255):
            assert call("socket", family | high) == REFUSE
        for family in (1, 2, 10, 16, 17, 39, 41):
            assert call("socket", family | high) == ALLOW


def test_namespaces_need_the_administrator_capability():
    administrator = frozenset({capability_number("SYS_ADMIN")})
    assert call("clone", 0x11) == ALLOW
    assert call("clone", 0x3D0F00) == ALLOW  # a thread
    for flag in (
        0x00020000,
        0x02000000,
        0x04000000,
        0x08000000,
        0x10000000,
        0x20000000,
        0x40000000,
    ):
        assert call("clone", flag | 0x11) == REFUSE
        assert call("clone", flag | 0x11, capabilities=administrator) == ALLOW
    assert call("clone3") == MISSING
    assert call("clone3", capabilities=administrator) == ALLOW


def test_a_capability_brings_its_calls():
    for capability, name in (
        ("SYS_CHROOT", "chroot"),
        ("SYS_MODULE", "init_module"),
        ("SYS_TIME", "settimeofday"),
        ("SYSLOG", "syslog"),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
        ("SYS_NICE", "mbind"),
    ):
        assert call(name, capabilities=frozenset()) == REFUSE
        assert call(name, capabilities=frozenset({capability_number(capability)})) == ALLOW


def test_calls_that_do_not_exist_yet_are_reported_missing_so_that_libraries_fall_back():
    for number in (467, 471, 500, 5000, 0x40000000, 0x40000001):
        assert answer("x86_64", 0xC000003E, number, DEFAULT_CAPABILITIES) == MISSING
    assert answer("x86_64", 0xC000003E, 400, DEFAULT_CAPABILITIES) == MISSING


PODMAN_PROFILE = "/usr/share/containers/seccomp.json"


@pytest.mark.skipif(not os.path.exists(PODMAN_PROFILE), reason="containers-common is not installed")
def test_nothing_is_allowed_that_podman_refuses_except_calls_it_does_not_know_yet():
    with open(PODMAN_PROFILE, encoding="utf-8") as file:
        rules = json.load(file)["syscalls"]
    podman = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }
    known = podman | {name for rule in rules for name in rule["names"]}
    ours = {
        name
        for architecture, table, _ in TABLES
        for name, number in syscall_numbers(table).items()
        if decide(table, DEFAULT_CAPABILITIES, architecture=architecture).get(number) == ALLOW
    }
    # Docker allows these two; vmsplice and io_pgetevents have no known escape to their name.
    assert (ours & known) - podman <= {"io_pgetevents", "vmsplice"}
    newer = {
        "cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
        "getxattrat", "io_pgetevents_time64", "listmount", "listxattrat", "map_shadow_stack",
        "mseal", "removexattrat", "setxattrat", "statmount", "uretprobe",
    }  # fmt: skip
    assert ours - known <= newer
