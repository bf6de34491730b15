"""Resource limits and the out-of-memory score of a container's process.

The kernel lets only CAP_SYS_RESOURCE raise a hard limit or lower the score, and containers'
hosts are often without it: what cannot be had is clamped, never an error.
"""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING

from engine.linux.capabilities import is_dumpable, set_dumpable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.runtime.spec import ResourceLimitSpec

ULIMIT_NUMBERS: dict[str, int] = {
    # The same on x86_64 and aarch64 (asm-generic/resource.h); the names are those of Docker.
    "core": 4,
    "cpu": 0,
    "data": 2,
    "fsize": 1,
    "locks": 10,
    "memlock": 8,
    "msgqueue": 12,
    "nice": 13,
    "nofile": 7,
    "nproc": 6,
    "rss": 5,
    "rtprio": 14,
    "rttime": 15,
    "sigpending": 11,
    "stack": 3,
}
OOM_SCORE_FILE = "/proc/self/oom_score_adj"


def set_resource_limits(limits: Iterable[ResourceLimitSpec]) -> None:
    """Set limits of this process; those that it may not raise become what it may have."""
    for limit in limits:
        number = limit.number
        hard = resource.RLIM_INFINITY if limit.hard < 0 else limit.hard
        soft = resource.RLIM_INFINITY if limit.soft < 0 else limit.soft
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            highest = resource.getrlimit(number)[1]
            resource.setrlimit(number, (lower(soft, highest), lower(hard, highest)))


def lower(one: int, other: int) -> int:
    """The lower of two limits, of which -1 (RLIM_INFINITY) is the highest."""
    if one == resource.RLIM_INFINITY:
        return other
    return one if other == resource.RLIM_INFINITY else min(one, other)


def set_oom_score(adjustment: int) -> None:
    """Set the score of this process, or leave it where it may not be lowered.

    It is inherited: whoever started the engine may have one that the container must not get.
    """
    with open(OOM_SCORE_FILE, "rb", buffering=0) as score:
        if int(score.read()) == adjustment:
            return
    # The file of a process that is not dumpable belongs to the first root, whom a user namespace
    # does not have. Whoever is in the container has fewer capabilities, so may not trace this.
    was_dumpable = is_dumpable()
    set_dumpable(is_dumpable=True)
    try:
        with (
            contextlib.suppress(PermissionError),
            open(OOM_SCORE_FILE, "wb", buffering=0) as score,
        ):
            score.write(b"%d" % adjustment)
    finally:
        set_dumpable(is_dumpable=was_dumpable)
