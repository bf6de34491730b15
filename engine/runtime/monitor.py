"""The monitor: one process for each running container, which outlives every application.

It holds the container's lock for as long as it lives, is the parent of the container's first
process, moves its output to the log, answers on attach.sock, and writes down how it ended. It is
forked by the launcher, has one thread and no event loop but poll(2); starting is a starter's work.
When it is killed, the kernel kills the container's init with it, and whoever notices writes the
end down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from engine.cgroups.limit_changes import change_limits
from engine.errors import ContainerStateError, EngineError, StartError
from engine.linux.process import unlock
from engine.runtime.container_run import ContainerRun
from engine.runtime.health import HealthRecord, ended_health
from engine.runtime.health_checker import HealthChecker
from engine.runtime.journal import ContainerJournal, write_config
from engine.runtime.monitor_calls import CallServer
from engine.runtime.monitor_network import MonitorNetwork
from engine.runtime.protocol import MonitorCall, MonitorReply
from engine.runtime.reactor import Deadline, Reactor
from engine.runtime.records import RecordDocument, encode_record
from engine.runtime.restart import BackOff
from engine.runtime.spec import ContainerSpec, ExecSpec, NetworkSpec, StateRecord
from engine.runtime.starter import (
    Starter,
    describe_start_failure,
    start_again,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.handover import Handover


class Monitor:
    """One container, from the moment when its program runs to its end."""

    def __init__(self, handover: Handover) -> None:
        """Take over a container; nothing is read yet of what it is."""
        self._spec_document = RecordDocument(ContainerSpec, handover.spec)
        self._journal = ContainerJournal(
            self._spec_document, RecordDocument(StateRecord, handover.state)
        )
        self._lock = handover.lock
        self._reactor = Reactor()
        self._network = MonitorNetwork(self._spec_document, handover.network, self._reactor)
        self._run: ContainerRun | None = None
        self._calls = CallServer(
            socket.socket(fileno=handover.listener), self._reactor, self._answer
        )
        self._health: HealthChecker | None = None
        self._is_stopping = False
        self._kill_deadline: Deadline | None = None
        self._restart_deadline: Deadline | None = None
        self._back_off = BackOff()
        self._take_over(handover)

    @property
    def spec(self) -> ContainerSpec:
        """What the container is to be."""
        return self._spec_document.record

    @property
    def state(self) -> StateRecord:
        """What became of the container so far."""
        return self._journal.state

    # --- watch --------------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have `watch` do something when so many seconds have passed."""
        self._reactor.after(seconds, action)

    def watch(self) -> None:
        """Move output, answer calls and keep time until the container has ended for good."""
        self._reactor.run()

    def _take_over(self, handover: Handover) -> None:
        """Keep a program that its starter has handed over."""
        self._run = ContainerRun(
            handover,
            self._spec_document,
            self._reactor,
            on_end=self._end,
            on_memory_kill=self._note_out_of_memory,
        )
        if handover.has_health_check:
            assert self.spec.health is not None
            self._health = HealthChecker(
                self.spec.health,
                self._reactor,
                started_at_ns=self.state.started_at_ns,
                read_health=lambda: self.state.health or HealthRecord(),
                write_health=self._note_health,
                run_probe=self._run_probe,
            )
            self._health.resume()

    def _note_out_of_memory(self) -> None:
        self._journal.change(dataclasses.replace(self.state, is_out_of_memory_killed=True))
        self._journal.tell("oom")

    def _note_health(self, health: HealthRecord) -> None:
        before = self.state.health
        self._journal.change(dataclasses.replace(self.state, health=health))
        if before is None or before.status != health.status:
            self._journal.tell(f"health_status: {health.status}")

    def _answer(self, client: int, call: MonitorCall) -> None:
        try:
            is_answered = self._do(client, call)
        except (EngineError, OSError) as error:
            self._calls.refuse(client, describe_start_failure(error))
            return
        if is_answered:
            self._calls.answer(client, self._journal.told_state)

    def _do(self, client: int, call: MonitorCall) -> bool:
        """Do what a call asks; False if the answer comes later, or has been given."""
        if call.call == "signal":
            if call.signal == signal.SIGKILL:
                self._calls.wait_for_end(client)
                self._signal(call.signal)
                return False
            self._signal(call.signal)
        elif call.call == "stop":
            self._calls.wait_for_end(client)
            self._begin_stop(call)
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
        elif call.call == "update":
            self._update(call)
        elif call.call == "network" and call.network is not None:
            network = self._network.change(call.network)
            self._journal.change(dataclasses.replace(self.state, network=network))
        elif call.call == "rename":
            self._journal.name = call.name
        elif call.call != "state":
            raise EngineError(
                f"the container's monitor does not know the call {call.call!r}",
                hint="It is older than this program: restart the container",
            )
        return True

    def _update(self, call: MonitorCall) -> None:
        if call.cgroup is not None:
            limits = dataclasses.replace(call.cgroup, device_rules=self.spec.cgroup.device_rules)
            if self._run is not None:
                warnings = change_limits(self._run.group, self.spec.cgroup, limits)
                told = tuple(dict.fromkeys((*self.state.warnings, *warnings)))
                self._journal.change(dataclasses.replace(self.state, warnings=told))
            self._spec_document.replace(dataclasses.replace(self.spec, cgroup=limits))
        if call.restart is not None:
            self._spec_document.replace(dataclasses.replace(self.spec, restart=call.restart))
        with contextlib.suppress(OSError):
            write_config(self.spec.container_directory, self._spec_document.document)

    # --- sessions -----------------------------------------------------------------------------

    def _attach(self, client: int) -> None:
        run = self._running(
            if_paused="You cannot attach to a paused container, unpause it first",
            if_restarting=("You cannot attach to a restarting container, wait until it is running"),
        )
        connection = self._calls.hand_over(client)
        reply = MonitorReply(
            state=encode_record(self._journal.told_state).decode(),
            answered_at_ns=run.log.last_time_ns,
        )
        with contextlib.suppress(OSError):
            connection.send(encode_record(reply), socket.MSG_NOSIGNAL)
        run.streams.join(connection)
        self._journal.tell("attach")

    def _exec(self, client: int, spec: ExecSpec) -> None:
        """Fork the process that runs another program and serves its session."""
        identity = self.spec.container_id
        run = self._running(
            if_paused=f"Container {identity} is paused, unpause the container before exec"
        )
        with self._calls.hand_over(client) as connection:
            run.fork_session(connection, spec, self._journal)

    def _run_probe(self, connection: socket.socket, arguments: tuple[str, ...]) -> int:
        assert self._run is not None
        process = self.spec.process
        probe = ExecSpec(
            exec_id=os.urandom(32).hex(),
            arguments=arguments,
            environment=process.environment,
            working_directory=process.working_directory,
            user=process.user,
        )
        return self._run.fork_session(connection, probe, self._journal)

    def _running(self, *, if_paused: str, if_restarting: str = "") -> ContainerRun:
        """The run, if its program runs and is not paused."""
        if self._run is not None and self.state.status != "paused":
            return self._run
        identity = self.spec.container_id
        raise ContainerStateError(
            if_paused
            if self._run is not None
            else if_restarting
            or f"Container {identity} is restarting, wait until the container is running",
            container_id=identity,
            status=self.state.status,
            operation="exec",
        )

    # --- signals ------------------------------------------------------------------------------

    def _begin_stop(self, call: MonitorCall) -> None:
        self._is_stopping = True
        if not self._note_stop_by_person():
            return
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

    def _note_stop_by_person(self) -> bool:
        """Keep the restart policy from starting the container again; False if it has ended now."""
        self._journal.change(dataclasses.replace(self.state, is_stopped_by_person=True))
        if self._run is not None:
            return True
        assert self._restart_deadline is not None
        self._restart_deadline.cancel()
        self._finish(self.state, "stop")
        return False

    def _signal(self, number: int) -> None:
        is_end = number in {signal.SIGKILL, self.spec.stop_signal}
        if is_end and not self._note_stop_by_person():
            return
        if self._run is None or not self._run.signal(number):
            return
        self._journal.tell("kill", signal=str(int(number)))
        if is_end:
            # A frozen process does not see the signal; on v1 not even SIGKILL.
            self._thaw_if_paused()

    def _pause(self) -> None:
        run = self._running(if_paused=f"Container {self.spec.container_id} is already paused")
        if self._health is not None:
            self._health.suspend()
        try:
            run.group.freeze()
        except BaseException:
            self._resume_health()
            raise
        self._journal.change(dataclasses.replace(self.state, status="paused"))
        self._journal.tell("pause")

    def _unpause(self) -> None:
        if self._run is None or self.state.status != "paused":
            raise ContainerStateError(
                f"Container {self.spec.container_id} is not paused",
                container_id=self.spec.container_id,
                status=self.state.status,
                operation="unpause",
            )
        self._run.group.thaw()
        self._journal.change(dataclasses.replace(self.state, status="running"))
        self._resume_health()
        self._journal.tell("unpause")

    def _thaw_if_paused(self) -> None:
        if self.state.status == "paused":
            self._unpause()

    def _resume_health(self) -> None:
        if self._health is not None:
            self._health.resume()

    # --- end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Write down how a run has ended, and start another one if the restart policy wants it."""
        assert self._run is not None
        run, self._run = self._run, None
        if self._health is not None:
            self._health.suspend()
            self._health = None
        if self._kill_deadline is not None:
            self._kill_deadline.cancel()
        ended = run.end()
        self._back_off = self._back_off.after_run(ended.lasted_seconds)
        is_wanted = not self.state.is_stopped_by_person and self.spec.restart.wants(
            ended.exit_code, restart_count=self.state.restart_count, is_stopped_by_person=False
        )
        finished_at_ns = time.time_ns()
        delay_ns = round(self._back_off.delay_seconds * 1e9)
        state = dataclasses.replace(
            self.state,
            status="restarting",
            process_id=0,
            process_start_ticks=0,
            finished_at_ns=finished_at_ns,
            exit_code=ended.exit_code,
            is_out_of_memory_killed=self.state.is_out_of_memory_killed or ended.has_new_kill,
            cgroup_paths=(),
            warnings=(*self.state.warnings, *ended.warnings),
            restart_count=self.state.restart_count + int(is_wanted),
            next_start_at_ns=finished_at_ns + delay_ns,
            health=ended_health(self.state.health),
        )
        lasted = (finished_at_ns - self.state.started_at_ns) // 10**9
        told = {"exitCode": str(ended.exit_code), "execDuration": str(lasted)}
        if is_wanted:
            self._journal.change(state)
            self._tell_end(told, state.network, has_new_kill=ended.has_new_kill)
            run.close(ended.exit_code)
            self._restart_deadline = self._reactor.after(
                self._back_off.delay_seconds, self._restart
            )
            return
        self._let_go(state)
        self._tell_end(told, state.network, has_new_kill=ended.has_new_kill)
        if self._is_stopping:
            self._journal.tell("stop")
        self._answer_those_who_wait()
        run.close(ended.exit_code)

    def _tell_end(
        self, attributes: dict[str, str], network: NetworkSpec, *, has_new_kill: bool
    ) -> None:
        if has_new_kill:
            self._journal.tell("oom")
        self._journal.tell_networks("disconnect", network)
        self._journal.tell_volumes("unmount")
        self._journal.tell("die", **attributes)

    def _restart(self) -> None:
        """Start the program again, as its restart policy wants."""
        self._restart_deadline = None
        try:
            starter = Starter.fork(
                functools.partial(
                    start_again, self._spec_document, self._journal, self._network.namespace
                )
            )
            try:
                received = starter.receive()
            finally:
                starter.reap()
        except (EngineError, OSError) as error:
            failure = describe_start_failure(error)
            exit_code = failure.exit_code if isinstance(failure, StartError) else 125
            state = dataclasses.replace(self.state, exit_code=exit_code, error=failure.message)
            self._finish(state, "die", exitCode=str(exit_code), execDuration="0")
            return
        if received is None:
            # Nobody else knows what it left behind: what is done for a killed monitor clears up.
            os._exit(1)
        handover = received.read()
        self._journal.resume(handover.state)
        self._take_over(handover)

    def _finish(self, state: StateRecord, action: str, **attributes: str) -> None:
        """End a container that waits for its restart."""
        self._let_go(state)
        self._journal.tell(action, **attributes)
        self._answer_those_who_wait()

    def _let_go(self, state: StateRecord) -> None:
        """Write the end down, and leave the container to others."""
        self._network.release()
        self._journal.end(
            dataclasses.replace(
                state,
                status="exited",
                monitor_process_id=0,
                monitor_start_ticks=0,
                next_start_at_ns=0,
                network=NetworkSpec(),
            )
        )
        # Whoever is told of the end may start the container again at once.
        self._calls.close(self.spec.run_directory)
        unlock(self._lock)

    def _answer_those_who_wait(self) -> None:
        self._calls.end(self._journal.told_state)
        self._reactor.stop()
