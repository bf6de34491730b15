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
import fcntl
import os
import select
import signal
import time

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
from engine.runtime.init import InitDescriptors, run_init
from engine.runtime.monitor_calls import CallServer, PendingStop
from engine.runtime.protocol import (
    InitFailure,
    MonitorCall,
)
from engine.runtime.records import decode_record
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.runtime.state_file import append_container_event, read_state, write_state

LOCK_FILE = "lock"
SOCKET_FILE = "attach.sock"
CONFIG_FILE = "config.json"

_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
# As much as the allocator keeps at hand: larger buffers are mapped and unmapped at every read.
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_DRAIN_SECONDS = 2.0


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
        self._streams: dict[int, str] = {}
        self._log: LogWriter | None = None
        self._calls: CallServer | None = None
        self._poll = select.poll()
        self._stop: PendingStop | None = None

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
        process_id, report = self._start_init()
        # While init sets the container up, this process makes ready for what comes after.
        self._out_of_memory = self._group.out_of_memory_watch()
        self._calls = CallServer(spec.run_directory, SOCKET_FILE, self._poll)
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
        _wait_for_exec(report)
        self.state = dataclasses.replace(running, started_at_ns=time.time_ns())
        write_state(spec.container_directory, self.state, is_durable=False)

    def _start_init(self) -> tuple[int, int]:
        """Clone init; returns its process id, and the pipe on which it reports."""
        assert self._group is not None
        report, report_end = os.pipe2(os.O_CLOEXEC)
        output, output_end = os.pipe2(os.O_CLOEXEC)
        errors, errors_end = os.pipe2(os.O_CLOEXEC)
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        descriptors = InitDescriptors(
            stdin=stdin,
            stdout=output_end,
            stderr=errors_end,
            report=report_end,
            monitor=os.pidfd_open(os.getpid()),
            join=self._group.join_descriptors,
        )
        process_id, pidfd = clone_process(_NAMESPACES, cgroup=self._group.unified_descriptor)
        if process_id == 0:
            run_init(self.spec, descriptors)
        self._pidfd = pidfd
        self._group.close_join_descriptors()
        for descriptor in (
            stdin,
            output_end,
            errors_end,
            report_end,
            descriptors.monitor,
        ):
            os.close(descriptor)
        self._streams = {output: "stdout", errors: "stderr"}
        for descriptor in self._streams:
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                _set_pipe_size(descriptor)
            self._poll.register(descriptor, select.POLLIN)
        self._poll.register(pidfd, select.POLLIN)
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
            self._poll.register(self._out_of_memory, select.POLLIN)
        self._calls.listen()
        while True:
            wait_milliseconds = None
            if self._stop is not None and self._stop.deadline is not None:
                left = self._stop.deadline - time.monotonic()
                if left <= 0:
                    self._stop.deadline = None
                    self._kill()
                else:
                    wait_milliseconds = left * 1000
            for descriptor, _events in self._poll.poll(wait_milliseconds):
                if descriptor in self._streams:
                    self._move_output(descriptor)
                elif descriptor == self._pidfd:
                    self._end()
                    return
                elif descriptor == self._out_of_memory:
                    self._poll.unregister(descriptor)
                elif (call := self._calls.receive(descriptor)) is not None:
                    self._answer(descriptor, call)

    def _move_output(self, descriptor: int) -> bool:
        """Read once from a pipe into the log; False at its end or when it is empty."""
        assert self._log is not None
        try:
            chunk = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if chunk:
            self._log.write(self._streams[descriptor], chunk)
            return True
        self._poll.unregister(descriptor)
        del self._streams[descriptor]
        os.close(descriptor)
        return False

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
        """Do what a call asks; False if the answer comes later."""
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

    def _begin_stop(self, call: MonitorCall) -> None:
        if call.timeout_seconds == 0:
            self._stop = PendingStop(deadline=None)
            self._kill()
            return
        deadline = None if call.timeout_seconds < 0 else time.monotonic() + call.timeout_seconds
        self._stop = PendingStop(deadline=deadline)
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

    def _end(self) -> None:
        """Collect the exit status, drain the log, clean up, and write everything down."""
        assert self._group is not None
        assert self._log is not None
        assert self._calls is not None
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        is_exit = result.si_code == os.CLD_EXITED
        exit_code = result.si_status if is_exit else 128 + result.si_status
        self._drain()
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
        if self._stop is not None:
            self.tell("stop")
        self._calls.end(self.state)

    def _drain(self) -> None:
        """Take what is left in the pipes.

        All processes of the container have ended with its first one, so end of file is near;
        the deadline is for a descriptor that was passed out of the container.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._streams and time.monotonic() < deadline:
            waiting = select.poll()
            for descriptor in self._streams:
                waiting.register(descriptor, select.POLLIN)
            for descriptor, _events in waiting.poll(_DRAIN_SECONDS * 1000):
                while self._move_output(descriptor):
                    pass

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


def _wait_for_exec(report: int) -> None:
    """Return when init's report has ended, which its exec does.

    Raises:
        StartError: Init reported that the program cannot be started.
    """
    failure = b""
    while chunk := os.read(report, 65536):
        failure += chunk
    os.close(report)
    if failure:
        told = decode_record(InitFailure, failure)
        raise StartError(told.message, exit_code=told.exit_code, step=told.step)


def _set_pipe_size(descriptor: int) -> None:
    fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


def _wrap(error: OSError) -> EngineError:
    return SyscallError(
        "start", error.errno or 0, str(error.filename or ""), hint="See `lamella info`"
    )
