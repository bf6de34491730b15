"""One run of a container's program, from its control group to its exit status.

A monitor has one at a time; with a restart policy there may be many, one after the other.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.cgroups.groups import create_group
from engine.cgroups.host import detect_cgroups
from engine.errors import EngineError
from engine.linux.process import clone_process
from engine.logs.writer import LogWriter
from engine.runtime.exec_session import fork_exec_session
from engine.runtime.init import run_init
from engine.runtime.namespaces import PRIVATE, children_join, new_namespaces, open_owner
from engine.runtime.pipes import ProgramPipes
from engine.runtime.program import InheritedDescriptors, wait_for_exec
from engine.runtime.protocol import PacketKind, SessionEnd
from engine.runtime.records import encode_record
from engine.runtime.streams import ProgramStreams

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from engine.runtime.journal import ContainerJournal
    from engine.runtime.reactor import Deadline, Reactor
    from engine.runtime.spec import ContainerSpec, ExecSpec

_DRAIN_SECONDS = 2.0
_LAST_SEND_SECONDS = 1
_SESSION_PATIENCE_SECONDS = 10.0
"""How long a session that does not read may hold a container with a terminal up."""
_OUT_OF_MEMORY_LOOKS_SECONDS = (0.1, 1.0)
"""After which to look again whether the kernel has killed: v1 tells of it before it does it."""
_EVENT_BYTES = 4096


def _ignore() -> None:
    """Nobody wants to know yet."""


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
    """A control group, a first process with its streams, and the log."""

    def __init__(
        self, spec: ContainerSpec, reactor: Reactor, *, on_end: Callable[[], None]
    ) -> None:
        """Make the control group and open the log.

        Args:
            spec: The container's.
            reactor: Drives everything.
            on_end: Called when the first process has ended; `end` collects it.

        Raises:
            EngineError, OSError: Nothing is left.
        """
        self._spec = spec
        self._reactor = reactor
        self._on_end = on_end
        self._started = 0.0
        self._report = -1
        self._pipes: ProgramPipes | None = None
        self._out_of_memory: int | None = None
        self._out_of_memory_kills = 0
        self._on_kill: Callable[[], None] = _ignore
        self._looks: list[Deadline] = []
        self.process_id = 0
        self.pidfd = -1
        self.group = create_group(detect_cgroups(), spec.cgroup)
        try:
            self.log = LogWriter(
                spec.log.path, file_bytes=spec.log.file_bytes, file_count=spec.log.file_count
            )
        except BaseException:
            with contextlib.suppress(EngineError, OSError):
                self.group.destroy()
            raise
        self.streams = ProgramStreams(
            reactor,
            log=self.log,
            is_input_ended_with_session=spec.is_stdin_closed_with_session,
            # Only a terminal's: what a pipe brings must not be cut short.
            patience_seconds=_SESSION_PATIENCE_SECONDS if spec.process.has_terminal else None,
        )

    def clone(self) -> None:
        """Clone init, which sets the container up by itself; `await_program` waits for it."""
        pipes = self._pipes = ProgramPipes(
            has_terminal=self._spec.process.has_terminal,
            is_stdin_open=self._spec.is_stdin_open,
            is_discarded=False,
        )
        self._report, report_end = os.pipe2(os.O_CLOEXEC)
        descriptors = InheritedDescriptors(
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            terminal=pipes.terminal,
            report=report_end,
            parent=os.pidfd_open(os.getpid()),
            join=self.group.join_descriptors,
        )
        namespaces = self._spec.namespaces
        ipc_owner = open_owner(namespaces.ipc) if namespaces.joins_ipc else -1
        with children_join(namespaces):
            self.process_id, self.pidfd = clone_process(
                new_namespaces(namespaces), cgroup=self.group.unified_descriptor
            )
            if self.process_id == 0:
                run_init(self._spec, descriptors, ipc_owner=ipc_owner)
        if ipc_owner >= 0:
            os.close(ipc_owner)
        self._reactor.watch(self.pidfd, lambda _events: self._on_end())
        self.group.close_join_descriptors()
        pipes.close_theirs()
        os.close(report_end)
        os.close(descriptors.parent)

    def await_program(self) -> None:
        """Return when the program runs.

        Raises:
            StartError: It cannot be started.
        """
        assert self._pipes is not None
        wait_for_exec(self._report)
        self._pipes.open(self.streams)
        self._started = time.monotonic()

    def watch_memory(self, on_kill: Callable[[], None]) -> None:
        """Call a function when the kernel has killed a process for the memory limit."""
        self._on_kill = on_kill
        self._out_of_memory = self.group.out_of_memory_watch()
        if self._out_of_memory is not None:
            self._reactor.watch(self._out_of_memory, self._notice_out_of_memory)

    def _notice_out_of_memory(self, _events: int) -> None:
        assert self._out_of_memory is not None
        with contextlib.suppress(OSError):
            os.read(self._out_of_memory, _EVENT_BYTES)
        self._look_for_kills()
        self._cancel_looks()
        self._looks = [
            self._reactor.after(seconds, self._look_for_kills)
            for seconds in _OUT_OF_MEMORY_LOOKS_SECONDS
        ]

    def _look_for_kills(self) -> None:
        if self._has_new_kill():
            self._on_kill()

    def _has_new_kill(self) -> bool:
        earlier = self._out_of_memory_kills
        self._out_of_memory_kills = max(earlier, self.group.out_of_memory_kills())
        return self._out_of_memory_kills > earlier

    def _cancel_looks(self) -> None:
        for look in self._looks:
            look.cancel()

    def fork_session(
        self, connection: socket.socket, program: ExecSpec, journal: ContainerJournal
    ) -> int:
        """Fork the process that runs another program and serves its session; returns its id.

        Raises:
            OSError: No process can be had.
        """
        process_id = fork_exec_session(
            self._spec,
            program,
            name=journal.name,
            state=journal.told_state,
            group=self.group,
            init=self.pidfd,
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
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> RunEnd:
        """Collect the exit status, drain the streams into the log, and remove the group."""
        lasted_seconds = time.monotonic() - self._started
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None
        is_exit = result.si_code == os.CLD_EXITED
        exit_code = result.si_status if is_exit else 128 + result.si_status
        if self._spec.namespaces.pid != PRIVATE:
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

    def abandon(self) -> None:
        """Undo a start that failed."""
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        self._forget()
        with contextlib.suppress(EngineError, OSError):
            self.group.destroy()
        self.log.close()

    def _forget(self) -> None:
        self._cancel_looks()
        if self._out_of_memory is not None:
            self._reactor.forget(self._out_of_memory)
            self._out_of_memory = None
        if self.pidfd >= 0:
            self._reactor.forget(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
