"""Options of `run` and `create` about the life of a container: restarts, health, init."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.types import HealthCheck, RestartPolicy
from tui.cli import values
from tui.cli.options import Option

if TYPE_CHECKING:
    from tui.cli.options import Arguments

RESTART = Option(
    "restart",
    "",
    "POLICY",
    "When it is started again: no, always, unless-stopped, on-failure[:RETRIES]",
)
OPTIONS = (
    RESTART,
    Option("init", "", "", "Put a small init first, which reaps and passes signals on"),
    Option("health-cmd", "", "COMMAND", "A line for the container's shell; exit code 0 is healthy"),
    Option("health-interval", "", "TIME", "Between two of them, such as 30s or 1m30s"),
    Option("health-timeout", "", "TIME", "How long one may take"),
    Option("health-retries", "", "NUMBER", "So many failures in a row are unhealthy"),
    Option("health-start-period", "", "TIME", "From the start, in which failures do not count"),
    Option("health-start-interval", "", "TIME", "Between two of them within the start period"),
    Option("no-healthcheck", "", "", "Do not use the image's health check"),
)


def restart_policy(arguments: Arguments) -> RestartPolicy | None:
    """Read --restart; None when it was not given.

    Raises:
        InvalidInputError: It has a form that there is not; the text is Docker's.
    """
    text = arguments.text("restart")
    if text is None:
        return None
    name, colon, count_text = text.partition(":")
    if colon and not name:
        raise InvalidInputError(
            "invalid restart policy format: no policy provided before colon",
            hint="Write on-failure:5",
        )
    try:
        count = int(count_text or "0")
    except ValueError:
        raise InvalidInputError(
            "invalid restart policy format: maximum retry count must be an integer",
            hint="Write on-failure:5",
        ) from None
    return RestartPolicy(name=name or "no", maximum_retry_count=count)


def health_check(arguments: Arguments) -> HealthCheck | None:
    """Read --health-* and --no-healthcheck; None when none was given.

    Raises:
        InvalidInputError: A value makes no sense, or they contradict each other.
    """
    line = arguments.text("health-cmd")
    retries = arguments.text("health-retries")
    asked = HealthCheck(
        command=("CMD-SHELL", line) if line else (),
        interval_seconds=_seconds(arguments, "health-interval"),
        timeout_seconds=_seconds(arguments, "health-timeout"),
        start_period_seconds=_seconds(arguments, "health-start-period"),
        start_interval_seconds=_seconds(arguments, "health-start-interval"),
        retries=0 if retries is None else _retries(retries),
    )
    if arguments.is_on("no-healthcheck"):
        if asked != HealthCheck():
            raise InvalidInputError("--no-healthcheck conflicts with --health-* options")
        return HealthCheck(command=("NONE",))
    return None if asked == HealthCheck() else asked


def _seconds(arguments: Arguments, name: str) -> float:
    text = arguments.text(name)
    return 0.0 if text is None else values.duration_seconds(f"--{name}", text)


def _retries(text: str) -> int:
    if text.startswith("-") and text[1:].isdigit():
        raise InvalidInputError("--health-retries cannot be negative")
    return values.whole_number("--health-retries", text)
