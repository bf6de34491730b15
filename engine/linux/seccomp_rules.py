"""System call policies that people write: rules by name and argument, as OCI documents have them.

What libseccomp makes of such rules holds here too: of a call's rules one without tests decides
alone; otherwise the first whose tests all hold; otherwise the default. Tests compare all 64 bits.
Numbers above every call that a policy names are answered with ENOSYS if its default is to refuse,
so that libraries fall back (runc, patchbpf); so are x32 calls, which no rule can name.
"""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.linux.seccomp_profile import MISSING, Decision
from engine.linux.syscall_tables import syscall_numbers

_PRIVATE_RANGE = 0xF0000
_KILL_THREAD = 0x00000000
_TRAP = 0x00030000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000
_ACTION = 0xFFFF0000
_REFUSALS = frozenset({_KILL_THREAD, _TRAP, _ERRNO, _KILL_PROCESS})


@dataclass(frozen=True, slots=True)
class ArgumentTest:
    """One comparison of an argument with a number of 64 bits.

    Attributes:
        argument: Position, from 0.
        operator: `==`, `!=`, `<`, `<=`, `>`, `>=`, or `&` for: masked equal.
        value: To compare with.
        mask: For `&`: the bits that count.
    """

    argument: int
    operator: str
    value: int
    mask: int = 0


@dataclass(frozen=True, slots=True)
class TestedRules:
    """A decision that depends on tests: the first rule whose tests all hold, else the default."""

    rules: tuple[tuple[tuple[ArgumentTest, ...], int], ...]
    default: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """What is answered to some calls.

    Attributes:
        names: Calls; those that a table does not have are passed over.
        answer: A SECCOMP_RET value.
        tests: All must hold.
    """

    names: tuple[str, ...]
    answer: int
    tests: tuple[ArgumentTest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRules:
    """A whole policy.

    Attributes:
        default: Answered to calls without a rule.
        rules: In their order.
        tables: Call tables that it is for; the kernel kills who uses another one. The native one
            is always among them.
    """

    default: int
    rules: tuple[FilterRule, ...]
    tables: frozenset[str]

    @property
    def otherwise(self) -> int:
        """What is answered to numbers that `decide` does not name."""
        return MISSING if self.default & _ACTION in _REFUSALS else self.default

    def decide(self, table: str) -> dict[int, Decision | TestedRules]:
        """What the filter answers to the numbers of a call table."""
        numbers = syscall_numbers(table)
        rules_of: dict[int, list[FilterRule]] = {}
        named: set[int] = set()
        for rule in self.rules:
            found = [numbers[name] for name in rule.names if name in numbers]
            named.update(found)
            # One that says what the default says is no rule (runc drops it too).
            if rule.answer != self.default:
                for number in found:
                    rules_of.setdefault(number, []).append(rule)
        newest = max((number for number in named if number < _PRIVATE_RANGE), default=0)
        decisions: dict[int, Decision | TestedRules] = {
            number: self.default
            for number in numbers.values()
            if number <= newest or number in named
        }
        for number, rules in rules_of.items():
            decisions[number] = self._decide(rules)
        return decisions

    def _decide(self, rules: list[FilterRule]) -> int | TestedRules:
        for rule in rules:
            if not rule.tests:
                return rule.answer
        return TestedRules(tuple((rule.tests, rule.answer) for rule in rules), self.default)
