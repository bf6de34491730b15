"""A program that is run in a container besides its own: a process for it, forked by the monitor.

It is the program's parent, has its terminal or its pipes, serves its session on the connection
that asked for it, and ends with it. It enters nothing of the container but its pid namespace,
and that only for its child; the child enters the rest and becomes the program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from engine.errors import EngineError, SyscallError
from engine.linux.capabilities import read_capabilities
from engine.linux.files import open_beneath
from engine.linux.process import (
    CLONE_NEWPID,
    clone_process,
    close_other_descriptors,
    enter_namespaces,
    set_process_name,
)
from engine.linux.terminal import open_terminal, send_terminal, set_terminal_size
from engine.runtime.namespaces import HOST, entered_namespaces
from engine.runtime.pipes import ProgramPipes
from engine.runtime.program import (
    InheritedDescriptors,
    Step,
    die_with,
    execute,
    find_user,
    join_groups,
    run_to_exec,
    wait_for_exec,
)
from engine.runtime.protocol import MonitorReply, PacketKind, SessionEnd, describe_error
from engine.runtime.reactor import Reactor
from engine.runtime.records import encode_record
from engine.runtime.resource_limits import set_oom_score
from engine.runtime.state_file import append_container_event
from engine.runtime.streams import ProgramStreams

if TYPE_CHECKING:
    from engine.cgroups.groups import Cgroup
    from engine.runtime.spec import ContainerSpec, ExecSpec, ProcessSpec, StateRecord


def fork_exec_session(
    container: ContainerSpec,
    spec: ExecSpec,
    *,
    name: str,
    state: StateRecord,
    group: Cgroup,
    init: int,
    connection: socket.socket,
) -> int:
    """Fork the process that runs another program in a container; returns its id.

    It answers on the connection with a MonitorReply, and goes on with session packets unless the
    program is detached.

    Args:
        container: The container's own spec.
        spec: The program.
        name: The container's name now.
        state: What the container's state is, for the answer.
        group: Its control group.
        init: A pidfd of its first process.
        connection: Who asked.

    Raises:
        OSError: No process can be had.
    """
    process_id = os.fork()
    if process_id == 0:
        try:
            _ExecSession(container, spec, name, state, group, init, connection).run()
        finally:
            os._exit(1)
    return process_id


class _ExecSession:
    """One program and its session, in a process of their own."""

    def __init__(
        self,
        container: ContainerSpec,
        spec: ExecSpec,
        name: str,
        state: StateRecord,
        group: Cgroup,
        init: int,
        connection: socket.socket,
    ) -> None:
        self._container = container
        self._spec = spec
        self._name = name
        self._state = state
        self._group = group
        self._init = init
        self._connection = connection
        self._reactor = Reactor()
        self._streams = ProgramStreams(
            self._reactor, is_input_ended_with_session=True, is_hung_up_with_session=True
        )
        self._pipes: ProgramPipes | None = None
        self._report = -1
        self._pidfd = -1

    def run(self) -> NoReturn:
        os.setsid()
        set_process_name("lamella-exec")
        close_other_descriptors({self._init, self._connection.fileno()})
        self._group.forget_descriptors()
        command = " ".join(self._spec.arguments)
        # A collection in the middle of it would take its time and touch pages that are shared.
        gc.disable()
        try:
            self._clone()
            # While the child is on its way to the program.
            self._tell(f"exec_create: {command}")
            reply = MonitorReply(state=encode_record(self._state).decode())
            self._await_program()
        except (EngineError, OSError) as error:
            failure = error if isinstance(error, EngineError) else _wrap(error)
            self._reply(MonitorReply(error=describe_error(failure)))
            os._exit(1)
        self._tell(f"exec_start: {command}")
        self._reply(reply)
        gc.enable()
        if self._spec.is_detached:
            self._connection.close()
        else:
            self._streams.join(self._connection)
        self._reactor.watch(self._pidfd, self._end)
        self._reactor.run()
        os._exit(0)

    def _clone(self) -> None:
        spec = self._spec
        pipes = self._pipes = ProgramPipes(
            has_terminal=spec.has_terminal,
            is_stdin_open=spec.is_stdin_open,
            is_discarded=spec.is_detached,
        )
        self._report, report_end = os.pipe2(os.O_CLOEXEC)
        if self._container.namespaces.pid != HOST:
            enter_namespaces(self._init, CLONE_NEWPID)
        descriptors = InheritedDescriptors(
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            terminal=pipes.terminal,
            report=report_end,
            parent=os.pidfd_open(os.getpid()),
            join=self._group.join_descriptors,
        )
        process_id, self._pidfd = clone_process(0, cgroup=self._group.unified_descriptor)
        if process_id == 0:
            run_to_exec(lambda step: self._enter(descriptors, step), report_end)
        self._group.close_join_descriptors()
        pipes.close_theirs()
        os.close(report_end)

    def _await_program(self) -> None:
        assert self._pipes is not None
        try:
            wait_for_exec(self._report)
        except (EngineError, OSError):
            # As long as it is a zombie the container's pid namespace cannot end, and whoever
            # adopts it may take its time.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            raise
        self._streams.open(self._pipes.take_ends())

    def _enter(self, descriptors: InheritedDescriptors, step: Step) -> NoReturn:
        """Become the program: in the child."""
        process = self._process()
        step.name = "session"
        os.setsid()
        die_with(descriptors.parent)
        step.name = "cgroup"
        join_groups(descriptors.join)
        set_oom_score(process.oom_score_adjustment)
        step.name = "namespaces"
        # From now on a module can only come from the container: there must be none to load.
        sys.meta_path.clear()
        enter_namespaces(self._init, entered_namespaces(self._container.namespaces))
        streams = (descriptors.stdin, descriptors.stdout, descriptors.stderr)
        if process.has_terminal:
            step.name = "terminal"
            streams = (self._open_terminal(descriptors.terminal),) * 3
        step.name = "user"
        user = find_user(process)
        step.name = "exec"
        execute(process, user, streams, parent=descriptors.parent)

    def _open_terminal(self, channel: int) -> int:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Without links: the container may have put anything there.
        terminals = open_beneath(root, b"dev/pts", os.O_PATH | os.O_DIRECTORY)
        terminal = open_terminal(terminals)
        os.close(terminals)
        os.close(root)
        set_terminal_size(terminal.master, *self._spec.terminal_size)
        send_terminal(channel, terminal.master)
        return terminal.slave

    def _process(self) -> ProcessSpec:
        spec = self._spec
        process = dataclasses.replace(
            self._container.process,
            arguments=spec.arguments,
            environment=spec.environment,
            working_directory=spec.working_directory,
            user=spec.user,
            has_terminal=spec.has_terminal,
            has_init=False,
        )
        if not spec.is_privileged:
            return process
        own = read_capabilities()
        return dataclasses.replace(
            process,
            capabilities=tuple(own.bounding & own.permitted),
            seccomp_filter="",
            has_no_new_privileges=False,
        )

    def _end(self, _events: int) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        is_exit = result.si_code == os.CLD_EXITED
        exit_code = result.si_status if is_exit else 128 + result.si_status
        # What the program wrote is in the pipes by now; one that it left behind may hold them.
        self._streams.drain(0, send_seconds=None)
        self._tell("exec_die", exitCode=str(exit_code))
        self._streams.close(PacketKind.END + encode_record(SessionEnd(exit_code=exit_code)))
        self._reactor.stop()

    def _reply(self, reply: MonitorReply) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(encode_record(reply), socket.MSG_NOSIGNAL)

    def _tell(self, action: str, **attributes: str) -> None:
        append_container_event(
            self._container.events_path,
            action,
            container_id=self._container.container_id,
            name=self._name,
            attributes={
                "image": self._container.image,
                "execID": self._spec.exec_id,
                **attributes,
            },
        )


def _wrap(error: OSError) -> EngineError:
    return SyscallError("exec", error.errno or 0, str(error.filename or ""))
