"""The starter: a child of the monitor for the time of one start.

A start reads, makes and writes much that is never wanted again, and a fork pays for each page that
it writes to. So a monitor has a child do it: the starter clones init as the monitor's child, hands
over what keeps the program, and ends. The monitor stays as small as it was forked. The kernel
kills the starter with its monitor, as it does the container.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, NoReturn

from engine.cgroups.groups import create_group
from engine.cgroups.host import detect_cgroups
from engine.errors import (
    EngineError,
    OperationInProgressError,
    StartError,
    SyscallError,
)
from engine.late_dataclasses import dataclass
from engine.linux.process import (
    CLONE_NEWNET,
    clone_process,
    close_other_descriptors,
    enter_namespaces,
    set_process_name,
    start_ticks,
    try_lock,
    unlock,
)
from engine.runtime.handover import (
    Handover,
    KeptNetwork,
    ReceivedHandover,
    receive_handover,
    send_failure,
    send_handover,
)
from engine.runtime.health import HealthRecord
from engine.runtime.init import run_init
from engine.runtime.journal import ContainerJournal, write_config
from engine.runtime.monitor_calls import bind_calls, unbind_calls
from engine.runtime.name_sockets import open_name_sockets
from engine.runtime.namespaces import (
    PRIVATE,
    children_join,
    join_network,
    new_namespaces,
    open_owner,
)
from engine.runtime.network import HostNetwork, enter_new_network, open_own_namespace
from engine.runtime.network_view import forget_container
from engine.runtime.pipes import ProgramPipes
from engine.runtime.program import InheritedDescriptors, die_with, wait_for_exec
from engine.runtime.protocol import FrameKind, send_error, send_frame
from engine.runtime.records import RecordDocument
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.runtime.state_file import read_boot_id, read_state
from engine.runtime.user_network import PendingUserNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.runtime.pipes import ProgramEnds

LOCK_FILE = "lock"
_NOTHING_KEPT = KeptNetwork()
STARTER_NAME = "lamella-starter"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEnd:
    """What a starter has of its monitor.

    Attributes:
        process_id: The monitor's.
        pidfd: Of the same.
        channel: Takes the handover.
    """

    process_id: int
    pidfd: int
    channel: socket.socket


class Starter:
    """The process that makes a start, as its monitor has it."""

    def __init__(self, channel: socket.socket, process_id: int) -> None:
        self._channel = channel
        self._process_id = process_id
        self._is_reaped = False

    @classmethod
    def fork(cls, start: Callable[[MonitorEnd], NoReturn]) -> Starter:
        """Fork the process; `start` is what it does.

        Raises:
            OSError: No process can be had.
        """
        monitor = os.getpid()
        pidfd = os.pidfd_open(monitor)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process_id = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            os.close(pidfd)
            raise
        if process_id == 0:
            try:
                ours.close()
                set_process_name(STARTER_NAME)
                die_with(pidfd)
                start(MonitorEnd(process_id=monitor, pidfd=pidfd, channel=theirs))
            finally:
                os._exit(1)
        theirs.close()
        os.close(pidfd)
        return cls(ours, process_id)

    def receive(self) -> ReceivedHandover | None:
        """Wait for what it hands over; None if it has ended without a word. Blocking.

        Raises:
            EngineError: Why there is nothing to hand over.
        """
        return receive_handover(self._channel)

    def let_go(self) -> None:
        """Let it end, which it does not before; `reap` waits for that."""
        self._channel.close()

    def reap(self) -> None:
        """Let it end and wait for it, for under a millisecond; a second time does nothing."""
        self.let_go()
        if not self._is_reaped:
            os.waitpid(self._process_id, 0)
            self._is_reaped = True


# --- in the starter ---------------------------------------------------------------------------


def start_container(
    spec_document: bytes,
    answer: socket.socket,
    reservation: Sequence[int],
    monitor: MonitorEnd,
    *,
    host: HostNetwork | None = None,
) -> NoReturn:
    """Start a container's program, as a person asks; never returns.

    A failure is written down here, and the monitor told nothing: it has no container then.

    Args:
        spec_document: A ContainerSpec as JSON.
        answer: Answers once: RESULT with the StateRecord, or ERROR.
        reservation: A descriptor that keeps the container's published ports, or none.
        monitor: Who keeps the program.
        host: Leads to the host, when this process is in a new network namespace already.
    """
    try:
        spec = RecordDocument(ContainerSpec, spec_document)
        handover = _start_first(spec, monitor, host, reservation=next(iter(reservation), -1))
    except BaseException as error:  # the last place that could tell of it
        with contextlib.suppress(BaseException):
            send_error(answer, error)
        os._exit(1)
    with contextlib.suppress(OSError):
        # The application may be gone already; the container runs all the same. It hears first:
        # with the handover lost the container is, and that is seen by its monitor's end.
        send_frame(answer, FrameKind.RESULT, handover.state)
    _hand_over(handover, monitor)


def start_again(
    spec: RecordDocument[ContainerSpec],
    journal: ContainerJournal,
    network_namespace: int,
    monitor: MonitorEnd,
) -> NoReturn:
    """Start a container's program once more, as its restart policy wants; never returns.

    The monitor is told of a failure, and writes it down.

    Args:
        spec: The container's.
        journal: The container's.
        network_namespace: A descriptor of that of the run before, with all that is in it; -1 if
            the container has none of its own.
        monitor: Who keeps the program.
    """
    try:
        if network_namespace >= 0:
            enter_namespaces(network_namespace, CLONE_NEWNET)
        else:
            join_network(spec.record.namespaces)
        handover = _start(spec, journal, monitor, restart_count=journal.state.restart_count)
    except (EngineError, OSError) as error:
        with contextlib.suppress(ConnectionError):
            send_failure(monitor.channel, describe_start_failure(error))
        os._exit(1)
    _hand_over(handover, monitor)


def _hand_over(handover: Handover, monitor: MonitorEnd) -> NoReturn:
    with contextlib.suppress(ConnectionError):
        send_handover(monitor.channel, handover)
        # To end takes the processor for as long as the monitor needs to take over. It says when.
        close_other_descriptors({monitor.channel.fileno()})
        monitor.channel.recv(1)
    os._exit(0)


def describe_start_failure(error: EngineError | OSError) -> EngineError:
    """An error of a start as a person is to see it."""
    if isinstance(error, EngineError):
        return error
    return SyscallError(
        "start", error.errno or 0, str(error.filename or ""), hint="See `lamella info`"
    )


def _start_first(
    spec: RecordDocument[ContainerSpec],
    monitor: MonitorEnd,
    host: HostNetwork | None,
    *,
    reservation: int,
) -> Handover:
    """Take the lock and start.

    The container stays what it was, created or exited, if it cannot be started.

    Raises:
        OperationInProgressError: Another monitor holds the lock.
        EngineError: Anything else; it is written down.
    """
    lock = take_lock(spec.record.run_directory, f"starting container {spec.record.name}")
    before = StateRecord()
    journal = ContainerJournal(spec, RecordDocument.of(before))
    try:
        before = read_state(spec.record.container_directory)
        journal = ContainerJournal(spec, RecordDocument.of(before))
        namespaces = spec.record.namespaces
        way_out: PendingUserNetwork | None = None
        if host is None:
            host = HostNetwork()
            if spec.record.network.user_network:
                way_out = PendingUserNetwork(monitor.pidfd)
            if namespaces.network == PRIVATE:
                enter_new_network()
            else:
                join_network(namespaces)
        # A start that takes up what a killed monitor left counts as one of the policy's.
        count = before.restart_count if before.awaits_restart else 0
        network = spec.record.network
        host.attach(spec.record.container_id, network)
        try:
            kept = _keep_network(spec.record, reservation, way_out)
            return _start(spec, journal, monitor, restart_count=count, lock=lock, kept=kept)
        except BaseException:
            host.remove_rules(spec.record.container_id, network)
            raise
    except (EngineError, OSError) as error:
        failure = describe_start_failure(error)
        exit_code = failure.exit_code if isinstance(failure, StartError) else 125
        journal.fail(
            dataclasses.replace(
                before,
                exit_code=exit_code,
                error=failure.message,
                boot_id=read_boot_id(),
                awaits_restart=False,
            )
        )
        forget_container(spec.record.run_directory, spec.record.container_id)
        # Whoever is told of the failure may start or remove the container at once.
        unlock(lock)
        raise failure from None


def take_lock(run_directory: str, what: str) -> int:
    """Take the lock that proves life; returns its descriptor.

    Args:
        run_directory: Made if it is missing.
        what: What is in progress if somebody else has the lock.

    Raises:
        OperationInProgressError: Somebody has.
    """
    os.makedirs(run_directory, mode=0o700, exist_ok=True)
    path = f"{run_directory}/{LOCK_FILE}"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(lock):
        os.close(lock)
        raise OperationInProgressError(what)
    return lock


def _start(
    spec: RecordDocument[ContainerSpec],
    journal: ContainerJournal,
    monitor: MonitorEnd,
    *,
    restart_count: int,
    lock: int = -1,
    kept: KeptNetwork = _NOTHING_KEPT,
) -> Handover:
    """Start the program, and let everybody know.

    With a lock it is the monitor's first, and needs its socket of calls and its config.json too.
    """
    start = _ProgramStart(spec.record, monitor)
    listener = -1
    try:
        start.clone()
        # While init sets the container up, this process makes ready for what comes after.
        if lock >= 0:
            listener = bind_calls(spec.record.run_directory).detach()
            write_config(spec.record.container_directory, spec.document)
        running = start.describe(journal.state, restart_count=restart_count)
        ends = start.await_program()
        journal.begin(dataclasses.replace(running, started_at_ns=time.time_ns()))
        # Before the answer: who hears of the start watches over the monitor from then on.
        journal.tell_volumes("mount")
        journal.tell_networks("connect", running.network)
        journal.tell("start")
        log = spec.record.log
        return Handover(
            process_id=start.process_id,
            pidfd=start.pidfd,
            ends=ends,
            out_of_memory=start.out_of_memory_watch(),
            cgroup_paths=running.cgroup_paths,
            network=kept,
            lock=lock,
            listener=listener,
            log_path=log.path,
            log_file_bytes=log.file_bytes,
            log_file_count=log.file_count,
            is_stdin_closed_with_session=spec.record.is_stdin_closed_with_session,
            has_health_check=spec.record.health is not None,
            is_urgent=spec.record.network.needs_server,
            spec=spec.document,
            state=journal.state_document,
        )
    except BaseException:
        if listener >= 0:
            unbind_calls(spec.record.run_directory)
            os.close(listener)
        start.abandon()
        raise


def _keep_network(
    spec: ContainerSpec, reservation: int, way_out: PendingUserNetwork | None
) -> KeptNetwork:
    """What keeps the container's network until the next run.

    Raises:
        StartError: An ordinary user's way out does not come up.
        EngineError: Or its device gets no address.
        OSError: No descriptor is to be had.
    """
    if spec.namespaces.network != PRIVATE:
        return KeptNetwork(reservation=reservation)
    names = open_name_sockets() if spec.network.has_names else None
    namespace = open_own_namespace()
    return KeptNetwork(
        namespace=namespace,
        user_network=way_out.start(spec.network, namespace) if way_out is not None else -1,
        reservation=reservation,
        name_datagrams=names[0].detach() if names else -1,
        name_listener=names[1].detach() if names else -1,
    )


class _ProgramStart:
    """A control group, and a first process on its way to the program."""

    def __init__(self, spec: ContainerSpec, monitor: MonitorEnd) -> None:
        """Make the control group.

        Raises:
            EngineError, OSError: Nothing is left.
        """
        self._spec = spec
        self._monitor = monitor
        self._report = -1
        self._group = create_group(detect_cgroups(), spec.cgroup)
        self._pipes: ProgramPipes | None = None
        self.process_id = 0
        self.pidfd = -1

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
            parent=self._monitor.pidfd,
            join=self._group.join_descriptors,
        )
        namespaces = self._spec.namespaces
        ipc_owner = open_owner(namespaces.ipc) if namespaces.joins_ipc else -1
        with children_join(namespaces):
            self.process_id, self.pidfd = clone_process(
                new_namespaces(namespaces),
                cgroup=self._group.unified_descriptor,
                is_sibling=True,
            )
            if self.process_id == 0:
                run_init(self._spec, descriptors, ipc_owner=ipc_owner)
        if ipc_owner >= 0:
            os.close(ipc_owner)
        self._group.close_join_descriptors()
        pipes.close_theirs()
        os.close(report_end)

    def describe(self, before: StateRecord, *, restart_count: int) -> StateRecord:
        """The state of the container when its program runs, but for the moment."""
        health = before.health or HealthRecord()
        return dataclasses.replace(
            before,
            status="running",
            process_id=self.process_id,
            process_start_ticks=start_ticks(self.process_id),
            monitor_process_id=self._monitor.process_id,
            monitor_start_ticks=start_ticks(self._monitor.process_id),
            finished_at_ns=0,
            exit_code=-1,
            is_out_of_memory_killed=False,
            error="",
            cgroup_paths=self._group.paths,
            warnings=(*self._spec.warnings, *self._group.warnings),
            boot_id=read_boot_id(),
            restart_count=restart_count,
            next_start_at_ns=0,
            is_stopped_by_person=False,
            awaits_restart=False,
            network=self._spec.network,
            health=HealthRecord(results=health.results) if self._spec.health else None,
        )

    def await_program(self) -> ProgramEnds:
        """Return our ends of the streams when the program runs.

        Raises:
            StartError: It cannot be started.
        """
        assert self._pipes is not None
        wait_for_exec(self._report)
        return self._pipes.take_ends()

    def out_of_memory_watch(self) -> int:
        """A descriptor that gets readable when the memory limit may have killed; -1 without."""
        descriptor = self._group.out_of_memory_watch()
        return -1 if descriptor is None else descriptor

    def abandon(self) -> None:
        """Undo what was made; only the monitor can reap the process."""
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            ended = select.poll()
            ended.register(self.pidfd, select.POLLIN)
            ended.poll()
        with contextlib.suppress(EngineError, OSError):
            self._group.destroy()
