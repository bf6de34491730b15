"""Changing limits and restart policy of a container that exists, whether it runs or not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from engine.containers.lifecycle import current_state, exclusively
from engine.containers.limits import (
    NO_LIMIT,
    cgroup_spec,
    check_cpusets,
    check_limits,
    effective_limits,
    limit_warnings,
)
from engine.containers.policies import check_restart_policy, restart_spec
from engine.containers.state_table import Operation, check
from engine.containers.states import LIVE_STATUSES, status_of
from engine.errors import (
    ContainerStateError,
    EngineError,
    InvalidInputError,
    MonitorLostError,
    SyscallError,
)
from engine.operations import carry_through
from engine.runtime.protocol import MonitorCall
from engine.types import ContainerUpdate, ResourceLimits

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.spec import StateRecord
    from engine.types import RestartPolicy


async def update_container(
    services: ContainerServices, record: ContainerRecord, update: ContainerUpdate
) -> tuple[str, ...]:
    """Change what is asked for; returns warnings.

    One that runs is changed at once, without a restart; the kernel may refuse that, and then
    nothing is changed. Once begun it is carried through.

    Raises:
        InvalidInputError: Nothing is asked for, or what is asked for cannot be.
        EngineError: The kernel refused; the text says why.
        ContainerStateError: It is being removed.
    """
    if update == ContainerUpdate():
        raise InvalidInputError(
            "you must provide one or more flags when using this command",
            hint="`lamella update --help` lists them",
        )
    async with exclusively(services, record) as fresh:
        state = await current_state(services, fresh)
        check(Operation.UPDATE, status_of(state), container_id=fresh.container_id, name=fresh.name)
        limits, policy = updated(
            update,
            container_id=fresh.container_id,
            limits=fresh.limits,
            restart_policy=fresh.restart_policy,
            is_removed_on_exit=fresh.is_removed_on_exit,
        )
        changed = replace(fresh, limits=limits, restart_policy=policy)
        await services.in_thread(check_cpusets, changed.limits)
        missing = services.cgroups.missing_limits
        warnings = limit_warnings(update.limits, missing)
        told = await carry_through(_update(services, changed, state))
    return tuple(dict.fromkeys((*warnings, *told)))


def updated(
    update: ContainerUpdate,
    *,
    container_id: str,
    limits: ResourceLimits,
    restart_policy: RestartPolicy,
    is_removed_on_exit: bool,
) -> tuple[ResourceLimits, RestartPolicy]:
    """What a container has, with what is asked for in it.

    Raises:
        InvalidInputError: It contradicts itself or what the container has; the text is Docker's.
    """
    policy = update.restart_policy
    if policy is not None:
        check_restart_policy(policy)
        if is_removed_on_exit and policy.name != "no":
            raise _conflict(
                container_id,
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
                "It was made with --rm: make it anew without",
            )
    _check_against(container_id, limits, update.limits)
    return merge_limits(limits, update.limits), policy or restart_policy


def merge_limits(current: ResourceLimits, asked: ResourceLimits) -> ResourceLimits:
    """Put what is asked for in the place of what is there; in what is asked for 0 is no limit.

    Raises:
        InvalidInputError: The limits contradict themselves or each other.
    """
    changes = {
        field.name: value
        for field in fields(ResourceLimits)
        if (value := getattr(asked, field.name)) not in (None, "")
    }
    pids = changes.pop("pids", current.pids)
    # Without a number there would be the default of a new container.
    merged = replace(current, **changes, pids=NO_LIMIT if pids is None else pids)
    check_limits(merged)
    return effective_limits(merged)


def _check_against(container_id: str, current: ResourceLimits, asked: ResourceLimits) -> None:
    swap = current.memory_swap_bytes or 0
    if asked.memory_bytes and 0 < swap < asked.memory_bytes and not asked.memory_swap_bytes:
        raise _conflict(
            container_id,
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time",
            "--memory-swap counts memory and swap together; -1 is no limit",
        )
    for what, value in (
        ("Period", current.cpu_period_microseconds),
        ("Quota", current.cpu_quota_microseconds),
    ):
        if asked.cpu_count and value:
            raise _conflict(
                container_id,
                f"Conflicting options: Nano CPUs cannot be updated as CPU {what} has already "
                "been set",
                f"--cpu-{what.lower()} 0 takes it away",
            )
    for what, value in (
        ("Period", asked.cpu_period_microseconds),
        ("Quota", asked.cpu_quota_microseconds),
    ):
        if value and current.cpu_count:
            raise _conflict(
                container_id,
                f"Conflicting options: CPU {what} cannot be updated as NanoCPUs has already "
                "been set",
                "--cpus 0 takes it away",
            )


def _conflict(container_id: str, reason: str, hint: str) -> InvalidInputError:
    return InvalidInputError(f"Cannot update container {container_id}: {reason}", hint=hint)


async def _update(
    services: ContainerServices, record: ContainerRecord, state: StateRecord
) -> tuple[str, ...]:
    warnings: tuple[str, ...] = ()
    if status_of(state) in LIVE_STATUSES:
        call = MonitorCall(
            call="update",
            cgroup=cgroup_spec(
                record.limits,
                name=record.container_id,
                mode=services.cgroups.mode,
                parent=services.cgroups.parent,
                device_rules=(),  # the monitor has them
            ),
            restart=restart_spec(record.restart_policy),
        )
        directory = services.config.container_run_directory(record.container_id)
        try:
            told = await services.runtime.call(directory, record.container_id, call)
        except (ContainerStateError, MonitorLostError):
            pass  # It has just ended: the record is all there is to change.
        except SyscallError as error:
            raise EngineError(
                f"Cannot update container {record.container_id}: {error.message}",
                hint="The container may use more than the new limit now",
            ) from None
        else:
            warnings = tuple(text for text in told.warnings if text not in state.warnings)
    await services.table.replace(record)
    services.tell("update", record)
    return warnings
