"""A container's first process, from its birth in fresh namespaces to the exec of its program.

It is a copy of the monitor, so it has every module that it needs; it imports nothing once it has
left the host's files behind. What fails is reported to the monitor with the step it failed in;
silence (the report's pipe closed by exec) means that the program runs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from engine.errors import EngineError, StartError
from engine.linux.capabilities import (
    clear_ambient,
    drop_bounding,
    set_no_new_privileges,
    set_parent_death_signal,
    set_process_capabilities,
)
from engine.linux.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_SLAVE,
    pivot_into,
    set_mount_attributes,
    set_root_propagation,
)
from engine.linux.process import (
    CLONE_NEWCGROUP,
    close_descriptors_on_exec,
    leave_namespaces,
    set_host_name,
)
from engine.linux.seccomp import load_filter
from engine.runtime.isolation import ResolvedUser, find_executable, resolve_user
from engine.runtime.protocol import InitFailure
from engine.runtime.records import encode_record
from engine.runtime.rootfs import (
    bind_files,
    cover_paths,
    mount_control_groups,
    mount_kernel_filesystems,
    mount_root,
    open_null_device,
    raise_loopback,
    write_sysctls,
)

if TYPE_CHECKING:
    from engine.runtime.spec import ContainerSpec, ProcessSpec

_LARGEST_ACCOUNT_FILE_BYTES = 1 << 20
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitDescriptors:
    """What a container's init inherits.

    Attributes:
        stdin: Becomes descriptor 0.
        stdout: Becomes descriptor 1.
        stderr: Becomes descriptor 2.
        report: Write end of the report's pipe, close-on-exec.
        monitor: A pidfd of the monitor.
        join: `tasks` files of the container's v1 control groups.
    """

    stdin: int
    stdout: int
    stderr: int
    report: int
    monitor: int
    join: tuple[int, ...]


class _Step:
    """What is being done, for the report of a failure."""

    name = "birth"


def run_init(spec: ContainerSpec, descriptors: InitDescriptors) -> NoReturn:
    """Become the container's program; never returns, and ends with 1 after a reported failure."""
    step = _Step()
    try:
        _enter(spec, descriptors, step)
    except StartError as error:
        _report(descriptors, step, error.message, error.exit_code)
    except (EngineError, OSError, ValueError) as error:
        _report(descriptors, step, f"cannot set up the {step.name}: {error}", 125)
    except BaseException as error:  # nothing else would ever tell of it
        _report(descriptors, step, f"{type(error).__name__}: {error}", 125)
    os._exit(1)


def _report(descriptors: InitDescriptors, step: _Step, message: str, exit_code: int) -> None:
    failure = InitFailure(step=step.name, message=message, exit_code=exit_code)
    with contextlib.suppress(OSError):
        os.write(descriptors.report, encode_record(failure))


def _enter(spec: ContainerSpec, descriptors: InitDescriptors, step: _Step) -> NoReturn:
    process = spec.process
    step.name = "session"
    os.setsid()
    _die_with(descriptors.monitor)
    step.name = "cgroup"
    for tasks in descriptors.join:
        # Joining by itself, and as a single thread, spares it the kernel's wait for a grace
        # period that writing another process's id costs (cgroup_attach_lock).
        os.write(tasks, b"0")
        os.close(tasks)
    leave_namespaces(CLONE_NEWCGROUP)
    step.name = "root filesystem"
    os.umask(0)
    set_root_propagation(MS_SLAVE)
    null_device = open_null_device()
    root = mount_root(spec.rootfs)
    step.name = "mounts"
    mount_kernel_filesystems(root, spec)
    mount_control_groups(root)
    bind_files(root, spec.file_mounts)
    step.name = "network"
    raise_loopback()
    set_host_name(spec.hostname)
    write_sysctls(root, spec.sysctls)
    step.name = "masked paths"
    cover_paths(root, spec.masked_paths, spec.read_only_paths, null_device)
    step.name = "pivot"
    # From now on a module can only come from the container: there must be none to load.
    sys.meta_path.clear()
    pivot_into(root)
    step.name = "user"
    user = resolve_user(process.user, _account_file("/etc/passwd"), _account_file("/etc/group"))
    step.name = "working directory"
    os.umask(0o022)
    _make_working_directory(process.working_directory, user)
    if spec.rootfs.is_read_only:
        set_mount_attributes(root, MOUNT_ATTR_RDONLY)
    os.close(root)
    step.name = "exec"
    _execute(process, user, descriptors, step)


def _die_with(monitor: int) -> None:
    """Let the kernel kill this process, and with it the container, when the monitor ends."""
    set_parent_death_signal(signal.SIGKILL)
    # It may have ended before the request was in place.
    watch = select.poll()
    watch.register(monitor, select.POLLIN)
    if watch.poll(0):
        os._exit(1)


def _account_file(path: str) -> bytes:
    """Read /etc/passwd or /etc/group of the container: hostile, and often missing.

    A FIFO would block for ever and a device could do anything (CVE-2024-9676).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, _LARGEST_ACCOUNT_FILE_BYTES)
    finally:
        os.close(descriptor)


def _make_working_directory(path: str, user: ResolvedUser) -> None:
    """Make the working directory if the image does not have it, owned by the user."""
    if os.path.isdir(path):
        return
    made = ""
    for name in path.split("/"):
        made = f"{made}/{name}" if name else made
        if not made:
            continue
        try:
            os.mkdir(made, 0o755)
            os.chown(made, user.uid, user.gid)
        except FileExistsError:
            pass
        except OSError as error:
            raise StartError(
                f"cannot make the working directory {path}: {error.strerror}",
                exit_code=125,
                step="working directory",
            ) from None


def _execute(
    process: ProcessSpec, user: ResolvedUser, descriptors: InitDescriptors, step: _Step
) -> NoReturn:
    environment = _environment(process, user)
    for descriptor in (descriptors.stdout, descriptors.stderr):
        # /dev/stdout can be opened again by the user only if the pipe is his.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, user.uid, user.gid)
    os.dup2(descriptors.stdin, 0)
    os.dup2(descriptors.stdout, 1)
    os.dup2(descriptors.stderr, 2)
    os.umask(process.umask)
    with contextlib.suppress(OSError):
        os.chdir(process.working_directory)
    _drop_privileges(process, user)
    _check_directory(process.working_directory)
    # The kernel forgets the parent death signal when ids change.
    _die_with(descriptors.monitor)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    variables = dict(variable.split("=", 1) for variable in environment)
    executable = find_executable(process.arguments[0], variables.get("PATH", ""))
    close_descriptors_on_exec(3)
    try:
        os.execve(executable, process.arguments, variables)
    except OSError as error:
        raise _exec_failure(process.arguments[0], error) from None


def _environment(process: ProcessSpec, user: ResolvedUser) -> tuple[str, ...]:
    for variable in process.environment:
        name, _, value = variable.partition("=")
        if name == "HOME" and value:
            return process.environment
    kept = tuple(item for item in process.environment if not item.startswith("HOME="))
    return (*kept, f"HOME={user.home or '/'}")


def _drop_privileges(process: ProcessSpec, user: ResolvedUser) -> None:
    """Give up what the program may not have, in an order in which each step is still allowed.

    Without no_new_privs the filter needs CAP_SYS_ADMIN, so it is loaded before the capabilities
    go; with it, last.
    """
    capabilities = frozenset(process.capabilities)
    program = base64.b64decode(process.seccomp_filter)
    clear_ambient()
    drop_bounding(capabilities)
    if program and not process.has_no_new_privileges:
        load_filter(program)
    try:
        os.setgroups(user.groups)
    except PermissionError:
        # A user namespace with a single id denies it, and has no groups to give.
        if _can_set_groups():
            raise
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    # The kernel has cleared the sets of a user who is not 0; the bounding set stays.
    if user.uid == 0:
        set_process_capabilities(capabilities)
    if process.has_no_new_privileges:
        set_no_new_privileges()
        if program:
            load_filter(program)


def _can_set_groups() -> bool:
    try:
        with open("/proc/self/setgroups", encoding="ascii") as setting:
            return setting.read().strip() != "deny"
    except OSError:
        return True


def _check_directory(path: str) -> None:
    """Be in the working directory, and make sure that it is inside the root.

    The user may be unable to enter what root has already entered; the program then starts there
    all the same, as in Docker. A descriptor of the host's that leaked in could lead out of the
    root (CVE-2024-21626).
    """
    try:
        with contextlib.suppress(PermissionError):
            os.chdir(path)
        current = os.getcwd()
        is_inside = current == path or os.path.samefile(current, path)
    except PermissionError:
        is_inside = False
    except OSError as error:
        raise StartError(
            f"cannot enter the working directory {path}: {error.strerror}",
            exit_code=127,
            step="working directory",
        ) from None
    if not is_inside:
        raise StartError(
            f"cannot enter the working directory {path}: permission denied",
            exit_code=126,
            step="working directory",
        )


def _exec_failure(command: str, error: OSError) -> StartError:
    missing = isinstance(error, FileNotFoundError)
    reason = error.strerror or str(error)
    hint = (
        "The file is there: the interpreter or the dynamic loader that it names is not"
        if missing
        else ""
    )
    return StartError(
        f'exec: "{command}": {reason.lower()}',
        exit_code=127 if missing else 126,
        step="exec",
        hint=hint,
    )
