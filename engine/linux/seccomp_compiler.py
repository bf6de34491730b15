"""Compiling the system call policy to classic BPF.

The numbers of a call table become ranges with one decision each, the ranges a balanced tree of
comparisons. The program is put together from its end, so that every jump goes to a place that is
already known and returns are shared. What the kernel learns of it per number (since 5.11) makes
an allowed call cost the same whatever the length.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.linux.libc import ARCHITECTURE
from engine.linux.seccomp_profile import (
    ALLOW,
    CALL_TABLES,
    KILL,
    MISSING,
    REFUSE,
    ArgumentCondition,
    Decision,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.linux.seccomp_rules import ArgumentTest, FilterRules, TestedRules

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_MORE = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_JUMP_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]
_NUMBER_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16

_X32 = 0x40000000  # numbers from here on are x32's, in the table of x86_64
_WORD = 0xFFFFFFFF
_FARTHEST = 255  # what the eight bits of a conditional jump reach
_INSTRUCTION = struct.Struct("<HBBI")  # both architectures are little endian


@lru_cache(maxsize=64)
def compile_filter(capabilities: frozenset[int], *, architecture: str = ARCHITECTURE) -> bytes:
    """Make the filter for a container that has these capabilities.

    About 1 ms the first time for a set of capabilities, then from memory.

    Args:
        capabilities: Numbers of the bounding set; some calls are allowed only with one.
        architecture: `x86_64` (with i386) or `aarch64` (with arm).

    Returns:
        struct sock_filter[] for `engine.linux.seccomp.load_filter`.

    Raises:
        KeyError: Another architecture.
    """
    assembly = _Assembly()
    next_table = assembly.answer(KILL)
    for table, audit_architecture in reversed(CALL_TABLES[architecture]):
        decisions = decide(table, capabilities, architecture=architecture)
        tree = assembly.tree(number_ranges(decisions))
        entry = assembly.load(_NUMBER_OFFSET, tree)
        next_table = assembly.jump_if(_JUMP_IF_EQUAL, audit_architecture, entry, next_table)
    assembly.load(_ARCHITECTURE_OFFSET, next_table)
    return assembly.finish()


@lru_cache(maxsize=16)
def compile_rules(rules: FilterRules, *, architecture: str = ARCHITECTURE) -> bytes:
    """Make the filter of a policy that a person wrote.

    Returns:
        struct sock_filter[] for `engine.linux.seccomp.load_filter`, which refuses one that is
        longer than the kernel takes.

    Raises:
        KeyError: Another architecture.
    """
    assembly = _Assembly()
    next_table = assembly.answer(KILL)
    native = CALL_TABLES[architecture][0][0]
    for table, audit_architecture in reversed(CALL_TABLES[architecture]):
        if table != native and table not in rules.tables:
            continue
        ranges = number_ranges(rules.decide(table), otherwise=rules.otherwise)
        if table == "x86_64":
            # No rule can name these, so a policy that refuses some calls would let them through.
            _extend(ranges, _X32, MISSING)
        entry = assembly.load(_NUMBER_OFFSET, assembly.tree(ranges))
        next_table = assembly.jump_if(_JUMP_IF_EQUAL, audit_architecture, entry, next_table)
    assembly.load(_ARCHITECTURE_OFFSET, next_table)
    return assembly.finish()


def number_ranges(
    decisions: Mapping[int, Decision | TestedRules], *, otherwise: int = MISSING
) -> list[tuple[int, Decision | TestedRules]]:
    """Beginnings of the ranges of equal decision, from 0; gaps and the rest are `otherwise`."""
    ranges: list[tuple[int, Decision | TestedRules]] = []
    expected = 0
    for number in sorted(decisions):
        if number > expected:
            _extend(ranges, expected, otherwise)
        _extend(ranges, number, decisions[number])
        expected = number + 1
    _extend(ranges, expected, otherwise)
    return ranges


def _extend(
    ranges: list[tuple[int, Decision | TestedRules]], start: int, decision: Decision | TestedRules
) -> None:
    if not ranges or ranges[-1][1] != decision:
        ranges.append((start, decision))


_COMPARISONS = {
    "==": _JUMP_IF_EQUAL,
    "&": _JUMP_IF_EQUAL,
    ">": _JUMP_IF_MORE,
    ">=": _JUMP_IF_AT_LEAST,
}
_OPPOSITES = {"!=": "==", "<": ">=", "<=": ">"}


class _Assembly:
    """A program that grows towards its beginning.

    Places are counted from the end of the program, so they stay what they are.
    """

    def __init__(self) -> None:
        self._instructions: list[bytes] = []
        self._answers: dict[int, int] = {}

    def finish(self) -> bytes:
        return b"".join(reversed(self._instructions))

    def answer(self, value: int) -> int:
        """The place of an instruction that returns `value`; a near one is used again."""
        place = self._answers.get(value)
        # Half the reach leaves room for what is put before the jump; `jump_if` copes with more.
        if place is None or len(self._instructions) - place > _FARTHEST // 2:
            place = self._answers[value] = self._emit(_RETURN, 0, 0, value)
        return place

    def load(self, offset: int, following: int) -> int:
        """Load a word of struct seccomp_data, then go on at `following`."""
        self._fall_through_to(following)
        return self._emit(_LOAD, 0, 0, offset)

    def jump_if(self, comparison: int, operand: int, if_true: int, if_false: int) -> int:
        """Compare what was loaded, and go to one of two places however far they are."""
        if_true = self._within_reach(if_true, margin=1)
        if_false = self._within_reach(if_false, margin=0)
        here = len(self._instructions)
        return self._emit(comparison, here - if_true - 1, here - if_false - 1, operand)

    def tree(self, ranges: Sequence[tuple[int, Decision | TestedRules]]) -> int:
        """Find the range that the loaded word is in, and do what is decided for it."""
        if len(ranges) == 1:
            return self._decision(ranges[0][1])
        middle = len(ranges) // 2
        upper = self.tree(ranges[middle:])
        lower = self.tree(ranges[:middle])
        return self.jump_if(_JUMP_IF_AT_LEAST, ranges[middle][0], upper, lower)

    def _decision(self, decision: Decision | TestedRules) -> int:
        if isinstance(decision, int):
            return self.answer(decision)
        if not isinstance(decision, ArgumentCondition):
            return self._tested(decision)
        ranges: list[tuple[int, Decision | TestedRules]] = []
        expected = 0
        for first, last in decision.ranges:
            if first > expected:
                _extend(ranges, expected, REFUSE)
            _extend(ranges, first, ALLOW)
            expected = last + 1
        if expected <= decision.mask:
            _extend(ranges, expected, REFUSE)
        following = self.tree(ranges)
        if decision.mask != 0xFFFFFFFF:
            self._fall_through_to(following)
            following = self._emit(_AND, 0, 0, decision.mask)
        # Little endian: the low word of an argument comes first.
        return self.load(_ARGUMENTS_OFFSET + 8 * decision.argument, following)

    def _tested(self, decision: TestedRules) -> int:
        following = self.answer(decision.default)
        for tests, answer in reversed(decision.rules):
            otherwise, following = following, self.answer(answer)
            for test in reversed(tests):
                following = self._test(test, following, otherwise)
        return following

    def _test(self, test: ArgumentTest, if_true: int, if_false: int) -> int:
        """Compare all 64 bits of an argument, the high word first."""
        if test.operator in _OPPOSITES:
            opposite = replace(test, operator=_OPPOSITES[test.operator])
            return self._test(opposite, if_false, if_true)
        comparison = _COMPARISONS[test.operator]
        offset = _ARGUMENTS_OFFSET + 8 * test.argument
        low, high = test.value & _WORD, test.value >> 32
        is_masked = test.operator == "&"
        # Little endian: the low word of an argument comes first.
        low_word = self.jump_if(comparison, low, if_true, if_false)
        if is_masked:
            low_word = self._emit(_AND, 0, 0, test.mask & _WORD)
        low_word = self.load(offset, low_word)
        high_word = self.jump_if(_JUMP_IF_EQUAL, high, low_word, if_false)
        if is_masked:
            self._fall_through_to(high_word)
            high_word = self._emit(_AND, 0, 0, test.mask >> 32)
        elif comparison != _JUMP_IF_EQUAL:
            high_word = self.jump_if(_JUMP_IF_MORE, high, if_true, high_word)
        return self.load(offset + 4, high_word)

    def _fall_through_to(self, place: int) -> None:
        distance = len(self._instructions) - place - 1
        if distance:
            self._emit(_JUMP, 0, 0, distance)

    def _within_reach(self, place: int, *, margin: int) -> int:
        distance = len(self._instructions) - place - 1
        if distance + margin <= _FARTHEST:
            return place
        return self._emit(_JUMP, 0, 0, distance)

    def _emit(self, code: int, if_true: int, if_false: int, operand: int) -> int:
        self._instructions.append(_INSTRUCTION.pack(code, if_true, if_false, operand))
        return len(self._instructions) - 1
