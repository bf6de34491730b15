import time

import pytest

from engine.errors import InvalidInputError, LimitError
from tui.cli import values

NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6m", 6 << 20),
        ("6291456", 6291456),
        ("512M", 512 << 20),
        ("1.5g", 3 << 29),
        ("2Gb", 2 << 30),
        ("8192k", 8 << 20),
        ("8GiB", 8 << 30),
        ("0", 0),
    ],
)
def test_a_memory_size_is_read_as_docker_reads_it(text, size):
    assert values.memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1m", "1x", "5m", "1e9", "nan", "512 mm"])
def test_a_memory_size_that_makes_no_sense_is_refused(text):
    with pytest.raises(LimitError, match="--memory"):
        values.memory_bytes(text)


@pytest.mark.parametrize("text", ["", "two", "nan", "inf", "-1"])
def test_a_number_of_processors_that_makes_no_sense_is_refused(text):
    with pytest.raises(LimitError, match="--cpus"):
        values.cpu_count(text)


def test_processors_may_be_shared():
    assert values.cpu_count("0.25") == 0.25
    assert values.cpu_count("0") == 0
    assert values.cpu_count(None) is None


def test_a_variable_without_a_value_is_taken_from_here_or_left_out():
    texts = ("A=1", "HERE", "GONE", "EMPTY=")

    assert values.environment(texts, {"HERE": "yes"}) == ("A=1", "HERE=yes", "EMPTY=")


def test_a_variable_needs_a_name():
    with pytest.raises(InvalidInputError):
        values.environment(("=1",), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5s", NOW - 1_500_000_000),
        ("1600000000", 1_600_000_000 * 10**9),
        ("1600000000.000000005", 1_600_000_000 * 10**9 + 5),
        ("2020-09-13T12:26:40Z", 1_600_000_000 * 10**9),
        ("2020-09-13T12:26:40.000000005Z", 1_600_000_000 * 10**9 + 5),
        ("2020-09-13T14:26:40+02:00", 1_600_000_000 * 10**9),
    ],
)
def test_a_time_is_ago_or_absolute(text, expected):
    assert values.moment_ns("--since", text, now_ns=NOW) == expected


def test_a_time_without_a_zone_is_the_clock_on_the_wall():
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1_600_000_000))

    assert values.moment_ns("--since", text) == 1_600_000_000 * 10**9


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "2020-13-01", "-5m"])
def test_a_time_that_makes_no_sense_is_refused(text):
    with pytest.raises(LimitError, match="--since"):
        values.moment_ns("--since", text)


@pytest.mark.parametrize(
    ("text", "lines"), [(None, None), ("all", None), ("-1", None), ("0", 0), ("9", 9)]
)
def test_the_tail_is_a_number_of_lines_or_all(text, lines):
    assert values.tail(text) == lines


def test_a_timeout_may_be_for_ever():
    assert values.timeout_seconds("--timeout", "-1") == -1
    with pytest.raises(LimitError):
        values.timeout_seconds("--timeout", "-2")
