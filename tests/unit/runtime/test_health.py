from dataclasses import replace

import pytest

from engine.runtime.health import (
    HEALTHY,
    STARTING,
    UNHEALTHY,
    HealthRecord,
    HealthSpec,
    ProbeResult,
    judge,
    read_output,
    seconds_until_probe,
)

SPEC = HealthSpec(
    arguments=("true",),
    interval_seconds=30.0,
    timeout_seconds=30.0,
    start_period_seconds=0.0,
    start_interval_seconds=5.0,
    retries=3,
)
SECOND = 10**9


def probe(exit_code: int, at_seconds: float = 100.0) -> ProbeResult:
    started = int(at_seconds * SECOND)
    return ProbeResult(
        started_at_ns=started, finished_at_ns=started + 1, exit_code=exit_code, output=""
    )


def statuses(spec: HealthSpec, *results: ProbeResult) -> list[tuple[str, int]]:
    health = HealthRecord()
    found = []
    for result in results:
        health = judge(spec, health, result, started_at_ns=0)
        found.append((health.status, health.failing_streak))
    return found


def test_one_success_is_healthy_and_as_many_failures_in_a_row_as_retries_are_not():
    results = [probe(0), probe(1), probe(2), probe(1), probe(0)]
    assert statuses(SPEC, *results) == [
        (HEALTHY, 0),
        (HEALTHY, 1),
        (HEALTHY, 2),
        (UNHEALTHY, 3),
        (HEALTHY, 0),
    ]


def test_a_success_between_failures_begins_the_count_anew():
    results = [probe(code) for code in (1, 1, 0, 1, 1)]
    assert statuses(SPEC, *results)[-1] == (HEALTHY, 2)


def test_one_that_never_succeeds_is_starting_until_it_is_unhealthy():
    assert statuses(SPEC, probe(1), probe(-1), probe(127)) == [
        (STARTING, 1),
        (STARTING, 2),
        (UNHEALTHY, 3),
    ]


def test_failures_in_the_start_period_do_not_count_until_one_has_succeeded():
    spec = replace(SPEC, start_period_seconds=60.0)
    early = [probe(1, 10), probe(1, 20), probe(1, 59)]
    assert statuses(spec, *early) == [(STARTING, 0)] * 3
    assert statuses(spec, *early, probe(1, 60)) == [(STARTING, 0)] * 3 + [(STARTING, 1)]
    assert statuses(spec, probe(0, 10), probe(1, 20)) == [(HEALTHY, 0), (HEALTHY, 1)]


@pytest.mark.parametrize(
    ("status", "since_start_seconds", "expected"),
    [
        (STARTING, 0.0, 5.0),
        (STARTING, 59.9, 5.0),
        (STARTING, 60.0, 30.0),
        (HEALTHY, 10.0, 30.0),
        (UNHEALTHY, 90.0, 30.0),
    ],
)
def test_the_start_interval_holds_in_the_start_period_until_the_first_success(
    status, since_start_seconds, expected
):
    spec = replace(SPEC, start_period_seconds=60.0)
    health = HealthRecord(status=status)
    assert seconds_until_probe(spec, health, since_start_seconds=since_start_seconds) == expected


def test_only_the_last_five_results_are_kept():
    health = HealthRecord()
    for number in range(8):
        health = judge(SPEC, health, probe(number), started_at_ns=0)
    assert [result.exit_code for result in health.results] == [3, 4, 5, 6, 7]


def test_output_is_cut_and_said_to_be():
    assert read_output(b"fine\n") == "fine\n"
    assert read_output(b"x" * 4096) == "x" * 4096
    assert read_output(b"x" * 4097) == "x" * 4096 + "..."
    assert read_output(b"\xff\xfe") == "��"
