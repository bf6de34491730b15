"""The monitor: one process for each running container, which outlives every application.

It holds the container's lock for as long as it lives, is the parent of the container's first
process, moves its output to the log, answers on attach.sock, and writes down how it ended. It is
forked by the launcher, has one thread and no event loop but poll(2). When it is killed, the
kernel kills the container's init with it, and whoever notices writes the end down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from engine.cgroups.groups import Cgroup, create_group
from engine.cgroups.host import detect_cgroups
from engine.errors import (
    ContainerStateError,
    EngineError,
    OperationInProgressError,
    StartError,
    SyscallError,
)
from engine.linux.process import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    clone_process,
    start_ticks,
    try_lock,
    unlock,
)
from engine.logs.writer import LogWriter
from engine.runtime.exec_session import fork_exec_session
from engine.runtime.init import run_init
from engine.runtime.monitor_calls import CallServer
from engine.runtime.pipes import ProgramPipes
from engine.runtime.program import InheritedDescriptors, wait_for_exec
from engine.runtime.protocol import MonitorCall, MonitorReply, PacketKind, SessionEnd
from engine.runtime.reactor import Deadline, Reactor
from engine.runtime.records import encode_record
from engine.runtime.spec import StateRecord
from engine.runtime.state_file import append_container_event, read_state, write_state
from engine.runtime.streams import ProgramStreams

if TYPE_CHECKING:
    from engine.runtime.spec import ContainerSpec, ExecSpec

LOCK_FILE = "lock"
SOCKET_FILE = "attach.sock"
CONFIG_FILE = "config.json"

_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
_DRAIN_SECONDS = 2.0
_LAST_SEND_SECONDS = 1
_SESSION_PATIENCE_SECONDS = 10.0
"""How long a session that does not read may hold a container with a terminal up."""


class Monitor:
    """One container, from its start to its end."""

    def __init__(self, spec: ContainerSpec, spec_document: bytes) -> None:
        self.spec = spec
        self._spec_document = spec_document
        self.name = spec.name
        self.state = StateRecord()
        self._group: Cgroup | None = None
        self._pidfd = -1
        self._out_of_memory: int | None = None
        self._lock = -1
        self._log: LogWriter | None = None
        self._calls: CallServer | None = None
        self._streams: ProgramStreams | None = None
        self._reactor = Reactor()
        self._is_stopping = False
        self._kill_deadline: Deadline | None = None

    # --- start --------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the lock, make the control group, and start init; returns when the program runs.

        Raises:
            OperationInProgressError: Another monitor holds the lock.
            StartError: The program cannot be started.
            EngineError, OSError: Anything else; `abandon` then cleans up.
        """
        spec = self.spec
        os.makedirs(spec.run_directory, mode=0o700, exist_ok=True)
        path = f"{spec.run_directory}/{LOCK_FILE}"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_lock(lock):
            os.close(lock)
            raise OperationInProgressError(f"starting container {spec.name}")
        self._lock = lock
        self.state = read_state(spec.container_directory)
        _write_config(spec.container_directory, self._spec_document)
        self._spec_document = b""
        self._group = create_group(detect_cgroups(), spec.cgroup)
        self._log = LogWriter(
            spec.log.path, file_bytes=spec.log.file_bytes, file_count=spec.log.file_count
        )
        pipes = ProgramPipes(
            has_terminal=spec.process.has_terminal,
            is_stdin_open=spec.is_stdin_open,
            is_discarded=False,
        )
        process_id, report = self._clone_init(pipes)
        # While init sets the container up, this process makes ready for what comes after.
        self._out_of_memory = self._group.out_of_memory_watch()
        self._calls = CallServer(spec.run_directory, SOCKET_FILE, self._reactor, self._answer)
        self._streams = ProgramStreams(
            self._reactor,
            log=self._log,
            is_input_ended_with_session=spec.is_stdin_closed_with_session,
            # Only a terminal's: what a pipe brings must not be cut short.
            patience_seconds=_SESSION_PATIENCE_SECONDS if spec.process.has_terminal else None,
        )
        running = dataclasses.replace(
            self.state,
            status="running",
            process_id=process_id,
            process_start_ticks=start_ticks(process_id),
            monitor_process_id=os.getpid(),
            monitor_start_ticks=start_ticks(os.getpid()),
            finished_at_ns=0,
            exit_code=-1,
            is_out_of_memory_killed=False,
            error="",
            cgroup_paths=self._group.paths,
            warnings=self._group.warnings,
        )
        wait_for_exec(report)
        pipes.open(self._streams)
        self.state = dataclasses.replace(running, started_at_ns=time.time_ns())
        write_state(spec.container_directory, self.state, is_durable=False)
        # Before the answer: who hears of the start watches over the monitor from then on.
        self.tell("start")

    def _clone_init(self, pipes: ProgramPipes) -> tuple[int, int]:
        """Clone init; returns its process id, and the pipe on which it reports."""
        assert self._group is not None
        report, report_end = os.pipe2(os.O_CLOEXEC)
        descriptors = InheritedDescriptors(
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            terminal=pipes.terminal,
            report=report_end,
            parent=os.pidfd_open(os.getpid()),
            join=self._group.join_descriptors,
        )
        process_id, pidfd = clone_process(_NAMESPACES, cgroup=self._group.unified_descriptor)
        if process_id == 0:
            run_init(self.spec, descriptors)
        self._pidfd = pidfd
        self._reactor.watch(pidfd, self._end)
        self._group.close_join_descriptors()
        pipes.close_theirs()
        os.close(report_end)
        os.close(descriptors.parent)
        return process_id, report

    def abandon(self, error: EngineError | OSError) -> EngineError:
        """Undo a start that failed, write down why, and return the error to answer with.

        The container stays what it was: created, or exited.
        """
        failure = error if isinstance(error, EngineError) else _wrap(error)
        if self._lock < 0:
            return failure
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        if self._group is not None:
            with contextlib.suppress(EngineError, OSError):
                self._group.destroy()
        if self._log is not None:
            self._log.close()
        exit_code = failure.exit_code if isinstance(failure, StartError) else 125
        state = dataclasses.replace(self.state, exit_code=exit_code, error=failure.message)
        with contextlib.suppress(OSError):
            write_state(self.spec.container_directory, state, is_durable=True)
        if self._calls is not None:
            self._calls.close()
        # Whoever is told of the failure may start or remove the container at once.
        unlock(self._lock)
        return failure

    # --- watch --------------------------------------------------------------------------------

    def watch(self) -> None:
        """Move output, answer calls and keep time until the container has ended."""
        assert self._calls is not None
        if self._out_of_memory is not None:
            self._reactor.watch(self._out_of_memory, self._notice_out_of_memory)
        self._calls.listen()
        self._reactor.run()

    def _notice_out_of_memory(self, _events: int) -> None:
        assert self._out_of_memory is not None
        self._reactor.forget(self._out_of_memory)

    def _answer(self, client: int, call: MonitorCall) -> None:
        assert self._calls is not None
        try:
            is_answered = self._do(client, call)
        except (EngineError, OSError) as error:
            failure = error if isinstance(error, EngineError) else _wrap(error)
            self._calls.refuse(client, failure)
            return
        if is_answered:
            self._calls.answer(client, self.state)

    def _do(self, client: int, call: MonitorCall) -> bool:
        """Do what a call asks; False if the answer comes later, or has been given."""
        assert self._calls is not None
        if call.call == "signal":
            self._signal(call.signal)
            if call.signal == signal.SIGKILL:
                self._calls.wait_for_end(client)
                return False
        elif call.call == "stop":
            self._begin_stop(call)
            self._calls.wait_for_end(client)
            return False
        elif call.call == "attach":
            self._attach(client)
            return False
        elif call.call == "exec" and call.exec is not None:
            self._exec(client, call.exec)
            return False
        elif call.call == "pause":
            self._pause()
        elif call.call == "unpause":
            self._unpause()
        elif call.call == "rename":
            self.name = call.name
        elif call.call != "state":
            raise EngineError(
                f"the container's monitor does not know the call {call.call!r}",
                hint="It is older than this program: restart the container",
            )
        return True

    # --- sessions -----------------------------------------------------------------------------

    def _attach(self, client: int) -> None:
        assert self._calls is not None
        assert self._streams is not None
        assert self._log is not None
        self._refuse_if_paused("You cannot attach to a paused container, unpause it first")
        connection = self._calls.hand_over(client)
        reply = MonitorReply(
            state=encode_record(self.state).decode(), answered_at_ns=self._log.last_time_ns
        )
        with contextlib.suppress(OSError):
            connection.send(encode_record(reply), socket.MSG_NOSIGNAL)
        self._streams.join(connection)
        self.tell("attach")

    def _exec(self, client: int, spec: ExecSpec) -> None:
        """Fork the process that runs another program and serves its session."""
        assert self._calls is not None
        assert self._group is not None
        self._refuse_if_paused(
            f"Container {self.spec.container_id} is paused, unpause the container before exec"
        )
        with self._calls.hand_over(client) as connection:
            process_id = fork_exec_session(
                self.spec,
                spec,
                name=self.name,
                state=self.state,
                group=self._group,
                init=self._pidfd,
                connection=connection,
            )
        pidfd = os.pidfd_open(process_id)
        self._reactor.watch(pidfd, functools.partial(self._reap, pidfd))

    def _reap(self, pidfd: int, _events: int) -> None:
        self._reactor.forget(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)

    def _refuse_if_paused(self, message: str) -> None:
        if self.state.status == "paused":
            raise ContainerStateError(
                message,
                container_id=self.spec.container_id,
                status="paused",
                operation="exec",
            )

    # --- signals ------------------------------------------------------------------------------

    def _begin_stop(self, call: MonitorCall) -> None:
        self._is_stopping = True
        if self._kill_deadline is not None:
            self._kill_deadline.cancel()
        if call.timeout_seconds == 0:
            self._kill()
            return
        if call.timeout_seconds > 0:
            self._kill_deadline = self._reactor.after(call.timeout_seconds, self._kill)
        self._signal(call.signal)
        self._thaw_if_paused()

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return
        self.tell("kill", signal=str(int(number)))
        if number in {signal.SIGKILL, self.spec.stop_signal}:
            # A frozen process does not see the signal; on v1 not even SIGKILL.
            self._thaw_if_paused()

    def _pause(self) -> None:
        assert self._group is not None
        if self.state.status == "paused":
            raise ContainerStateError(
                f"Container {self.spec.container_id} is already paused",
                container_id=self.spec.container_id,
                status="paused",
                operation="pause",
            )
        self._group.freeze()
        self._change(status="paused")
        self.tell("pause")

    def _unpause(self) -> None:
        assert self._group is not None
        if self.state.status != "paused":
            raise ContainerStateError(
                f"Container {self.spec.container_id} is not paused",
                container_id=self.spec.container_id,
                status=self.state.status,
                operation="unpause",
            )
        self._group.thaw()
        self._change(status="running")
        self.tell("unpause")

    def _thaw_if_paused(self) -> None:
        if self.state.status == "paused":
            self._unpause()

    def _change(self, *, status: str) -> None:
        self.state = dataclasses.replace(self.state, status=status)
        with contextlib.suppress(OSError):
            # A full disk must not keep a container from being paused or let go on.
            write_state(self.spec.container_directory, self.state, is_durable=False)

    # --- end ----------------------------------------------------------------------------------

    def _end(self, _events: int) -> None:
        """Collect the exit status, drain the log, clean up, and write everything down."""
        assert self._group is not None
        assert self._log is not None
        assert self._calls is not None
        assert self._streams is not None
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        is_exit = result.si_code == os.CLD_EXITED
        exit_code = result.si_status if is_exit else 128 + result.si_status
        self._streams.drain(_DRAIN_SECONDS, send_seconds=_LAST_SEND_SECONDS)
        self._log.close()
        warnings = self.state.warnings
        is_out_of_memory = False
        try:
            is_out_of_memory = self._group.out_of_memory_kills() > 0
            self._group.destroy()
        except (EngineError, OSError) as error:
            warnings = (*warnings, f"control group not removed: {error}")
        self.state = dataclasses.replace(
            self.state,
            status="exited",
            process_id=0,
            process_start_ticks=0,
            monitor_process_id=0,
            monitor_start_ticks=0,
            finished_at_ns=time.time_ns(),
            exit_code=exit_code,
            is_out_of_memory_killed=is_out_of_memory,
            cgroup_paths=(),
            warnings=warnings,
        )
        self._write_end()
        # Whoever is told of the end may start the container again at once.
        self._calls.close()
        unlock(self._lock)
        lasted = (self.state.finished_at_ns - self.state.started_at_ns) // 10**9
        if is_out_of_memory:
            self.tell("oom")
        self.tell("die", exitCode=str(exit_code), execDuration=str(lasted))
        if self._is_stopping:
            self.tell("stop")
        self._calls.end(self.state)
        self._streams.close(PacketKind.END + encode_record(SessionEnd(exit_code=exit_code)))
        self._reactor.stop()

    def _write_end(self) -> None:
        """Write the end down, waiting out a full disk: nobody else knows the exit code."""
        while True:
            try:
                write_state(self.spec.container_directory, self.state, is_durable=True)
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    return
                # Nothing tells when a person has made room: look again now and then.
                time.sleep(1.0)
            else:
                return

    def tell(self, action: str, **attributes: str) -> None:
        """Append an event about the container to the store's log."""
        append_container_event(
            self.spec.events_path,
            action,
            container_id=self.spec.container_id,
            name=self.name,
            attributes={"image": self.spec.image, **attributes},
            labels=self.spec.labels,
        )


def _write_config(directory: str, document: bytes) -> None:
    path = f"{directory}/{CONFIG_FILE}"
    with open(f"{path}.tmp", "wb") as config:
        config.write(document)
    os.rename(f"{path}.tmp", path)


def _wrap(error: OSError) -> EngineError:
    return SyscallError(
        "start", error.errno or 0, str(error.filename or ""), hint="See `lamella info`"
    )
