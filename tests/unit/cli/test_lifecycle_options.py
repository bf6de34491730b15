"""Restart policy, health and init on the command line."""

import pytest

from engine.errors import EngineError, InvalidInputError
from engine.types import HealthCheck, RestartPolicy
from tui.cli import run, values
from tui.cli.options import parse


def request(*words: str):
    (command,) = (command for command in run.COMMANDS if command.name == "create")
    return run.read_request(
        parse([*words, "web"], command.options, command="create", stops_at_operand=True)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", RestartPolicy()),
        ("", RestartPolicy()),
        ("always", RestartPolicy(name="always")),
        ("unless-stopped", RestartPolicy(name="unless-stopped")),
        ("on-failure", RestartPolicy(name="on-failure")),
        ("on-failure:5", RestartPolicy(name="on-failure", maximum_retry_count=5)),
        ("on-failure:-1", RestartPolicy(name="on-failure", maximum_retry_count=-1)),
    ],
)
def test_restart_policies_are_read(text, expected):
    assert request("--restart", text).restart_policy == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":3", "invalid restart policy format: no policy provided before colon"),
        (
            "on-failure:x",
            "invalid restart policy format: maximum retry count must be an integer",
        ),
    ],
)
def test_restart_policies_without_a_meaning_are_refused_in_dockers_words(text, message):
    with pytest.raises(InvalidInputError) as failure:
        request("--restart", text)
    assert failure.value.message == message


def test_nothing_about_health_is_as_the_image_says():
    assert request().health is None
    assert request().has_init is False
    assert request("--init").has_init


def test_health_options_are_read():
    assert request(
        "--health-cmd", "curl -f localhost || exit 1",
        "--health-interval=1m30s", "--health-timeout", "500ms", "--health-retries=5",
        "--health-start-period=2m", "--health-start-interval", "1s",
    ).health == HealthCheck(
        command=("CMD-SHELL", "curl -f localhost || exit 1"),
        interval_seconds=90.0,
        timeout_seconds=0.5,
        start_period_seconds=120.0,
        start_interval_seconds=1.0,
        retries=5,
    )  # fmt: skip
    assert request("--no-healthcheck").health == HealthCheck(command=("NONE",))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--no-healthcheck", "--health-retries", "2"),
            "--no-healthcheck conflicts with --health-* options",
        ),
        (("--health-interval", "-5s"), "--health-interval cannot be negative"),
        (("--health-retries", "-1"), "--health-retries cannot be negative"),
        (("--health-timeout", "soon"), "invalid value for --health-timeout"),
        (("--health-retries", "many"), "invalid value for --health-retries"),
    ],
)
def test_health_options_that_make_no_sense_are_refused(words, message):
    with pytest.raises(EngineError, match=message.replace("*", r"\*")):
        request(*words)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("0s", 0.0), ("1.5h", 5400.0), ("1m1s", 61.0), ("2ms", 0.002)]
)
def test_lengths_of_time_are_read_as_docker_reads_them(text, seconds):
    assert values.duration_seconds("--x", text) == pytest.approx(seconds)
