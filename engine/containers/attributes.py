"""Process attributes that this host may not give in full: resource limits, out-of-memory score."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from engine.linux.capabilities import capability_number, read_capabilities
from engine.runtime.resource_limits import OOM_SCORE_FILE, ULIMIT_NUMBERS, lower
from engine.runtime.spec import ResourceLimitSpec

if TYPE_CHECKING:
    from engine.types import ProcessOptions, Ulimit

_MOST_OPEN_FILES = "/proc/sys/fs/nr_open"
_SYS_RESOURCE = capability_number("SYS_RESOURCE")


def resource_limits(options: ProcessOptions) -> tuple[ResourceLimitSpec, ...]:
    """The limits to set, each as far as this process may raise it."""
    return tuple(_clamp(ulimit) for ulimit in options.ulimits)


def attribute_warnings(options: ProcessOptions) -> tuple[str, ...]:
    """What was asked for and comes out lower; reads small files of /proc."""
    warnings = []
    for ulimit in options.ulimits:
        limit = _clamp(ulimit)
        if (limit.soft, limit.hard) != (ulimit.soft, ulimit.hard):
            warnings.append(
                f"--ulimit {ulimit.name}={_text(ulimit.soft)}:{_text(ulimit.hard)} is lowered to "
                f"{_text(limit.soft)}:{_text(limit.hard)}, the most that this host lets us give"
            )
    if options.oom_score_adjustment < 0 and not _may_raise():
        with open(OOM_SCORE_FILE, encoding="ascii") as score:
            own = int(score.read())
        if options.oom_score_adjustment < own:
            warnings.append(
                f"--oom-score-adj {options.oom_score_adjustment} may stay at {own}: "
                "to lower it needs CAP_SYS_RESOURCE"
            )
    return tuple(warnings)


def _clamp(ulimit: Ulimit) -> ResourceLimitSpec:
    number = ULIMIT_NUMBERS[ulimit.name]
    highest = resource.RLIM_INFINITY if _may_raise() else resource.getrlimit(number)[1]
    if number == resource.RLIMIT_NOFILE:
        with open(_MOST_OPEN_FILES, encoding="ascii") as most:
            highest = lower(highest, int(most.read()))
    return ResourceLimitSpec(
        number=number, soft=lower(ulimit.soft, highest), hard=lower(ulimit.hard, highest)
    )


def _may_raise() -> bool:
    # Of the first user namespace: an ordinary user's containers never have it there.
    return os.geteuid() == 0 and _SYS_RESOURCE in read_capabilities().effective


def _text(limit: int) -> str:
    return "unlimited" if limit < 0 else str(limit)
