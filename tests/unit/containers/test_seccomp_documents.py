"""Profiles that people write: what they come to, call by call, in the compiled filter."""

import errno
import json

import pytest

from engine.containers.seccomp_documents import read_profile
from engine.errors import InvalidInputError
from engine.linux.capabilities import capability_number
from engine.linux.seccomp_compiler import compile_rules
from engine.linux.syscall_tables import syscall_numbers
from tests.unit.linux.machines import run_classic

ALLOW, KILL_PROCESS, LOG, ERRNO = 0x7FFF0000, 0x80000000, 0x7FFC0000, 0x00050000
REFUSED, MISSING = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
X32 = 0x40000000


def answer(
    document, name, *arguments, table="x86_64", capabilities=(), kernel="6.1.0", number=None
):
    architecture = "x86_64" if table in {"x86_64", "i386"} else "aarch64"
    rules = read_profile(
        json.dumps(document),
        frozenset(capability_number(capability) for capability in capabilities),
        architecture=architecture,
        kernel_release=kernel,
    )
    return run_classic(
        compile_rules(rules, architecture=architecture),
        number=syscall_numbers(table)[name] if number is None else number,
        architecture=AUDIT[table],
        arguments=arguments,
    )


def allowing(*rules, **fields):
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **fields}


def denying(*rules, **fields):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **fields}


def test_what_is_named_is_allowed_and_the_rest_refused():
    document = allowing({"names": ["read", "write", "nosuchcall"], "action": "SCMP_ACT_ALLOW"})
    assert answer(document, "read") == ALLOW
    assert answer(document, "open") == MISSING  # newer than all that is named
    document["syscalls"].append({"names": ["statx"], "action": "SCMP_ACT_ALLOW"})
    assert answer(document, "open") == REFUSED
    assert answer(document, "clone3") == MISSING


def test_the_default_answer_can_be_another_error_or_the_end():
    document = allowing({"names": ["statx"], "action": "SCMP_ACT_ALLOW"}, defaultErrnoRet=38)
    assert answer(document, "open") == MISSING
    document["defaultAction"] = "SCMP_ACT_KILL_PROCESS"
    assert answer(document, "open") == KILL_PROCESS
    document["defaultAction"] = "SCMP_ACT_LOG"
    assert answer(document, "open") == LOG


def test_an_error_number_of_a_rule_goes_before_that_of_the_profile():
    document = denying(
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSPC},
        {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"},
        defaultErrnoRet=errno.EACCES,
    )
    assert answer(document, "mkdir") == ERRNO | errno.ENOSPC
    assert answer(document, "rmdir") == ERRNO | errno.EACCES
    assert answer(document, "open") == ALLOW


@pytest.mark.parametrize(
    ("operator", "value", "second", "fits", "fits_not"),
    [
        ("SCMP_CMP_EQ", 5, 0, (5,), (4, 6, 5 | 1 << 32)),
        ("SCMP_CMP_NE", 5, 0, (4, 6, 5 | 1 << 32), (5,)),
        ("SCMP_CMP_LT", 1 << 33, 0, (0, (1 << 33) - 1, 1 << 32), (1 << 33, 1 << 34)),
        ("SCMP_CMP_LE", 1 << 33, 0, (0, 1 << 33), ((1 << 33) + 1, 1 << 63)),
        ("SCMP_CMP_GT", 7, 0, (8, 1 << 32), (7, 0)),
        ("SCMP_CMP_GE", (7 << 32) + 7, 0, ((7 << 32) + 7, 8 << 32), ((7 << 32) + 6, 7)),
        ("SCMP_CMP_MASKED_EQ", 0xF0 | 1 << 40, 0x10, (0x10, 0x1F), (0x20, 0x10 | 1 << 40)),
    ],
)
def test_arguments_are_compared_in_all_their_64_bits(operator, value, second, fits, fits_not):
    test = {"index": 1, "op": operator, "value": value, "valueTwo": second}
    document = denying({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [test]})
    assert {answer(document, "ioctl", 0, word) for word in fits} == {REFUSED}
    assert {answer(document, "ioctl", 0, word) for word in fits_not} == {ALLOW}


def test_tests_of_several_arguments_must_all_hold_and_of_one_any():
    one = {"index": 0, "op": "SCMP_CMP_EQ", "value": 1}
    two = {"index": 1, "op": "SCMP_CMP_EQ", "value": 2}
    both = denying({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [one, two]})
    assert answer(both, "ioctl", 1, 2) == REFUSED
    assert answer(both, "ioctl", 1, 3) == answer(both, "ioctl", 0, 2) == ALLOW
    any_of = {**one, "value": 9}
    either = denying({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [one, any_of]})
    assert answer(either, "ioctl", 1) == answer(either, "ioctl", 9) == REFUSED
    assert answer(either, "ioctl", 2) == ALLOW


def test_a_rule_without_tests_goes_before_those_with_and_the_first_that_holds_counts():
    test = {"index": 0, "op": "SCMP_CMP_GE", "value": 5}
    document = denying(
        {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2, "args": [test]},
        {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3},
        {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4, "args": [test]},
        {"names": ["dup"], "action": "SCMP_ACT_LOG", "args": [{**test, "value": 3}]},
    )
    assert answer(document, "ioctl", 9) == ERRNO | 3
    assert [answer(document, "dup", word) for word in (2, 3, 5)] == [ALLOW, LOG, ERRNO | 4]


def test_rules_come_with_capabilities_architectures_and_kernels():
    document = allowing(
        {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_BOOT"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_BOOT"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["statx"], "action": "SCMP_ACT_ALLOW", "comment": "the newest"},
    )
    assert answer(document, "reboot") == REFUSED
    assert answer(document, "reboot", capabilities=("SYS_BOOT",)) == ALLOW
    assert answer(document, "chroot") == ALLOW
    assert answer(document, "chroot", capabilities=("SYS_BOOT",)) == REFUSED
    assert answer(document, "mount") == REFUSED
    assert answer(document, "mount", table="aarch64") == ALLOW
    assert answer(document, "ptrace", kernel="4.7.9-generic") == REFUSED
    assert answer(document, "ptrace", kernel="5.0") == ALLOW


def test_other_call_tables_are_those_that_the_profile_names():
    refusal = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    assert answer(denying(refusal), "read", table="i386") == KILL_PROCESS
    for fields in (
        {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]},
        {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]},
    ):
        document = denying(refusal, **fields)
        assert answer(document, "read", table="i386") == ALLOW
        assert answer(document, "mkdir", table="i386") == REFUSED
        assert answer(document, "mkdir") == REFUSED


def test_no_call_gets_past_by_its_x32_number():
    document = denying({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"})
    number = syscall_numbers("x86_64")["mkdir"]
    assert answer(document, "mkdir") == REFUSED
    assert answer(document, "", number=number | X32) == MISSING
    assert answer(document, "", number=0xFFFFFFFF) == MISSING


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("", "Decoding seccomp profile failed"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `defaultAction`"),
        (denying({"action": "SCMP_ACT_ALLOW", "names": 3}), "Expected `array`"),
        (denying({"names": ["a"], "action": "ALLOW"}), "unknown action 'ALLOW'"),
        (denying({"names": ["a"], "action": "SCMP_ACT_NOTIFY"}), "needs a listener"),
        (
            denying({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}),
            "there is no error number 5000",
        ),
        (denying({"names": ["a"], "name": "b", "action": "SCMP_ACT_LOG"}), "'name' and 'names'"),
        (denying(flags=["SECCOMP_FILTER_FLAG_LOG"]), "FLAG_LOG is not supported"),
        (
            denying(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]),
            "use either 'architectures' or 'archMap'",
        ),
        (
            denying(
                {
                    "names": ["a"],
                    "action": "SCMP_ACT_LOG",
                    "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 1}],
                }
            ),
            "has no argument 6",
        ),
        (
            denying(
                {
                    "names": ["a"],
                    "action": "SCMP_ACT_LOG",
                    "args": [{"index": 1, "op": "EQ", "value": 1}],
                }
            ),
            "unknown operator 'EQ'",
        ),
        (
            denying(
                {
                    "names": ["a"],
                    "action": "SCMP_ACT_LOG",
                    "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": -1}],
                }
            ),
            "not within 64 bits",
        ),
        (
            denying({"names": ["a"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}),
            "invalid kernel version 'new'",
        ),
        (" " * (1 << 20) + " ", "larger than 1 MB"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(document, text):
    if not isinstance(document, str):
        document = json.dumps(document)
    with pytest.raises(InvalidInputError, match="Decoding seccomp profile failed") as caught:
        read_profile(document, frozenset())
    assert text in caught.value.message
    assert caught.value.hint
