import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInputError
from engine.linux.device_filter import build_device_program
from engine.runtime.isolation import DEVICE_RULES
from tests.unit.linux.machines import run_device_program

KINDS = {"b": 1, "c": 2}
BITS = {"m": 1, "r": 2, "w": 4}


@dataclass(frozen=True)
class Rule:
    kind: str
    major: int
    minor: int
    access: str


def is_allowed(rules, kind, access, major, minor):
    return any(
        rule.kind == kind
        and rule.major in (-1, major)
        and rule.minor in (-1, minor)
        and set(access) <= set(rule.access)
        for rule in rules
    )


def run(rules, kind, access, major, minor):
    bits = sum(BITS[letter] for letter in access)
    program = build_device_program(rules)
    return run_device_program(program, kind=KINDS[kind], access=bits, major=major, minor=minor)


ACCESSES = [
    "".join(letters) for count in (1, 2, 3) for letters in itertools.combinations("rwm", count)
]
numbers = st.sampled_from([0, 1, 3, 5, 136, 4095, 2**20, 2**31 - 1])
rule = st.builds(
    Rule,
    kind=st.sampled_from("bc"),
    major=st.just(-1) | numbers,
    minor=st.just(-1) | numbers,
    access=st.sampled_from(ACCESSES),
)


@settings(database=None)  # the tree may be another user's
@given(
    rules=st.lists(rule, max_size=8),
    kind=st.sampled_from("bc"),
    access=st.sampled_from(ACCESSES),
    major=numbers,
    minor=numbers,
)
def test_a_device_may_be_used_if_a_single_rule_allows_all_of_it(rules, kind, access, major, minor):
    assert run(rules, kind, access, major, minor) == is_allowed(rules, kind, access, major, minor)


@pytest.mark.parametrize("kind", "bc")
@pytest.mark.parametrize("access", ACCESSES)
def test_the_default_rules_allow_what_they_say_and_nothing_else(kind, access):
    for major, minor in itertools.product(
        (0, 1, 5, 7, 8, 10, 136, 137, 254), (*range(12), 200, 229)
    ):
        expected = is_allowed(DEVICE_RULES, kind, access, major, minor)
        assert run(DEVICE_RULES, kind, access, major, minor) == expected


def test_containers_get_no_disk_no_kernel_log_no_memory_no_fuse_and_no_tunnel():
    for kind, major, minor in (
        ("b", 8, 0),
        ("b", 254, 0),
        ("b", 7, 0),
        ("c", 1, 11),
        ("c", 1, 1),
        ("c", 10, 229),
        ("c", 10, 200),
        ("c", 10, 237),
        ("c", 5, 1),
    ):
        assert not run(DEVICE_RULES, kind, "r", major, minor)
        assert not run(DEVICE_RULES, kind, "w", major, minor)


def test_no_rules_refuse_everything():
    assert run((), "c", "r", 1, 3) == 0


@pytest.mark.parametrize(
    "bad",
    [
        Rule("x", 1, 1, "r"),
        Rule("c", -2, 1, "r"),
        Rule("c", 1, 2**31, "r"),
        Rule("c", 1, 1, ""),
        Rule("c", 1, 1, "rx"),
        Rule("a", -1, -1, "rwm"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(bad):
    with pytest.raises(InvalidInputError):
        build_device_program([bad])
