"""Seccomp profiles as Docker and the OCI runtime specification write them (JSON)."""

from __future__ import annotations

import os
import re
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from engine.errors import InvalidInputError
from engine.linux.capabilities import CAPABILITY_NAMES
from engine.linux.libc import ARCHITECTURE
from engine.linux.seccomp_rules import ArgumentTest, FilterRule, FilterRules

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_PROFILE_BYTES = 1 << 20
_EPERM = 1
_MOST_ERROR_NUMBERS = 4095

_ERRNO, _TRACE = 0x00050000, 0x7FF00000
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS = {
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_MASKED_EQ": "&",
}
_TABLES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_VERSION = re.compile(r"(\d+)\.(\d+)")


class _Argument(msgspec.Struct):
    index: int
    value: int
    op: str
    valueTwo: int = 0  # noqa: N815 - the document's name


class _Circumstances(msgspec.Struct):
    caps: list[str] = []
    arches: list[str] = []
    minKernel: str = ""  # noqa: N815 - the document's name


class _Call(msgspec.Struct):
    action: str
    names: list[str] = []
    name: str = ""
    errnoRet: int | None = None  # noqa: N815 - the document's name
    args: list[_Argument] | None = None
    includes: _Circumstances | None = None
    excludes: _Circumstances | None = None


class _Architectures(msgspec.Struct):
    architecture: str
    subArchitectures: list[str] | None = None  # noqa: N815 - the document's name


class _Profile(msgspec.Struct):
    defaultAction: str  # noqa: N815 - the document's name
    defaultErrnoRet: int | None = None  # noqa: N815 - the document's name
    architectures: list[str] | None = None
    archMap: list[_Architectures] | None = None  # noqa: N815 - the document's name
    syscalls: list[_Call] | None = None
    flags: list[str] | None = None


def read_profile(
    document: str,
    capabilities: frozenset[int],
    *,
    architecture: str = ARCHITECTURE,
    kernel_release: str | None = None,
) -> FilterRules:
    """Read a profile for a container that has these capabilities on this kernel.

    Raises:
        InvalidInputError: It is no profile, or asks for what there is not.
    """
    if len(document) > LARGEST_PROFILE_BYTES:
        raise _refusal("it is larger than 1 MB")
    try:
        profile = msgspec.json.decode(document, type=_Profile)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise _refusal(str(error)) from None
    # TSYNC is for programs with threads, which a container does not have yet when it begins.
    flags = sorted({*(profile.flags or ())} - {"SECCOMP_FILTER_FLAG_TSYNC"})
    if flags:
        raise _refusal(f"the flag {flags[0]} is not supported")
    facts = _Facts(capabilities, architecture, kernel_release or os.uname().release)
    rules: list[FilterRule] = []
    for call in profile.syscalls or ():
        if facts.fit(call):
            rules += _rules(call, profile)
    return FilterRules(
        default=_answer(profile.defaultAction, profile.defaultErrnoRet, None),
        rules=tuple(rules),
        tables=frozenset(_tables(profile, architecture)),
    )


class _Facts:
    """What a rule of Docker's can depend on (`includes` and `excludes`)."""

    def __init__(
        self, capabilities: frozenset[int], architecture: str, kernel_release: str
    ) -> None:
        self._capabilities = {
            f"CAP_{CAPABILITY_NAMES[number]}"
            for number in capabilities
            if number < len(CAPABILITY_NAMES)
        }
        self._architecture = _GO_NAMES[architecture]
        self._kernel = _version(kernel_release)

    def fit(self, call: _Call) -> bool:
        wanted, unwanted = call.includes, call.excludes
        if unwanted is not None and (
            self._architecture in unwanted.arches
            or self._capabilities & {*unwanted.caps}
            or (unwanted.minKernel and self._kernel >= _version(unwanted.minKernel))
        ):
            return False
        return wanted is None or (
            (not wanted.arches or self._architecture in wanted.arches)
            and self._capabilities >= {*wanted.caps}
            and (not wanted.minKernel or self._kernel >= _version(wanted.minKernel))
        )


def _version(text: str) -> tuple[int, int]:
    match = _VERSION.match(text)
    if match is None:
        raise _refusal(f"invalid kernel version {text!r}")
    return int(match[1]), int(match[2])


def _rules(call: _Call, profile: _Profile) -> Iterable[FilterRule]:
    if call.name and call.names:
        raise _refusal("'name' and 'names' are given for the same rule, use either of them")
    answer = _answer(call.action, call.errnoRet, profile.defaultErrnoRet)
    names = tuple(call.names or [call.name])
    by_index: dict[int, list[ArgumentTest]] = {}
    for argument in call.args or ():
        by_index.setdefault(argument.index, []).append(_test(argument))
    if any(len(tests) > 1 for tests in by_index.values()):
        # Several tests of one argument are alternatives, each a rule of its own (runc).
        return [
            FilterRule(names=names, answer=answer, tests=(test,))
            for tests in by_index.values()
            for test in tests
        ]
    return [
        FilterRule(names=names, answer=answer, tests=tests) for tests in product(*by_index.values())
    ]


def _test(argument: _Argument) -> ArgumentTest:
    operator = _OPERATORS.get(argument.op)
    if operator is None:
        raise _refusal(f"unknown operator {argument.op!r}")
    if argument.index not in range(6):
        raise _refusal(f"a system call has no argument {argument.index}")
    if not all(0 <= value < 1 << 64 for value in (argument.value, argument.valueTwo)):
        raise _refusal("a value of an argument is not within 64 bits")
    if operator == "&":
        return ArgumentTest(argument.index, operator, argument.valueTwo, argument.value)
    return ArgumentTest(argument.index, operator, argument.value)


def _answer(action: str, error_number: int | None, default: int | None) -> int:
    if action == "SCMP_ACT_NOTIFY":
        raise _refusal("SCMP_ACT_NOTIFY needs a listener, which is not supported")
    value = _ACTIONS.get(action)
    if value is None:
        raise _refusal(f"unknown action {action!r}")
    if value not in {_ERRNO, _TRACE}:
        return value
    number = error_number if error_number is not None else default
    number = _EPERM if number is None else number
    if not 0 <= number <= _MOST_ERROR_NUMBERS:
        raise _refusal(f"there is no error number {number}")
    return value | number


def _tables(profile: _Profile, architecture: str) -> Iterable[str]:
    if profile.architectures and profile.archMap:
        raise _refusal(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either "
            "'architectures' or 'archMap'"
        )
    names = [*(profile.architectures or ())]
    for entry in profile.archMap or ():
        if entry.architecture == _NATIVE[architecture]:
            names += [entry.architecture, *(entry.subArchitectures or ())]
    return (_TABLES[name] for name in names if name in _TABLES)


def _refusal(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"Decoding seccomp profile failed: {reason}",
        hint="--security-opt seccomp=FILE takes a profile in Docker's JSON, or unconfined",
    )
