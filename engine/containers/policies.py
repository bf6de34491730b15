"""Restart policies and health checks: what may be asked for, and what the monitor is told.

The texts are Docker's (moby daemon/pkg/opts, api/types/container, cli/command/container/opts.go).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.runtime.health import HealthSpec
from engine.runtime.restart import POLICIES, RestartSpec
from engine.types import HealthCheck

if TYPE_CHECKING:
    from engine.types import ContainerRequest, ImageConfig, RestartPolicy

DISABLED = ("NONE",)
_DEFAULT = HealthCheck(
    interval_seconds=30.0, timeout_seconds=30.0, start_interval_seconds=5.0, retries=3
)
_SHORTEST_SECONDS = 0.001


def check_restart_policy(policy: RestartPolicy) -> None:
    """Refuse a restart policy that there is not.

    Raises:
        InvalidInputError: The text is Docker's.
    """
    count = policy.maximum_retry_count
    if policy.name not in POLICIES:
        raise InvalidInputError(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.name == "on-failure":
        if count < 0:
            raise InvalidInputError(
                "invalid restart policy: maximum retry count cannot be negative",
                hint="Without a number it is started again for ever",
            )
    elif count:
        negative = " and cannot be negative" if count < 0 else ""
        raise InvalidInputError(
            "invalid restart policy: maximum retry count can only be used with "
            f"'on-failure'{negative}"
        )


def check_policies(request: ContainerRequest) -> None:
    """Refuse what a request says of restarts and health that cannot work.

    Raises:
        InvalidInputError: The text is Docker's.
    """
    check_restart_policy(request.restart_policy)
    if request.is_removed_on_exit and request.restart_policy.name != "no":
        raise InvalidInputError(
            "conflicting options: cannot specify both --restart and --rm",
            hint="A container that is removed when it ends cannot be started again: drop one",
        )
    if request.health is not None:
        _check_health(request.health)


def _check_health(check: HealthCheck) -> None:
    for option, what, seconds in (
        ("--health-interval", "Interval", check.interval_seconds),
        ("--health-timeout", "Timeout", check.timeout_seconds),
        ("--health-start-period", "StartPeriod", check.start_period_seconds),
        ("--health-start-interval", "StartInterval", check.start_interval_seconds),
    ):
        if seconds < 0 or not math.isfinite(seconds):
            raise InvalidInputError(f"{option} cannot be negative")
        if 0 < seconds < _SHORTEST_SECONDS:
            raise InvalidInputError(f"{what} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidInputError("--health-retries cannot be negative")
    words = check.command
    if words and words[0] not in {"CMD", "CMD-SHELL", "NONE"}:
        raise InvalidInputError(
            f"Unknown healthcheck type {words[0]!r} (expected 'CMD')",
            hint="Write CMD and words, CMD-SHELL and a line, or NONE",
        )
    if words and words != DISABLED and not "".join(words[1:2]):
        raise InvalidInputError("the health check has no command")
    if any("\0" in word for word in words):
        raise InvalidInputError("invalid --health-cmd: it has a NUL character")


def merge_health(config: ImageConfig, request: ContainerRequest) -> HealthCheck | None:
    """Put image and request together, and defaults in; None without a check."""
    image = config.health_check or _DEFAULT
    asked = request.health or HealthCheck()
    command = asked.command or image.command
    if not command or command == DISABLED:
        return None
    return HealthCheck(
        command=command,
        interval_seconds=(
            asked.interval_seconds or image.interval_seconds or _DEFAULT.interval_seconds
        ),
        timeout_seconds=asked.timeout_seconds or image.timeout_seconds or _DEFAULT.timeout_seconds,
        start_period_seconds=asked.start_period_seconds or image.start_period_seconds,
        start_interval_seconds=(
            asked.start_interval_seconds
            or image.start_interval_seconds
            or _DEFAULT.start_interval_seconds
        ),
        retries=asked.retries or image.retries or _DEFAULT.retries,
    )


def health_warnings(config: ImageConfig, request: ContainerRequest) -> tuple[str, ...]:
    """What is asked for of a health check that there is not."""
    asked = request.health
    if asked is None or asked.command or config.health_check is not None:
        return ()
    return ("--health-* has no effect: the image has no health check, give one with --health-cmd",)


def restart_spec(policy: RestartPolicy) -> RestartSpec:
    """What the monitor is told of a restart policy."""
    return RestartSpec(policy=policy.name, maximum_retry_count=policy.maximum_retry_count)


def health_spec(check: HealthCheck | None) -> HealthSpec | None:
    """What the monitor is told of a health check."""
    if check is None:
        return None
    kind, *words = check.command
    return HealthSpec(
        # An image may have one that is wrong; the probe then says so each time.
        arguments=("/bin/sh", "-c", *words[:1]) if kind == "CMD-SHELL" else tuple(words),
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        start_period_seconds=check.start_period_seconds,
        start_interval_seconds=check.start_interval_seconds,
        retries=check.retries,
    )
