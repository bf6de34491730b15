"""Restart policies and health checks: what is refused, and what image and request make together."""

import pytest

from engine.containers.policies import (
    check_policies,
    check_restart_policy,
    health_spec,
    health_warnings,
    merge_health,
)
from engine.errors import InvalidInputError
from engine.types import ContainerRequest, HealthCheck, ImageConfig, RestartPolicy

IMAGE_CHECK = HealthCheck(
    command=("CMD", "check", "-q"),
    interval_seconds=7.0,
    timeout_seconds=2.0,
    start_period_seconds=60.0,
    start_interval_seconds=1.0,
    retries=9,
)
WITH_CHECK = ImageConfig(health_check=IMAGE_CHECK)


def request(**fields: object) -> ContainerRequest:
    return ContainerRequest(image="web", **fields)


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        (
            "sometimes",
            0,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'",
        ),
        ("on-failure", -1, "invalid restart policy: maximum retry count cannot be negative"),
        (
            "always",
            3,
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            "no",
            -3,
            "invalid restart policy: maximum retry count can only be used with 'on-failure' and "
            "cannot be negative",
        ),
    ],
)
def test_policies_that_there_are_not_are_refused_in_dockers_words(name, count, text):
    with pytest.raises(InvalidInputError) as failure:
        check_restart_policy(RestartPolicy(name=name, maximum_retry_count=count))
    assert failure.value.message == text


def test_a_container_that_is_removed_when_it_ends_cannot_be_started_again():
    for name in ("always", "unless-stopped", "on-failure"):
        policy = RestartPolicy(name=name)
        with pytest.raises(InvalidInputError) as failure:
            check_policies(request(is_removed_on_exit=True, restart_policy=policy))
        assert failure.value.message == (
            "conflicting options: cannot specify both --restart and --rm"
        )
    check_policies(request(is_removed_on_exit=True))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (HealthCheck(interval_seconds=0.0005), "Interval in Healthcheck cannot be less than 1ms"),
        (HealthCheck(timeout_seconds=-1.0), "--health-timeout cannot be negative"),
        (HealthCheck(start_period_seconds=float("inf")), "--health-start-period"),
        (HealthCheck(start_interval_seconds=1e-9), "StartInterval in Healthcheck"),
        (HealthCheck(retries=-1), "--health-retries cannot be negative"),
        (HealthCheck(command=("true",)), "Unknown healthcheck type"),
        (HealthCheck(command=("CMD",)), "no command"),
        (HealthCheck(command=("CMD-SHELL", "a\0b")), "NUL"),
    ],
)
def test_health_checks_that_cannot_work_are_refused(check, text):
    with pytest.raises(InvalidInputError, match=text):
        check_policies(request(health=check))


def test_without_a_word_the_image_says_how_health_is_asked_for():
    assert merge_health(WITH_CHECK, request()) == IMAGE_CHECK
    assert merge_health(ImageConfig(), request()) is None


def test_what_is_asked_for_takes_the_place_of_what_the_image_says_and_no_more():
    asked = HealthCheck(command=("CMD-SHELL", "test -e /ok"), retries=1)
    merged = merge_health(WITH_CHECK, request(health=asked))
    assert merged == HealthCheck(
        command=("CMD-SHELL", "test -e /ok"),
        interval_seconds=7.0,
        timeout_seconds=2.0,
        start_period_seconds=60.0,
        start_interval_seconds=1.0,
        retries=1,
    )


def test_what_nobody_says_is_dockers_default():
    merged = merge_health(ImageConfig(), request(health=HealthCheck(command=("CMD", "true"))))
    assert merged == HealthCheck(
        command=("CMD", "true"),
        interval_seconds=30.0,
        timeout_seconds=30.0,
        start_period_seconds=0.0,
        start_interval_seconds=5.0,
        retries=3,
    )


def test_none_takes_the_images_check_away():
    assert merge_health(WITH_CHECK, request(health=HealthCheck(command=("NONE",)))) is None


def test_settings_of_a_check_that_there_is_not_are_said_to_have_no_effect():
    asked = request(health=HealthCheck(interval_seconds=3.0))
    assert merge_health(ImageConfig(), asked) is None
    (warning,) = health_warnings(ImageConfig(), asked)
    assert "--health-cmd" in warning
    assert health_warnings(WITH_CHECK, asked) == ()
    assert health_warnings(ImageConfig(), request(health=HealthCheck(command=("NONE",)))) == ()


def test_a_line_goes_to_the_shell_and_words_are_a_command():
    words = merge_health(WITH_CHECK, request())
    line = merge_health(WITH_CHECK, request(health=HealthCheck(command=("CMD-SHELL", "a | b"))))
    assert health_spec(words).arguments == ("check", "-q")
    assert health_spec(line).arguments == ("/bin/sh", "-c", "a | b")
    assert health_spec(None) is None
