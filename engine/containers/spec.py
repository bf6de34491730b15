"""From a container's record to what its monitor is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.containers.attributes import attribute_warnings, resource_limits
from engine.containers.devices import device_rules, find_devices
from engine.containers.limits import cgroup_spec
from engine.containers.mounts import mount_specs
from engine.containers.namespaces import namespace_spec
from engine.containers.network_files import network_file_mounts
from engine.containers.policies import health_spec, restart_spec
from engine.containers.privileges import (
    available_capabilities,
    hidden_paths,
    resolve_capabilities,
    seccomp_filter,
)
from engine.network.attachments import JOIN, is_shared_namespace
from engine.runtime.isolation import (
    DEFAULT_SHARED_MEMORY_BYTES,
    DEFAULT_UMASK,
    default_sysctls,
    parse_signal,
)
from engine.runtime.spec import (
    SPEC_VERSION,
    ContainerSpec,
    LogSpec,
    ProcessSpec,
)

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.runtime.spec import FileMount, RootfsSpec

LOG_FILE = "log"
LOG_FILE_BYTES = 64 << 20
LOG_FILE_COUNT = 5


def build_spec(
    record: ContainerRecord,
    *,
    config: EngineConfig,
    rootfs: RootfsSpec,
    cgroup_mode: str,
    cgroup_parent: str,
    is_rootless: bool,
    has_seccomp: bool,
) -> ContainerSpec:
    """Put together everything that the monitor needs; a few milliseconds the first time.

    Blocking: devices of the host's are looked up.

    Raises:
        InvalidInputError: An option asks for what the host does not have now.
    """
    directory = config.container_directory(record.container_id)
    options = record.options
    devices = find_devices(options)
    masked, read_only = hidden_paths(options)
    return ContainerSpec(
        version=SPEC_VERSION,
        container_id=record.container_id,
        name=record.name,
        image=record.image,
        container_directory=str(directory),
        run_directory=str(config.container_run_directory(record.container_id)),
        events_path=str(config.events_path),
        hostname=record.hostname,
        is_rootless=is_rootless,
        rootfs=rootfs,
        process=_process(record, is_rootless=is_rootless, has_seccomp=has_seccomp),
        cgroup=cgroup_spec(
            record.limits,
            name=record.container_id,
            mode=cgroup_mode,
            parent=cgroup_parent,
            device_rules=device_rules(options, devices),
        ),
        log=LogSpec(
            path=str(directory / LOG_FILE), file_bytes=LOG_FILE_BYTES, file_count=LOG_FILE_COUNT
        ),
        file_mounts=_file_mounts(config, record),
        mounts=mount_specs(config, record),
        masked_paths=masked,
        read_only_paths=read_only,
        sysctls=_sysctls(record, is_rootless=is_rootless),
        shared_memory_bytes=options.shared_memory_bytes or DEFAULT_SHARED_MEMORY_BYTES,
        stop_signal=parse_signal(record.stop_signal),
        stop_timeout_seconds=record.stop_timeout_seconds,
        restart=restart_spec(record.restart_policy),
        health=health_spec(record.health),
        labels=record.labels,
        is_stdin_open=record.is_stdin_open,
        is_stdin_closed_with_session=record.is_stdin_closed_with_session,
        namespaces=namespace_spec(options, config),
        devices=devices,
        is_privileged=options.is_privileged,
        warnings=attribute_warnings(options),
    )


def _file_mounts(config: EngineConfig, record: ContainerRecord) -> tuple[FileMount, ...]:
    """Ours, but for those whose place is taken by a mount that was asked for."""
    taken = {mount.target for mount in record.mounts}
    mode = record.network.mode
    # Who shares a network shares what its files say of it.
    owner = mode.removeprefix(JOIN) if mode.startswith(JOIN) else record.container_id
    mounts = network_file_mounts(
        config.container_directory(owner), is_read_only=record.is_read_only
    )
    return tuple(mount for mount in mounts if mount.target not in taken)


def _process(record: ContainerRecord, *, is_rootless: bool, has_seccomp: bool) -> ProcessSpec:
    options = record.options
    capabilities = resolve_capabilities(options, available_capabilities(is_rootless=is_rootless))
    return ProcessSpec(
        arguments=record.arguments,
        environment=record.environment,
        working_directory=record.working_directory,
        user=record.user,
        capabilities=tuple(sorted(capabilities)),
        has_no_new_privileges=options.has_no_new_privileges,
        umask=DEFAULT_UMASK,
        seccomp_filter=seccomp_filter(options, capabilities) if has_seccomp else "",
        has_init=record.has_init,
        has_terminal=record.has_terminal,
        groups=options.group_add,
        resource_limits=resource_limits(options),
        oom_score_adjustment=options.oom_score_adjustment,
    )


def _sysctls(record: ContainerRecord, *, is_rootless: bool) -> tuple[tuple[str, str], ...]:
    defaults = dict(default_sysctls(is_rootless=is_rootless))
    if is_shared_namespace(record.network.mode):
        # They would be set for others too.
        defaults = {name: value for name, value in defaults.items() if not name.startswith("net.")}
    return tuple((defaults | dict(record.options.sysctls)).items())
