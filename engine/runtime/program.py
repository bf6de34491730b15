"""How a process that is inside a container becomes the program: user, directory, privileges, exec.

A container's init and an exec both end here. Nothing is imported any more: a module could only
come from the container. What fails is reported with the step it failed in; silence (the report's
pipe closed by exec) means that the program runs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import stat
from typing import TYPE_CHECKING, NoReturn

from engine.errors import EngineError, StartError
from engine.late_dataclasses import dataclass
from engine.linux.capabilities import (
    clear_ambient,
    drop_bounding,
    set_no_new_privileges,
    set_parent_death_signal,
    set_process_capabilities,
)
from engine.linux.process import close_descriptors_on_exec
from engine.linux.seccomp import load_filter
from engine.linux.terminal import take_terminal
from engine.runtime.isolation import ResolvedUser, find_executable, resolve_user
from engine.runtime.protocol import InitFailure
from engine.runtime.reaper import leave_reaper_behind
from engine.runtime.records import decode_record, encode_record
from engine.runtime.resource_limits import set_resource_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.spec import ProcessSpec

_LARGEST_ACCOUNT_FILE_BYTES = 1 << 20
_RESET_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedDescriptors:
    """What a process on its way to a program has from its parent, all close-on-exec.

    Attributes:
        stdin: Becomes descriptor 0; -1, like the next two, when a terminal takes their place.
        stdout: Becomes descriptor 1.
        stderr: Becomes descriptor 2.
        terminal: A socket to send the terminal's own end over; -1 without a terminal.
        report: Write end of the report's pipe.
        parent: A pidfd of the parent, with which the program dies.
        join: `tasks` files of the container's v1 control groups.
    """

    stdin: int
    stdout: int
    stderr: int
    terminal: int
    report: int
    parent: int
    join: tuple[int, ...]


class Step:
    """What is being done, for the report of a failure."""

    name = "birth"


def run_to_exec(enter: Callable[[Step], NoReturn], report: int) -> NoReturn:
    """Do what ends in an exec; never returns, and ends with 1 after a reported failure."""
    step = Step()
    try:
        enter(step)
    except StartError as error:
        _report(report, step, error.message, error.exit_code, hint=error.hint)
    except (EngineError, OSError, ValueError) as error:
        _report(report, step, f"cannot set up the {step.name}: {error}", 125)
    except BaseException as error:  # nothing else would ever tell of it
        _report(report, step, f"{type(error).__name__}: {error}", 125)
    os._exit(1)


def _report(report: int, step: Step, message: str, exit_code: int, *, hint: str = "") -> None:
    failure = InitFailure(step=step.name, message=message, exit_code=exit_code, hint=hint)
    with contextlib.suppress(OSError):
        os.write(report, encode_record(failure))


def wait_for_exec(report: int) -> None:
    """Return when the report of a process on its way has ended, which its exec does.

    Raises:
        StartError: It reported that the program cannot be started.
    """
    failure = b""
    while chunk := os.read(report, 65536):
        failure += chunk
    os.close(report)
    if failure:
        told = decode_record(InitFailure, failure)
        raise StartError(told.message, exit_code=told.exit_code, step=told.step, hint=told.hint)


def join_groups(join: tuple[int, ...]) -> None:
    """Move this process into the container's v1 control groups.

    By itself, and as a single thread, it is spared the kernel's wait for a grace period that
    writing another process's id costs (cgroup_attach_lock).
    """
    for tasks in join:
        os.write(tasks, b"0")
        os.close(tasks)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; an init takes its container along."""
    set_parent_death_signal(signal.SIGKILL)
    # It may have ended before the request was in place.
    watch = select.poll()
    watch.register(parent, select.POLLIN)
    if watch.poll(0):
        os._exit(1)


def find_user(process: ProcessSpec) -> ResolvedUser:
    """Look the user up in the container's own account files.

    Raises:
        StartError: There is none of that name.
    """
    passwd, group = _account_file("/etc/passwd"), _account_file("/etc/group")
    return resolve_user(process.user, passwd, group, process.groups)


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


def make_working_directory(path: str, user: ResolvedUser) -> None:
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


def execute(
    process: ProcessSpec,
    user: ResolvedUser,
    streams: tuple[int, int, int],
    *,
    parent: int,
    reaper: int = -1,
) -> NoReturn:
    """Exec the program; never returns.

    Args:
        process: The program and what it may do.
        user: Whom it runs as.
        streams: What become its descriptors 0, 1 and 2; three times the same is its terminal.
        parent: A pidfd of the parent, with which it dies.
        reaper: What `open_reaper` gave: this process becomes that, and a child the program.

    Raises:
        StartError: It cannot be executed.
    """
    environment = _environment(process, user)
    if process.has_terminal:
        take_terminal(streams[0])
    for descriptor in set(streams[1:]):
        # /dev/stdout can be opened again by the user only if the pipe is his.
        with contextlib.suppress(OSError):
            os.fchown(descriptor, user.uid, user.gid)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.umask(process.umask)
    with contextlib.suppress(OSError):
        os.chdir(process.working_directory)
    set_resource_limits(process.resource_limits)
    _drop_privileges(process, user)
    _check_directory(process.working_directory)
    # The kernel forgets the parent death signal when ids change.
    die_with(parent)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    close_descriptors_on_exec(3)
    if reaper >= 0:
        leave_reaper_behind(reaper, has_terminal=process.has_terminal)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    variables = dict(variable.split("=", 1) for variable in environment)
    executable = find_executable(process.arguments[0], variables.get("PATH", ""))
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
        with open("/proc/self/setgroups", encoding="utf-8") as setting:
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
