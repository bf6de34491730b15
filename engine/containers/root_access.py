"""The root of a running container, as a descriptor.

It is what the container's first process has as its root, with everything that is mounted there.
Who holds the descriptor resolves paths below it with openat2; no namespace is entered, and no
program of the container takes part.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, ProcessError
from engine.linux.process import start_ticks

if TYPE_CHECKING:
    from engine.runtime.spec import StateRecord


def open_running_root(state: StateRecord, name: str) -> int:
    """Open the root of a running container (O_PATH); blocking.

    Also works on containers of another launcher, whose user namespace a worker cannot enter: this
    very process made that namespace, or its user did.

    Raises:
        ProcessError: The container has ended meanwhile.
        FeatureUnavailableError: The kernel does not let us see it.
    """
    process_id = state.process_id
    try:
        pidfd = os.pidfd_open(process_id)
    except OSError:
        raise _ended(name) from None
    try:
        # The process id may have gone to another process before the pidfd was there, not after.
        if start_ticks(process_id) != state.process_start_ticks:
            raise _ended(name)
        try:
            root = os.open(f"/proc/{process_id}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError as error:
            raise FeatureUnavailableError(
                f"the root filesystem of the running container {name}",
                f"the kernel does not show it ({error.strerror})",
                remedy="Stop the container and copy then",
            ) from None
        except OSError:
            raise _ended(name) from None
        if _has_ended(pidfd):
            os.close(root)
            raise _ended(name)
        return root
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _ended(name: str) -> ProcessError:
    return ProcessError(f"container {name} has ended meanwhile", hint="Try again")
