"""Start, stop, kill, restart, pause and unpause: what changes whether a container's program runs.

The monitor of a container puts what concurrent callers ask of it in order. Starting, renaming and
removing hold the container's operation lock besides, so that two applications do not do it at
once.
"""

from __future__ import annotations

import contextlib
import signal as signal_numbers
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.mounts import hold_mounts
from engine.containers.namespaces import check_joined
from engine.containers.network_following import renew_files, wanted_network
from engine.containers.recovery import (
    WRITTEN_DOWN_SECONDS,
    clean_after_lost_start,
    let_monitor_end,
    recover_container,
)
from engine.containers.spec import build_spec
from engine.containers.state_table import Operation, check
from engine.containers.states import (
    LIVE_STATUSES,
    operation_lock,
    read_watched_state,
    remove_run_directory,
    status_of,
)
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    EngineError,
    FeatureUnavailableError,
    MonitorLostError,
    NotFoundError,
)
from engine.operations import carry_through
from engine.runtime.isolation import parse_signal
from engine.runtime.protocol import MonitorCall
from engine.types import ContainerStatus, ExitStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import ContainerSpec, NetworkSpec, StateRecord
    from engine.types import TerminalSize


async def current_state(services: ContainerServices, record: ContainerRecord) -> StateRecord:
    """Read a container's state; one that lost its monitor is first written down as exited."""
    state, is_lost = await services.in_thread(
        read_watched_state, services.config, record.container_id
    )
    if is_lost and await recover_container(services, record):
        state, _ = await services.in_thread(
            read_watched_state, services.config, record.container_id
        )
    return state


@contextlib.asynccontextmanager
async def exclusively(
    services: ContainerServices, record: ContainerRecord
) -> AsyncIterator[ContainerRecord]:
    """Hold a container's operation lock; yields its record as it is under the lock.

    Waits for whoever holds it. Cancelling gives up the wait.

    Raises:
        ContainerNotFoundError: It was removed meanwhile.
    """
    lock = operation_lock(services.config, record.container_id, record.name, is_of_record=True)
    try:
        await lock.acquire()
    except NotFoundError:
        raise ContainerNotFoundError(record.name) from None
    try:
        fresh = await services.table.get(record.container_id)
        if fresh is None:
            await services.in_thread(
                remove_run_directory, services.config.container_run_directory(record.container_id)
            )
            raise ContainerNotFoundError(record.name)
        yield fresh
    finally:
        lock.release()


async def start_container(
    services: ContainerServices,
    record: ContainerRecord,
    *,
    terminal_size: TerminalSize | None = None,
) -> None:
    """Start a created or exited container; returns when its program runs.

    Once the launcher is asked it is carried through: cancelling waits for the answer, so that
    nobody gets the operation lock while a start is under way. A container that was started by
    then runs.

    Raises:
        StartError: The program could not be started; the container stays what it was.
        ContainerStateError: It is not to be started now.
    """
    async with exclusively(services, record) as fresh:
        await start_exclusively(services, fresh, Operation.START, terminal_size=terminal_size)


async def start_exclusively(
    services: ContainerServices,
    record: ContainerRecord,
    operation: Operation,
    *,
    terminal_size: TerminalSize | None = None,
) -> None:
    """Start a container as `start_container` does, for the holder of its operation lock."""
    (state, is_lost), spec = await services.in_thread(_look, services, record)
    if terminal_size is not None:
        spec = replace(spec, terminal_size=(terminal_size.columns, terminal_size.rows))
    if is_lost:
        state = await current_state(services, record)
    _check(operation, state, record)
    if status_of(state) is ContainerStatus.EXITED:
        await let_monitor_end(services, record)
    if record.options.pid_mode or record.options.ipc_mode or record.network.mode:
        await check_joined(services, record)
    async with (
        hold_mounts(services, record),
        services.attacher.hold(wanted_network(record)) as held,
    ):
        told = await services.in_thread(
            renew_files, services.config, record, held.spec, namespace=held.namespace
        )
        spec = replace(
            spec,
            namespaces=replace(spec.namespaces, network=held.namespace),
            network=held.spec,
            warnings=(*spec.warnings, *held.warnings, *told),
        )
        await carry_through(_start(services, record, spec, held.reservation))


def _look(
    services: ContainerServices, record: ContainerRecord
) -> tuple[tuple[StateRecord, bool], ContainerSpec]:
    """All that is to be read before a start, in one go."""
    spec = build_spec(
        record,
        config=services.config,
        rootfs=services.rootfs.describe(record),
        cgroup_mode=services.cgroups.mode,
        cgroup_parent=services.cgroups.parent,
        is_rootless=services.is_rootless,
        has_seccomp=services.has_seccomp,
    )
    return read_watched_state(services.config, record.container_id), spec


async def _start(
    services: ContainerServices, record: ContainerRecord, spec: ContainerSpec, reservation: int
) -> None:
    try:
        await services.runtime.start(spec, reservation=reservation)
    except MonitorLostError:
        await clean_after_lost_start(services, record)
        raise


async def stop_container(
    services: ContainerServices,
    record: ContainerRecord,
    *,
    timeout_seconds: float | None = None,
    signal: str | None = None,
) -> ExitStatus:
    """Ask a container to end, insist after the timeout, and wait for the end."""
    number = parse_signal(signal or record.stop_signal)
    timeout = record.stop_timeout_seconds if timeout_seconds is None else timeout_seconds
    _check(Operation.STOP, await current_state(services, record), record)
    call = MonitorCall(call="stop", signal=number, timeout_seconds=timeout)
    try:
        state = await _call(services, record, call)
    except (ContainerStateError, MonitorLostError):
        # It ended by itself, or its monitor did: either way it does not run now.
        state = await _state_without_monitor(services, record)
        _refuse_if_running(state, record, Operation.STOP)
    return exit_status(state)


async def kill_container(
    services: ContainerServices, record: ContainerRecord, *, signal: str = "SIGKILL"
) -> None:
    """Send a signal to a container's first process; SIGKILL waits until it has ended."""
    number = parse_signal(signal)
    _check(Operation.KILL, await current_state(services, record), record)
    try:
        await _call(services, record, MonitorCall(call="signal", signal=number))
    except MonitorLostError:
        await current_state(services, record)
        if number != signal_numbers.SIGKILL:
            raise
    except ContainerStateError:
        _check(Operation.KILL, await current_state(services, record), record)
        raise


async def restart_container(
    services: ContainerServices, record: ContainerRecord, *, timeout_seconds: float | None = None
) -> None:
    """Stop a container if it runs, then start it."""
    async with exclusively(services, record) as fresh:
        state = await current_state(services, fresh)
        _check(Operation.RESTART, state, fresh)
        if status_of(state) not in {ContainerStatus.CREATED, ContainerStatus.EXITED}:
            try:
                await stop_container(services, fresh, timeout_seconds=timeout_seconds)
            except ContainerStateError as error:
                if not error.is_already_done:
                    raise
        await start_exclusively(services, fresh, Operation.START)
        services.tell("restart", fresh)


async def pause_container(services: ContainerServices, record: ContainerRecord) -> None:
    """Freeze every process of a running container."""
    await _freeze_or_thaw(services, record, Operation.PAUSE)


async def unpause_container(services: ContainerServices, record: ContainerRecord) -> None:
    """Let a paused container go on."""
    await _freeze_or_thaw(services, record, Operation.UNPAUSE)


async def _freeze_or_thaw(
    services: ContainerServices, record: ContainerRecord, operation: Operation
) -> None:
    _check(operation, await current_state(services, record), record)
    try:
        await _call(services, record, MonitorCall(call=operation.value))
    except (ContainerStateError, MonitorLostError):
        # Somebody was quicker: say what the state is now.
        _check(operation, await current_state(services, record), record)
        raise
    except FeatureUnavailableError:
        # The monitor knows only its group; what to do about it is known of the host.
        if (missing := services.cgroups.missing_pause) is None:
            raise
        raise FeatureUnavailableError("pausing", missing.reason, remedy=missing.remedy) from None


async def end_now(services: ContainerServices, record: ContainerRecord) -> StateRecord:
    """Kill a container if it runs, and return the state when it does not.

    Raises:
        EngineError: It could not be killed.
    """
    state = await current_state(services, record)
    if status_of(state) not in LIVE_STATUSES:
        return state
    call = MonitorCall(call="signal", signal=signal_numbers.SIGKILL)
    try:
        return await _call(services, record, call)
    except (ContainerStateError, MonitorLostError):
        state = await _state_without_monitor(services, record)
        if status_of(state) is ContainerStatus.EXITED:
            return state
        raise EngineError(
            f"could not kill container: {record.name} still runs and its monitor does not answer"
        ) from None


async def _state_without_monitor(
    services: ContainerServices, record: ContainerRecord
) -> StateRecord:
    """The state of a container whose monitor did not answer.

    If it was killed, somebody else may be writing the end down.
    """
    state = await current_state(services, record)
    if status_of(state) not in LIVE_STATUSES:
        return state
    with contextlib.suppress(TimeoutError):
        await let_monitor_end(services, record, timeout_seconds=WRITTEN_DOWN_SECONDS)
    return await current_state(services, record)


def exit_status(state: StateRecord) -> ExitStatus:
    """How a container that does not run ended the last time."""
    return ExitStatus(
        exit_code=max(0, state.exit_code),
        is_out_of_memory_killed=state.is_out_of_memory_killed,
        error=state.error,
    )


async def _call(
    services: ContainerServices, record: ContainerRecord, call: MonitorCall
) -> StateRecord:
    directory = services.config.container_run_directory(record.container_id)
    return await services.runtime.call(directory, record.container_id, call)


def _check(operation: Operation, state: StateRecord, record: ContainerRecord) -> None:
    check(operation, status_of(state), container_id=record.container_id, name=record.name)


def _refuse_if_running(state: StateRecord, record: ContainerRecord, operation: Operation) -> None:
    if status_of(state) in {ContainerStatus.RUNNING, ContainerStatus.PAUSED}:
        raise ContainerStateError(
            f"container {record.name} still runs and its monitor does not answer",
            container_id=record.container_id,
            status=state.status,
            operation=operation.value,
            hint=f"`lamella rm -f {record.name}` ends it",
        )


async def change_network(
    services: ContainerServices, record: ContainerRecord, network: NetworkSpec
) -> None:
    """Have a running container connected to what its network is to be; one that ended is let be.

    Raises:
        EngineError: It cannot be; then all is as it was.
    """
    with contextlib.suppress(MonitorLostError):
        # The monitor knows the ports, of which there may be more than a packet has room for.
        told = replace(network, ports=())
        await _call(services, record, MonitorCall(call="network", network=told))


async def tell_monitor_name(
    services: ContainerServices, record: ContainerRecord, name: str
) -> None:
    """Let a running container's monitor use a new name in its events."""
    with contextlib.suppress(ContainerStateError, MonitorLostError):
        await _call(services, record, MonitorCall(call="rename", name=name))
