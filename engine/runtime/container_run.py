"""One run of a container's program, from its start to its exit status.

A monitor has one at a time; with a restart policy there may be many, one after the other.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from typing import TYPE_CHECKING

from engine.cgroups.groups import open_group
from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from engine.logs.writer import LogWriter
from engine.runtime.exec_session import fork_exec_session
from engine.runtime.namespaces import PRIVATE
from engine.runtime.protocol import PacketKind, SessionEnd
from engine.runtime.records import encode_record
from engine.runtime.streams import ProgramStreams

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from engine.cgroups.group import Cgroup
    from engine.runtime.handover import Handover
    from engine.runtime.journal import ContainerJournal
    from engine.runtime.reactor import Deadline, Reactor
    from engine.runtime.records import RecordDocument
    from engine.runtime.spec import ContainerSpec, ExecSpec

_DRAIN_SECONDS = 2.0
_LAST_SEND_SECONDS = 1
_SESSION_PATIENCE_SECONDS = 10.0
"""How long a session that does not read may hold a container with a terminal up."""
_OUT_OF_MEMORY_LOOKS_SECONDS = (0.1, 1.0)
"""After which to look again whether the kernel has killed: v1 tells of it before it does it."""
_EVENT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended.

    Attributes:
        exit_code: 0-255; 128 and the signal's number after a signal.
        lasted_seconds: From the start of the program.
        has_new_kill: The kernel has killed for the memory limit, and nobody was told of it yet.
        warnings: What could not be cleaned up.
    """

    exit_code: int
    lasted_seconds: float
    has_new_kill: bool
    warnings: tuple[str, ...]


class ContainerRun:
    """A program that runs, its streams, its log and its control group."""

    def __init__(
        self,
        handover: Handover,
        spec: RecordDocument[ContainerSpec],
        reactor: Reactor,
        *,
        on_end: Callable[[], None],
        on_memory_kill: Callable[[], None],
    ) -> None:
        """Take over a program, and move its output from now on.

        Args:
            handover: What its starter has given.
            spec: The container's.
            reactor: Drives everything.
            on_end: Called when the first process has ended; `end` collects it.
            on_memory_kill: Called when the kernel has killed a process for the memory limit.
        """
        self._spec = spec
        self._reactor = reactor
        self._on_memory_kill = on_memory_kill
        self._started = time.monotonic()
        self._cgroup_paths = handover.cgroup_paths
        self._group: Cgroup | None = None
        self._out_of_memory = handover.out_of_memory
        self._out_of_memory_kills = 0
        self._looks: list[Deadline] = []
        self._pidfd = handover.pidfd
        self.log = LogWriter(
            handover.log_path,
            file_bytes=handover.log_file_bytes,
            file_count=handover.log_file_count,
        )
        self.streams = ProgramStreams(
            reactor,
            log=self.log,
            is_input_ended_with_session=handover.is_stdin_closed_with_session,
            # Only a terminal's: what a pipe brings must not be cut short.
            patience_seconds=_SESSION_PATIENCE_SECONDS if handover.ends.is_terminal else None,
        )
        self.streams.open(handover.ends)
        reactor.watch(self._pidfd, lambda _events: on_end())
        if self._out_of_memory >= 0:
            reactor.watch(self._out_of_memory, self._notice_out_of_memory)

    @property
    def group(self) -> Cgroup:
        """The container's control group."""
        if self._group is None:
            self._group = open_group(self._cgroup_paths)
        return self._group

    def _notice_out_of_memory(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            os.read(self._out_of_memory, _EVENT_BYTES)
        self._look_for_kills()
        for look in self._looks:
            look.cancel()
        self._looks = [
            self._reactor.after(seconds, self._look_for_kills)
            for seconds in _OUT_OF_MEMORY_LOOKS_SECONDS
        ]

    def _look_for_kills(self) -> None:
        if self._has_new_kill():
            self._on_memory_kill()

    def _has_new_kill(self) -> bool:
        earlier = self._out_of_memory_kills
        self._out_of_memory_kills = max(earlier, self.group.out_of_memory_kills())
        return self._out_of_memory_kills > earlier

    def fork_session(
        self, connection: socket.socket, program: ExecSpec, journal: ContainerJournal
    ) -> int:
        """Fork the process that runs another program and serves its session; returns its id.

        Raises:
            OSError: No process can be had.
        """
        process_id = fork_exec_session(
            self._spec.record,
            program,
            name=journal.name,
            state=journal.told_state,
            group=self.group,
            init=self._pidfd,
            connection=connection,
        )
        pidfd = os.pidfd_open(process_id)
        self._reactor.watch(pidfd, functools.partial(self._reap, pidfd))
        return process_id

    def _reap(self, pidfd: int, _events: int) -> None:
        self._reactor.forget(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)

    def signal(self, number: int) -> bool:
        """Send a signal to the first process; False if it has ended."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> RunEnd:
        """Collect the exit status, drain the streams into the log, and remove the group."""
        lasted_seconds = time.monotonic() - self._started
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        is_exit = result.si_code == os.CLD_EXITED
        exit_code = result.si_status if is_exit else 128 + result.si_status
        if self._spec.record.namespaces.pid != PRIVATE:
            # Only a pid namespace of its own ends with its first process.
            self.group.kill_all()
        self.streams.drain(_DRAIN_SECONDS, send_seconds=_LAST_SEND_SECONDS)
        self.log.close()
        warnings: tuple[str, ...] = ()
        has_new_kill = False
        try:
            has_new_kill = self._has_new_kill()
            self._forget()
            self.group.destroy()
        except (EngineError, OSError) as error:
            warnings = (f"control group not removed: {error}",)
        return RunEnd(
            exit_code=exit_code,
            lasted_seconds=lasted_seconds,
            has_new_kill=has_new_kill,
            warnings=warnings,
        )

    def close(self, exit_code: int) -> None:
        """Tell every session how the program ended; after `end`."""
        self.streams.close(PacketKind.END + encode_record(SessionEnd(exit_code=exit_code)))

    def _forget(self) -> None:
        for look in self._looks:
            look.cancel()
        for descriptor in {self._out_of_memory, self._pidfd} - {-1}:
            self._reactor.forget(descriptor)
            os.close(descriptor)
        self._out_of_memory = self._pidfd = -1
