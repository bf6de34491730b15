"""A lane of a build: one process that runs program after program, each in a container of its own.

A container has a monitor because it outlives the application. A step of a build does not: when the
application goes away, so must whatever it runs. So a lane is a fork of the launcher that clones
the first process of one step after the other as its own child, and ends with its channel; the
kernel kills a step with its lane. Network namespace, addresses and rules are the lane's and made
once, and so is the control group; mounts and the other namespaces are each step's own.

A lane can be there before there is a build for it, so addresses and rules come by themselves.
While a step runs, the first process of the next one is born and mounts what all steps have alike,
so that what is left to do for a step is its root and its program.

Down: ATTACH with a NetworkSpec; START with a StepSpec and the ends of its pipes. Up: RESULT once
the lane is ready and when it is attached; for each step PROGRESS when its program runs, then
RESULT with a StepEnd. ERROR in the place of any RESULT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from engine.cgroups.groups import create_group
from engine.cgroups.host import detect_cgroups
from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from engine.linux.capabilities import capability_number
from engine.linux.process import clone_process, set_process_name
from engine.runtime.init import become_prepared, prepare_kernel, settle_in
from engine.runtime.namespaces import PRIVATE, new_namespaces
from engine.runtime.network import HostNetwork, enter_new_network, open_own_namespace
from engine.runtime.program import InheritedDescriptors, run_to_exec, wait_for_exec
from engine.runtime.protocol import FrameKind, receive_frame, send_error, send_frame
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import ContainerSpec, FileMount, MountSpec, NetworkSpec, RootfsSpec
from engine.runtime.starter import describe_start_failure, take_lock
from engine.runtime.user_network import PendingUserNetwork

if TYPE_CHECKING:
    from engine.runtime.program import Step

LANE_NAME = "lamella-lane"
_PLACE_NAME = "prepared"
_MAKES_DEVICES = capability_number("MKNOD")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """What a step has for itself; everything else is as the lane's ContainerSpec says.

    Attributes:
        arguments: As in ProcessSpec, like the next three.
        mounts: Attached over what is hidden of /proc and /sys.
        file_mounts: As in ContainerSpec.
        is_last: The lane runs nothing after it, as far as is known.
    """

    rootfs: RootfsSpec
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    user: str
    mounts: tuple[MountSpec, ...] = ()
    file_mounts: tuple[FileMount, ...] = ()
    is_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """How a step's program ended.

    Attributes:
        exit_code: 0-255; 128 and the signal's number after a signal.
        is_out_of_memory_killed: The kernel killed a process of it for want of memory.
        warnings: What could not be had, or not be cleaned up.
    """

    exit_code: int
    is_out_of_memory_killed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _WaitingInit:
    """The first process of the next step.

    Attributes:
        channel: Takes the step.
        report: Tells when its program runs, or why not.
        pidfd: Of the process.
    """

    channel: socket.socket
    report: int
    pidfd: int


NO_ROOT = RootfsSpec(
    kind="overlay",
    lowers=(),
    upper="",
    work="",
    mount_point="",
    uses_user_xattrs=False,
    is_read_only=False,
)
"""Of a lane: each step comes with its own."""
_REHEARSAL = encode_record(
    StepSpec(
        rootfs=dataclasses.replace(NO_ROOT, lowers=("",)),
        arguments=("",),
        environment=("",),
        working_directory="",
        user="",
        file_mounts=(FileMount(source="", target="", is_read_only=False),),
    )
)


class StepCancelledError(Exception):
    """The application has gone, or does not want the step any more."""


def run_lane(document: bytes, channel: socket.socket) -> NoReturn:
    """Serve one lane in this fork of the launcher until its channel ends; never returns."""
    try:
        set_process_name(LANE_NAME)
        os.setsid()
        # Who ignores this cannot wait for children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.umask(0o077)
        lane = BuildLane(decode_record(ContainerSpec, document), channel)
        try:
            send_frame(channel, FrameKind.RESULT, b"{}")
            lane.serve()
        finally:
            lane.close()
    except BaseException as error:  # the last place that could tell of it
        with contextlib.suppress(BaseException):
            send_error(channel, error)
        os._exit(1)
    os._exit(0)


class BuildLane:
    """The process's own side: its lock, its network, and the step that runs."""

    def __init__(self, spec: ContainerSpec, channel: socket.socket) -> None:
        """Take the lock, and enter a network namespace that leads nowhere yet.

        Args:
            spec: Of whatever runs in it, but for root, program and mounts, and for the network,
                of which a way out counts that it may want. Its id is what rules and control
                groups are called, its run directory holds the lock.
            channel: To the engine.

        Raises:
            EngineError: It cannot be had.
            OSError: As above.
        """
        self._channel = channel
        self._pidfd = os.pidfd_open(os.getpid())
        # Held until the process ends.
        take_lock(spec.run_directory, "a build")
        # One for all steps: they have the same limits, and one ends before the next begins.
        self._group = create_group(detect_cgroups(), spec.cgroup)
        self._spec = spec if self._group.filters_devices else without_device_nodes(spec)
        self._place = os.path.join(spec.run_directory, _PLACE_NAME)
        os.mkdir(self._place, 0o700)
        self._next: _WaitingInit | None = None
        self._mount_table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._host = HostNetwork()
        self._network = NetworkSpec()
        self._way_out: PendingUserNetwork | None = None
        if spec.namespaces.network == PRIVATE:
            if spec.network.user_network:
                # There is no way back for it later; a build may not want it.
                self._way_out = PendingUserNetwork(self._pidfd, is_sibling=False)
            enter_new_network()

    def close(self) -> None:
        """Take group and rules away; the rest goes with the process."""
        if self._next is not None:
            self._dismiss(self._next)
        with contextlib.suppress(EngineError, OSError):
            self._group.destroy()
        with contextlib.suppress(EngineError, OSError):
            self._host.remove_rules(self._spec.container_id, self._network)

    def serve(self) -> None:
        """Do what is asked for until the channel ends."""
        self._next = self._clone()
        while (frame := self._receive()) is not None:
            kind, document, descriptors = frame
            answer = b"{}"
            try:
                if kind is FrameKind.ATTACH:
                    self._attach(decode_record(NetworkSpec, document))
                else:
                    answer = encode_record(self._run(document, descriptors))
            except StepCancelledError:
                return
            except (EngineError, OSError) as error:
                send_error(self._channel, describe_start_failure(error))
            else:
                send_frame(self._channel, FrameKind.RESULT, answer)

    def _receive(self) -> tuple[FrameKind, bytes, list[int]] | None:
        """The next request; meanwhile nobody keeps mounts that the host has not any more."""
        events = select.poll()
        events.register(self._channel, select.POLLIN)
        # That has to be asked for: POLLERR, which says the same, comes unasked.
        events.register(self._mount_table, select.POLLPRI)
        while True:
            ready = {descriptor for descriptor, _events in events.poll()}
            if self._mount_table in ready and self._next is not None:
                # What was mounted on the host since it was born may not have come to it.
                self._dismiss(self._next)
                self._next = None
            if self._channel.fileno() in ready:
                return receive_frame(self._channel)

    def _attach(self, network: NetworkSpec) -> None:
        """Lead out of the namespace.

        Raises:
            EngineError, OSError: As HostNetwork.attach and PendingUserNetwork.start.
        """
        if network.user_network and self._way_out is not None:
            self._way_out.start(network, open_own_namespace())
        self._host.attach(self._spec.container_id, network)
        self._network = network

    def _run(self, document: bytes, descriptors: list[int]) -> StepEnd:
        kills_before = self._group.out_of_memory_kills()
        exit_code = self._run_next(document, descriptors)
        kills = self._group.out_of_memory_kills() - kills_before
        if self._next is not None and _has_ended(self._next.pidfd):
            # The one that waits was killed, and not the step.
            kills -= 1
        return StepEnd(
            exit_code=exit_code,
            is_out_of_memory_killed=kills > 0,
            warnings=self._group.warnings,
        )

    def _run_next(self, document: bytes, descriptors: list[int]) -> int:
        """Give the first process that waits its step, wait for its end; returns the exit code."""
        try:
            init = self._take_next()
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        try:
            try:
                # One that has ended says why in its report.
                with contextlib.suppress(ConnectionError):
                    send_frame(init.channel, FrameKind.START, document, tuple(descriptors))
            finally:
                init.channel.close()
                for descriptor in descriptors:
                    os.close(descriptor)
            is_last = decode_record(StepSpec, document).is_last
            self._await(init.report)
            wait_for_exec(init.report)
            send_frame(self._channel, FrameKind.PROGRESS, b"")
            if not is_last:
                # What keeps it from being born is told when it is needed.
                with contextlib.suppress(OSError, EngineError):
                    self._next = self._clone()
            self._await(init.pidfd)
            return _reap(init.pidfd)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(init.pidfd, signal.SIGKILL)
            _reap(init.pidfd)
            raise
        finally:
            os.close(init.pidfd)

    def _take_next(self) -> _WaitingInit:
        """The first process that waits, or another if there is none or it was killed meanwhile."""
        waiting, self._next = self._next, None
        if waiting is not None and _has_ended(waiting.pidfd):
            self._dismiss(waiting)
            waiting = None
        return waiting or self._clone()

    def _dismiss(self, waiting: _WaitingInit) -> None:
        waiting.channel.close()
        os.close(waiting.report)
        _reap(waiting.pidfd)
        os.close(waiting.pidfd)

    def _clone(self) -> _WaitingInit:
        """Clone a step's first process, which prepares what it can, and waits for its step."""
        with contextlib.ExitStack() as born, contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            born.callback(ours.close)
            stack.callback(theirs.close)
            report, report_end = os.pipe2(os.O_CLOEXEC)
            born.callback(os.close, report)
            stack.callback(os.close, report_end)
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, stdin)
            join = self._group.join_descriptors
            stack.callback(self._group.close_join_descriptors)
            process_id, pidfd = clone_process(
                new_namespaces(self._spec.namespaces), cgroup=self._group.unified_descriptor
            )
            if process_id == 0:
                try:
                    # Who keeps the other end of a channel keeps somebody from seeing its end.
                    self._channel.close()
                    ours.close()
                    os.close(report)
                    run_to_exec(
                        lambda step: self._become_step(
                            theirs,
                            InheritedDescriptors(
                                stdin=stdin,
                                stdout=-1,
                                stderr=-1,
                                terminal=-1,
                                report=report_end,
                                parent=self._pidfd,
                                join=join,
                            ),
                            step,
                        ),
                        report_end,
                    )
                finally:
                    os._exit(1)
            # It lives: what it is reached by stays open.
            born.pop_all()
        return _WaitingInit(channel=ours, report=report, pidfd=pidfd)

    def _become_step(
        self, channel: socket.socket, descriptors: InheritedDescriptors, step: Step
    ) -> NoReturn:
        lane = self._spec
        settle_in(lane.namespaces, step, parent=descriptors.parent, join=descriptors.join)
        prepared = prepare_kernel(lane, self._place, step)
        # A fork gets its own copy of what it writes to: now, and not when a step waits.
        decode_record(StepSpec, _REHEARSAL)
        frame = receive_frame(channel)
        if frame is None:
            os._exit(0)
        channel.close()
        stdout, stderr = frame[2]
        own = decode_record(StepSpec, frame[1])
        process = dataclasses.replace(
            lane.process,
            arguments=own.arguments,
            environment=own.environment,
            working_directory=own.working_directory,
            user=own.user,
        )
        become_prepared(
            dataclasses.replace(
                lane,
                rootfs=own.rootfs,
                process=process,
                mounts=own.mounts,
                file_mounts=own.file_mounts,
            ),
            prepared,
            dataclasses.replace(descriptors, stdout=stdout, stderr=stderr),
            step,
        )

    def _await(self, awaited: int) -> None:
        """Wait until a descriptor is ready, or the application does not want it any more.

        Raises:
            StepCancelledError: The channel has ended, or says something that nobody expects.
        """
        events = select.poll()
        events.register(awaited, select.POLLIN)
        events.register(self._channel, select.POLLIN)
        ready = {descriptor for descriptor, _events in events.poll()}
        if awaited not in ready:
            raise StepCancelledError


def without_device_nodes(spec: ContainerSpec) -> ContainerSpec:
    """A step that cannot make device nodes: it could open them, and the host's disks with them."""
    kept = tuple(one for one in spec.process.capabilities if one != _MAKES_DEVICES)
    return dataclasses.replace(spec, process=dataclasses.replace(spec.process, capabilities=kept))


def _has_ended(pidfd: int) -> bool:
    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    return bool(watch.poll(0))


def _reap(pidfd: int) -> int:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return 1
    assert result is not None
    is_exit = result.si_code == os.CLD_EXITED
    return result.si_status if is_exit else 128 + result.si_status
