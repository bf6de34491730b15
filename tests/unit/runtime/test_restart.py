import pytest

from engine.runtime.restart import BackOff, RestartSpec


def waits(*runs: float) -> list[float]:
    back_off = BackOff()
    found = []
    for lasted in runs:
        back_off = back_off.after_run(lasted)
        found.append(back_off.delay_seconds)
    return found


def test_the_wait_doubles_from_a_tenth_of_a_second_to_a_minute_and_stays_there():
    assert waits(*[0.1] * 12) == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    )


def test_a_run_of_ten_seconds_begins_the_wait_anew():
    assert waits(0.1, 9.999, 0.1, 10.0, 3.0) == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2])


@pytest.mark.parametrize(
    ("policy", "limit", "exit_code", "count", "is_stopped", "expected"),
    [
        ("no", 0, 1, 0, False, False),
        ("always", 0, 0, 0, False, True),
        ("always", 0, 137, 900, True, True),
        ("unless-stopped", 0, 0, 7, False, True),
        ("unless-stopped", 0, 143, 0, True, False),
        ("on-failure", 0, 0, 0, False, False),
        ("on-failure", 0, 1, 9000, False, True),
        ("on-failure", 3, 1, 2, False, True),
        ("on-failure", 3, 1, 3, False, False),
        ("on-failure", 3, 0, 0, False, False),
    ],
)
def test_which_ends_are_followed_by_a_start(policy, limit, exit_code, count, is_stopped, expected):
    spec = RestartSpec(policy=policy, maximum_retry_count=limit)
    wants = spec.wants(exit_code, restart_count=count, is_stopped_by_person=is_stopped)
    assert wants is expected
