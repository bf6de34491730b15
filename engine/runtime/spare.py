"""A monitor that is forked before there is a container for it.

To fork the launcher takes a millisecond, and the young process pays again for every page that it
writes to for the first time. The launcher keeps one monitor that has this behind it and waits for
its container. The next one is made when that container runs, so that it does not take the
processor from its start.
"""

from __future__ import annotations

import contextlib
import os
import socket

from engine.late_dataclasses import dataclass
from engine.linux.process import fork_named
from engine.runtime.monitor_process import LAUNCHER_NAME, MONITOR_NAME, run_spare_monitor
from engine.runtime.protocol import FrameKind, send_frame


@dataclass(frozen=True, slots=True)
class SpareMonitor:
    """The launcher's side of a monitor that waits; `channel` is at its end when it is through."""

    process_id: int
    channel: socket.socket

    @classmethod
    def fork(cls, launcher_channel: socket.socket, rehearsal: bytes) -> SpareMonitor | None:
        """Make one, if a process can be had.

        Args:
            launcher_channel: What the new process must not hold.
            rehearsal: The spec of an earlier container, or nothing: what the monitor does with
                its own, it does with this one ahead of time.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process_id = fork_named(MONITOR_NAME, LAUNCHER_NAME)
        except OSError:
            ours.close()
            theirs.close()
            return None
        if process_id == 0:
            launcher_channel.close()
            ours.close()
            run_spare_monitor(theirs, rehearsal)
        theirs.close()
        return cls(process_id, ours)

    def hand_over(self, spec_document: bytes, descriptors: tuple[int, ...]) -> bool:
        """Give it its container; False if it was killed meanwhile and has not taken it."""
        try:
            send_frame(self.channel, FrameKind.START, spec_document, descriptors)
        except OSError:
            return False
        return True

    def dismiss(self) -> None:
        """Let it go, and wait until it has gone."""
        self.channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process_id, 0)
