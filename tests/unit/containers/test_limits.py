"""Limits of a request: what is refused in Docker's words, and what the group is told."""

import os

import pytest

from engine.containers.limits import (
    cgroup_spec,
    check_limits,
    effective_limits,
    limit_warnings,
)
from engine.errors import InvalidInputError
from engine.types import ResourceLimits

MEGABYTES = 1 << 20


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"memory_bytes": 6 * MEGABYTES - 1}, "at least 6 MB"),
        ({"memory_swap_bytes": 64 * MEGABYTES}, "should always set the Memory limit"),
        (
            {"memory_bytes": 64 * MEGABYTES, "memory_swap_bytes": 63 * MEGABYTES},
            "Minimum memoryswap limit should be larger than memory limit",
        ),
        ({"memory_swap_bytes": -2}, "--memory-swap"),
        ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"memory_reservation_bytes": 1}, "at least 6 MB"),
        (
            {"memory_bytes": 8 * MEGABYTES, "memory_reservation_bytes": 9 * MEGABYTES},
            "can not be less than memory reservation limit",
        ),
        ({"cpu_count": 0.001}, "CPUs available"),
        ({"cpu_count": (os.cpu_count() or 1) + 0.5}, "CPUs available"),
        ({"cpu_count": float("nan")}, "CPUs available"),
        (
            {"cpu_count": 0.5, "cpu_quota_microseconds": 2000},
            "Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            {"cpu_count": 0.5, "cpu_period_microseconds": 2000},
            "Nano CPUs and CPU Period cannot both be set",
        ),
        ({"cpu_period_microseconds": 999}, "can not be less than 1ms"),
        ({"cpu_period_microseconds": 1_000_001}, "larger than 1s"),
        ({"cpu_quota_microseconds": 999}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_shares": -1}, "--cpu-shares"),
        ({"cpuset_cpus": "0-"}, "Invalid value 0- for cpuset cpus"),
        ({"cpuset_cpus": "2-1"}, "Invalid value 2-1 for cpuset cpus"),
        ({"cpuset_memory_nodes": "a"}, "Invalid value a for cpuset mems"),
        ({"cpuset_cpus": "0\n"}, "for cpuset cpus"),
        ({"cpuset_cpus": "0-99999"}, "for cpuset cpus"),
        ({"block_weight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"block_weight": 1001}, "Range of blkio weight is from 10 to 1000"),
        ({"pids": -2}, "--pids-limit"),
    ],
)
def test_a_limit_outside_its_range_is_refused(limits, text):
    with pytest.raises(InvalidInputError, match=text) as caught:
        check_limits(ResourceLimits(**limits))
    assert caught.value.exit_code == 125
    assert caught.value.hint or "expected" in caught.value.message


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"memory_bytes": 6 * MEGABYTES, "cpu_count": 0.5, "pids": 1},
        {"memory_bytes": 0, "cpu_count": 0, "pids": -1, "memory_swap_bytes": 0},
        {"memory_bytes": 8 * MEGABYTES, "memory_swap_bytes": 8 * MEGABYTES},
        {"memory_bytes": 8 * MEGABYTES, "memory_swap_bytes": -1, "memory_swappiness": 0},
        {"cpu_period_microseconds": 1000, "cpu_quota_microseconds": -1, "cpu_shares": 2},
        {"cpuset_cpus": "0-2,4", "cpuset_memory_nodes": "0", "block_weight": 10},
    ],
)
def test_what_can_work_is_let_through(limits):
    check_limits(ResourceLimits(**limits))


def test_without_a_word_about_processes_there_is_a_limit_all_the_same():
    assert effective_limits(ResourceLimits()).pids == 2048
    assert effective_limits(ResourceLimits(pids=-1)).pids is None
    assert effective_limits(ResourceLimits(pids=0)).pids is None
    assert effective_limits(ResourceLimits(pids=7)).pids == 7


def test_zero_and_minus_one_are_no_limit():
    asked = ResourceLimits(
        memory_bytes=0,
        memory_swap_bytes=-1,
        memory_reservation_bytes=0,
        memory_swappiness=-1,
        cpu_count=0,
        cpu_period_microseconds=0,
        cpu_quota_microseconds=0,
        cpu_shares=0,
        block_weight=0,
        pids=0,
    )
    assert effective_limits(asked) == ResourceLimits()


def test_processors_become_a_quota_of_the_usual_period():
    spec = cgroup_spec(ResourceLimits(cpu_count=1.5), name="c", mode="v2", parent="/lamella")
    assert (spec.cpu_quota_microseconds, spec.cpu_period_microseconds) == (150_000, 100_000)
    spec = cgroup_spec(
        ResourceLimits(cpu_quota_microseconds=-1, cpu_period_microseconds=50_000),
        name="c",
        mode="v2",
        parent="/lamella",
    )
    assert (spec.cpu_quota_microseconds, spec.cpu_period_microseconds) == (None, 50_000)


def test_what_was_asked_for_and_cannot_be_had_is_a_warning_and_a_default_is_none():
    missing = {"memory": "no memory here", "cpuset": "no sets here", "pids": "no pids here"}
    limits = ResourceLimits(memory_bytes=8 * MEGABYTES, cpuset_cpus="0", cpu_shares=2)
    assert limit_warnings(limits, missing) == (
        "--memory has no effect: no memory here",
        "--cpuset-cpus has no effect: no sets here",
    )


@pytest.mark.parametrize(
    ("swappiness", "is_said"), [(None, False), (-1, False), (0, True), (9, True)]
)
def test_swappiness_that_the_host_does_not_have_is_a_warning(swappiness, is_said):
    limits = ResourceLimits(memory_swappiness=swappiness)
    said = limit_warnings(limits, {"swappiness": "only cgroup v1 has it"})
    assert said == (("--memory-swappiness has no effect: only cgroup v1 has it",) * is_said)
