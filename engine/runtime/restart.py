"""Whether a container that has ended is started again, and after how long.

The rules are Docker's (moby daemon/internal/restartmanager): the wait is 100 milliseconds at first
and doubles up to a minute; a run of ten seconds or more begins it anew; a container that a person
has stopped stays so.
"""

from __future__ import annotations

from engine.late_dataclasses import dataclass

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 60.0
LONG_RUN_SECONDS = 10.0
POLICIES = ("no", "always", "on-failure", "unless-stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSpec:
    """When a container that has ended is started again.

    Attributes:
        policy: One of POLICIES.
        maximum_retry_count: Of `on-failure`; 0 is no limit.
    """

    policy: str = "no"
    maximum_retry_count: int = 0

    def wants(self, exit_code: int, *, restart_count: int, is_stopped_by_person: bool) -> bool:
        """Whether an end is to be followed by another start.

        `always` says yes also after a person's stop: that holds until the monitor, or after a
        reboot the engine, asks the next time, so it is for them not to ask meanwhile.
        """
        if self.policy == "always":
            return True
        if self.policy == "unless-stopped":
            return not is_stopped_by_person
        if self.policy == "on-failure":
            limit = self.maximum_retry_count
            return exit_code != 0 and (limit == 0 or restart_count < limit)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long the next start waits; a value, of which each end makes the next.

    Attributes:
        delay_seconds: What the last start waited; 0 before the first.
    """

    delay_seconds: float = 0.0

    def after_run(self, lasted_seconds: float) -> BackOff:
        """The wait behind a run that lasted so long."""
        last = 0.0 if lasted_seconds >= LONG_RUN_SECONDS else self.delay_seconds
        if last == 0:
            return BackOff(delay_seconds=FIRST_DELAY_SECONDS)
        return BackOff(delay_seconds=min(last * 2, LONGEST_DELAY_SECONDS))
