"""A container's first process, from its birth in fresh namespaces to the exec of its program.

It is a copy of the monitor, so it has every module that it needs; it imports nothing once it has
left the host's files behind.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from engine.late_dataclasses import dataclass
from engine.linux.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_SLAVE,
    pivot_into,
    set_mount_attributes,
    set_root_propagation,
)
from engine.linux.process import CLONE_NEWCGROUP, leave_namespaces, set_host_name
from engine.linux.terminal import send_terminal
from engine.runtime.mounting import attach_mounts, open_sources
from engine.runtime.namespaces import PRIVATE, join_ipc
from engine.runtime.program import (
    InheritedDescriptors,
    Step,
    die_with,
    execute,
    find_user,
    join_groups,
    make_working_directory,
    run_to_exec,
)
from engine.runtime.reaper import open_reaper
from engine.runtime.resource_limits import set_oom_score
from engine.runtime.rootfs import (
    cover_paths,
    make_staging_root,
    mount_control_groups,
    mount_kernel_filesystems,
    mount_root,
    move_kernel_filesystems,
    open_null_device,
    write_sysctls,
)

if TYPE_CHECKING:
    from engine.linux.terminal import Terminal
    from engine.runtime.spec import ContainerSpec, NamespaceSpec


def run_init(
    spec: ContainerSpec, descriptors: InheritedDescriptors, *, ipc_owner: int = -1
) -> NoReturn:
    """Become the container's program; never returns, and ends with 1 after a reported failure.

    Args:
        spec: The container's.
        descriptors: What is inherited from the monitor.
        ipc_owner: A pidfd of the process whose ipc namespace is joined; -1 for none.
    """
    run_to_exec(lambda step: _enter(spec, descriptors, ipc_owner, step), descriptors.report)


def _enter(
    spec: ContainerSpec, descriptors: InheritedDescriptors, ipc_owner: int, step: Step
) -> NoReturn:
    settle_in(spec.namespaces, step, parent=descriptors.parent, join=descriptors.join)
    become_program(spec, descriptors, ipc_owner, step)


def settle_in(namespaces: NamespaceSpec, step: Step, *, parent: int, join: tuple[int, ...]) -> None:
    """Do what needs nothing of the program: session, control groups and their namespace.

    Args:
        namespaces: The container's.
        step: For the report of a failure.
        parent: As InheritedDescriptors.
        join: As InheritedDescriptors.
    """
    step.name = "session"
    os.setsid()
    die_with(parent)
    step.name = "cgroup"
    join_groups(join)
    if namespaces.cgroup == PRIVATE:
        leave_namespaces(CLONE_NEWCGROUP)


def become_program(
    spec: ContainerSpec, descriptors: InheritedDescriptors, ipc_owner: int, step: Step
) -> NoReturn:
    """Become the program, of a process that has settled in; never returns.

    Args:
        spec: The container's.
        descriptors: What is inherited.
        ipc_owner: As `run_init`.
        step: For the report of a failure.
    """
    step.name = "cgroup"
    set_oom_score(spec.process.oom_score_adjustment)
    step.name = "namespaces"
    shared_memory = None if ipc_owner < 0 else join_ipc(ipc_owner)
    step.name = "mounts"
    sources = open_sources(spec.mounts)
    step.name = "root filesystem"
    null_device = _begin_mounting()
    root = mount_root(spec.rootfs)
    step.name = "mounts"
    terminal = mount_kernel_filesystems(root, spec, shared_memory)
    mount_control_groups(root, is_writable=spec.is_privileged)
    attach_mounts(root, sources, spec.file_mounts)
    _adjust_kernel(root, spec, null_device, step)
    _enter_root(root, spec, descriptors, terminal, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedKernel:
    """What was mounted before the root was known; both are descriptors.

    Attributes:
        root: Stands for the root: /proc, /sys and /dev are in it.
        null_device: The host's, for what is hidden.
    """

    root: int
    null_device: int


def prepare_kernel(spec: ContainerSpec, place: str, step: Step) -> PreparedKernel:
    """Do, of a process that has settled in, what depends on neither root nor program.

    It has to have its own ipc namespace, and no terminal.

    Args:
        spec: What the container will be, but for its root, its program and its mounts.
        place: An empty directory.
        step: For the report of a failure.
    """
    step.name = "cgroup"
    set_oom_score(spec.process.oom_score_adjustment)
    step.name = "mounts"
    null_device = _begin_mounting()
    prepared = make_staging_root(place)
    mount_kernel_filesystems(prepared, spec)
    mount_control_groups(prepared, is_writable=spec.is_privileged)
    _adjust_kernel(prepared, spec, null_device, step)
    return PreparedKernel(root=prepared, null_device=null_device)


def become_prepared(
    spec: ContainerSpec,
    prepared: PreparedKernel,
    descriptors: InheritedDescriptors,
    step: Step,
) -> NoReturn:
    """As `become_program`, of a process that has prepared what it could; never returns.

    Args:
        spec: The container's.
        prepared: What `prepare_kernel` gave.
        descriptors: What is inherited.
        step: For the report of a failure.
    """
    step.name = "mounts"
    sources = open_sources(spec.mounts)
    step.name = "root filesystem"
    root = mount_root(spec.rootfs)
    step.name = "mounts"
    move_kernel_filesystems(prepared.root, root)
    attach_mounts(root, sources, spec.file_mounts)
    if spec.mounts:
        # Whatever a person has mounted in /sys, say: what is hidden there stays so.
        step.name = "masked paths"
        cover_paths(root, spec.masked_paths, spec.read_only_paths, prepared.null_device)
    _enter_root(root, spec, descriptors, None, step)


def _begin_mounting() -> int:
    """Keep what is mounted from now on in this namespace; returns the host's null device."""
    os.umask(0)
    set_root_propagation(MS_SLAVE)
    return open_null_device()


def _adjust_kernel(root: int, spec: ContainerSpec, null_device: int, step: Step) -> None:
    """Set and hide what the container is to see of its kernel."""
    step.name = "host name"
    if spec.namespaces.uts == PRIVATE:
        set_host_name(spec.hostname)
    step.name = "kernel parameters"
    write_sysctls(root, spec.sysctls)
    step.name = "masked paths"
    cover_paths(root, spec.masked_paths, spec.read_only_paths, null_device)


def _enter_root(
    root: int,
    spec: ContainerSpec,
    descriptors: InheritedDescriptors,
    terminal: Terminal | None,
    step: Step,
) -> NoReturn:
    """Leave the host's files behind, and become the program."""
    process = spec.process
    step.name = "pivot"
    # From now on a module can only come from the container: there must be none to load.
    sys.meta_path.clear()
    pivot_into(root)
    step.name = "user"
    user = find_user(process)
    step.name = "working directory"
    os.umask(0o022)
    make_working_directory(process.working_directory, user)
    if spec.rootfs.is_read_only:
        set_mount_attributes(root, MOUNT_ATTR_RDONLY)
    os.close(root)
    step.name = "exec"
    streams = (descriptors.stdin, descriptors.stdout, descriptors.stderr)
    if terminal is not None:
        send_terminal(descriptors.terminal, terminal.master)
        streams = (terminal.slave,) * 3
    reaper = open_reaper() if process.has_init else -1
    execute(process, user, streams, parent=descriptors.parent, reaper=reaper)
