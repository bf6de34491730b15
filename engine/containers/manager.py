"""Containers as the engine's face shows them: look-ups and listings over the operations."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers import lifecycle
from engine.containers.creation import create_container
from engine.containers.lifecycle import current_state, exclusively, exit_status
from engine.containers.mounts import mount_points
from engine.containers.names import check_container_name
from engine.containers.network_following import follow_network
from engine.containers.networking import (
    attachments_of,
    names_of,
    network_names,
    published_ports,
    user_network_of,
)
from engine.containers.processes import list_container_processes
from engine.containers.removal import remove_after_exit, remove_container
from engine.containers.spec import LOG_FILE
from engine.containers.state_table import Operation, check
from engine.containers.states import LIVE_STATUSES, is_restarted_by_policy, status_of
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    InvalidInputError,
    StartError,
)
from engine.events import EventsDropped
from engine.types import (
    ChainId,
    ContainerDetails,
    ContainerHealth,
    ContainerStatus,
    ContainerSummary,
    ExitStatus,
    HealthProbe,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.events import EventBus
    from engine.runtime.health import HealthRecord
    from engine.runtime.spec import StateRecord
    from engine.types import ContainerRequest, CreatedContainer, ProcessInfo, TerminalSize


class ContainerManager:
    """What can be asked about containers by reference."""

    def __init__(self, services: ContainerServices, events: EventBus) -> None:
        self._services = services
        self._events = events

    async def find(self, reference: str) -> ContainerRecord:
        """The record of a container.

        Raises:
            ContainerNotFoundError: There is none.
            AmbiguousReferenceError: The beginning of an id matches several.
        """
        return await self._services.table.find(reference)

    async def state(self, record: ContainerRecord) -> StateRecord:
        """The state of a container, its end written down first if its monitor is lost."""
        return await current_state(self._services, record)

    async def list_summaries(self) -> tuple[ContainerSummary, ...]:
        """Every container, newest first."""
        records = await self._services.table.list()
        states = await self._services.read_states(tuple(record.container_id for record in records))
        names = await network_names(self._services, records)
        found = []
        for record, (state, is_lost) in zip(records, states, strict=True):
            if is_lost:
                state = await current_state(self._services, record)
            found.append(_summary(record, state, names))
        return tuple(found)

    async def inspect(self, reference: str) -> ContainerDetails:
        """Everything about one container."""
        record = await self.find(reference)
        names = await network_names(self._services, (record,))
        return self._details(record, await current_state(self._services, record), names)

    async def create(self, request: ContainerRequest) -> CreatedContainer:
        """Make a container without starting it."""
        return await create_container(self._services, request)

    async def start(self, reference: str, *, terminal_size: TerminalSize | None = None) -> None:
        """Start a container; one that was to be removed on exit goes if it cannot start."""
        record = await self.find(reference)
        try:
            await lifecycle.start_container(self._services, record, terminal_size=terminal_size)
        except StartError:
            if record.is_removed_on_exit:
                with contextlib.suppress(ContainerNotFoundError, ContainerStateError):
                    await remove_container(self._services, record)
            raise

    async def stop(
        self, reference: str, *, timeout_seconds: float | None, signal: str | None
    ) -> ExitStatus:
        """Ask a container to end, insist after the timeout, and wait for the end."""
        record = await self.find(reference)
        status = await lifecycle.stop_container(
            self._services, record, timeout_seconds=timeout_seconds, signal=signal
        )
        await remove_after_exit(self._services, record.container_id)
        return status

    async def kill(self, reference: str, *, signal: str) -> None:
        """Send a signal to a container's first process."""
        record = await self.find(reference)
        await lifecycle.kill_container(self._services, record, signal=signal)
        state = await current_state(self._services, record)
        if status_of(state) is ContainerStatus.EXITED:
            await remove_after_exit(self._services, record.container_id)

    async def restart(self, reference: str, *, timeout_seconds: float | None) -> None:
        """Stop a container if it runs, then start it."""
        await lifecycle.restart_container(
            self._services, await self.find(reference), timeout_seconds=timeout_seconds
        )

    async def pause(self, reference: str) -> None:
        """Freeze a container."""
        await lifecycle.pause_container(self._services, await self.find(reference))

    async def unpause(self, reference: str) -> None:
        """Let a paused container go on."""
        await lifecycle.unpause_container(self._services, await self.find(reference))

    async def remove(self, reference: str, *, is_forced: bool, removes_volumes: bool) -> None:
        """Remove a container."""
        await remove_container(
            self._services,
            await self.find(reference),
            is_forced=is_forced,
            removes_volumes=removes_volumes,
        )

    async def rename(self, reference: str, name: str) -> None:
        """Give a container another name.

        Raises:
            NameInUseError: Another container has it.
            InvalidInputError: It is no name, or the one that the container has.
        """
        record = await self.find(reference)
        if not name:
            raise InvalidInputError("Neither old nor new names may be empty")
        name = name.removeprefix("/")
        check_container_name(name)
        async with exclusively(self._services, record) as fresh:
            if fresh.name == name:
                raise InvalidInputError(
                    "Renaming a container with the same name as its current name"
                )
            state = await current_state(self._services, fresh)
            check(
                Operation.RENAME,
                status_of(state),
                container_id=fresh.container_id,
                name=fresh.name,
            )
            await self._services.table.rename(fresh.container_id, name)
            if status_of(state) in LIVE_STATUSES:
                await lifecycle.tell_monitor_name(self._services, fresh, name)
                await follow_network(
                    self._services,
                    before=(fresh, state.network),
                    after=(replace(fresh, name=name), state.network),
                )
            self._services.tell("rename", replace(fresh, name=name), oldName=fresh.name)

    async def wait(self, reference: str) -> ExitStatus:
        """Wait until a container does not run, and is removed if it asked for that."""
        record = await self.find(reference)
        status = await self.wait_for_end(record)
        await remove_after_exit(self._services, record.container_id)
        return status

    async def wait_for_end(
        self, record: ContainerRecord, *, is_over_restarts: bool = False
    ) -> ExitStatus:
        """Wait until a container does not run, and leave its removal to others.

        As in Docker the end of a run is the end, also if a restart policy has another one follow;
        with `is_over_restarts` the end of the last run is.
        """
        with self._events.subscribe() as subscription:
            # Subscribed first: an end between look and wait would never be heard of.
            state = await current_state(self._services, record)
            if status_of(state) not in LIVE_STATUSES:
                return exit_status(state)
            is_out_of_memory_killed = False
            async for event in subscription:
                if isinstance(event, EventsDropped):
                    state = await current_state(self._services, record)
                    if status_of(state) not in LIVE_STATUSES:
                        return exit_status(state)
                    continue
                if event.subject_id != record.container_id:
                    continue
                if event.action == "oom":
                    is_out_of_memory_killed = True
                if event.action in {"die", "stop", "destroy"}:
                    state = await current_state(self._services, record)
                    if is_over_restarts and is_restarted_by_policy(state):
                        continue
                    code = event.attribute("exitCode")
                    return _ended(state, code, is_out_of_memory_killed=is_out_of_memory_killed)
        raise ContainerNotFoundError(record.name)

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        """The processes of a running container."""
        record = await self.find(reference)
        state = await current_state(self._services, record)
        check(Operation.TOP, status_of(state), container_id=record.container_id, name=record.name)
        self._services.tell("top", record)
        return await self._services.in_thread(list_container_processes, state)

    def _details(
        self, record: ContainerRecord, state: StateRecord, names: Mapping[str, str]
    ) -> ContainerDetails:
        directory = self._services.config.container_directory(record.container_id)
        return ContainerDetails(
            summary=_summary(record, state, names),
            process_id=state.process_id or None,
            arguments=record.arguments,
            environment=record.environment,
            working_directory=record.working_directory,
            user=record.user,
            hostname=record.hostname,
            labels=record.labels,
            limits=record.limits,
            is_read_only=record.is_read_only,
            has_terminal=record.has_terminal,
            is_stdin_open=record.is_stdin_open,
            stop_signal=record.stop_signal,
            stop_timeout_seconds=record.stop_timeout_seconds,
            snapshotter=record.snapshotter,
            chain_id=ChainId(record.layers[-1] if record.layers else ""),
            cgroup=self._cgroup(record, state),
            log_path=str(directory / LOG_FILE),
            writable_layer_path=str(directory / "upper"),
            warnings=tuple(dict.fromkeys((*record.warnings, *state.warnings))),
            options=record.options,
            network=record.network,
            attachments=attachments_of(record.network, state.network, names),
            user_network=user_network_of(state.network),
            has_init=record.has_init,
            restart_policy=record.restart_policy,
            next_start_at=state.next_start_at_ns / 1e9 if state.next_start_at_ns else None,
            health_check=record.health,
            health=_health(state.health),
            mounts=mount_points(self._services.config, record),
        )

    def _cgroup(self, record: ContainerRecord, state: StateRecord) -> str:
        parent = self._services.cgroups.parent
        return f"{parent}/{record.container_id}" if parent and state.cgroup_paths else ""


def _summary(
    record: ContainerRecord, state: StateRecord, names: Mapping[str, str]
) -> ContainerSummary:
    return ContainerSummary(
        container_id=record.container_id,
        name=record.name,
        image=record.image,
        image_id=record.image_id,
        command=shlex.join(record.arguments),
        created_at=record.created_at_ns / 1e9,
        status=status_of(state),
        started_at=state.started_at_ns / 1e9 if state.started_at_ns else None,
        finished_at=state.finished_at_ns / 1e9 if state.finished_at_ns else None,
        exit_code=state.exit_code if state.exit_code >= 0 else None,
        error=state.error,
        is_out_of_memory_killed=state.is_out_of_memory_killed,
        is_removed_on_exit=record.is_removed_on_exit,
        labels=record.labels,
        mounts=record.mounts,
        has_terminal=record.has_terminal,
        network_names=names_of(record.network, names),
        ports=published_ports(state.network),
        exposed_ports=record.exposed_ports,
        health=state.health.status if state.health else "",
        restart_count=state.restart_count,
    )


def _ended(state: StateRecord, code: str | None, *, is_out_of_memory_killed: bool) -> ExitStatus:
    if status_of(state) is ContainerStatus.EXITED and code in {None, str(state.exit_code)}:
        return exit_status(state)
    # It is gone, or runs again: the event is all there is.
    number = int(code) if code is not None and code.isdigit() else 0
    return ExitStatus(exit_code=number, is_out_of_memory_killed=is_out_of_memory_killed)


def _health(record: HealthRecord | None) -> ContainerHealth | None:
    if record is None:
        return None
    return ContainerHealth(
        status=record.status,
        failing_streak=record.failing_streak,
        probes=tuple(
            HealthProbe(
                started_at=result.started_at_ns / 1e9,
                finished_at=result.finished_at_ns / 1e9,
                exit_code=result.exit_code,
                output=result.output,
            )
            for result in record.results
        ),
    )
