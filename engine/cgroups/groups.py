"""Make a container's control group with its limits, and find those that exist.

Blocking, standard library alone: monitors use it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from engine.cgroups.control_files import open_directory, read_text, write_lines, write_text
from engine.cgroups.group import Cgroup as Cgroup
from engine.cgroups.host import SESSION_NAME, CgroupHost, Hierarchy, read_hierarchies
from engine.cgroups.limit_files import write_limits
from engine.errors import SyscallError
from engine.linux.device_filter import attach_device_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.cgroups.limits import CgroupSpec, DeviceRule

_ATTEMPTS = 20
_WANTED_ON_V2 = ("memory", "cpu", "pids", "io", "cpuset")


def join_self(descriptors: Iterable[int]) -> None:
    """Move this process, which has one thread, into the groups of open `tasks` files."""
    for descriptor in descriptors:
        os.write(descriptor, b"0")


def create_group(host: CgroupHost, spec: CgroupSpec) -> Cgroup:
    """Make a container's group with its limits.

    The caller holds the container's lock, so what is in a group of that name is left over from
    a run whose monitor died: it is killed and removed. A limit whose controller is missing makes
    a warning; a host without usable groups gives one without directories.

    Raises:
        SyscallError: A directory could not be made, or the kernel refused a limit's value. Then
            nothing is left.
    """
    group = Cgroup(
        [(tree, f"{_parent(host, tree, spec)}/{spec.name}") for tree in host.hierarchies]
    )
    try:
        for tree, path in group.directories:
            _make(tree, path, group)
        warnings = write_limits(group, spec)
        if spec.device_rules:
            warnings += _limit_devices(group, spec.device_rules)
    except BaseException:
        with contextlib.suppress(SyscallError):
            group.destroy(timeout_seconds=0)
        raise
    group.warnings = tuple(warnings)
    return group


def open_group(paths: Sequence[str]) -> Cgroup:
    """The group that has these directories (`Cgroup.paths`), whether they still exist or not."""
    trees = sorted(read_hierarchies(), key=lambda tree: -len(tree.mount_point))
    found: list[tuple[Hierarchy, str]] = []
    for path in paths:
        tree = next((tree for tree in trees if path.startswith(tree.mount_point + "/")), None)
        if tree is not None:
            found.append((tree, path))
    return Cgroup(found)


def find_leftovers(host: CgroupHost, known_names: frozenset[str]) -> tuple[Cgroup, ...]:
    """Groups below our parent whose name (container id) is not among those known.

    A container that another process starts now may be among them: take its lock before
    destroying one.
    """
    directories: dict[str, list[tuple[Hierarchy, str]]] = {}
    for tree in host.hierarchies:
        with contextlib.suppress(OSError):
            for entry in os.scandir(tree.parent):
                if entry.is_dir(follow_symlinks=False) and entry.name not in known_names:
                    directories.setdefault(entry.name, []).append((tree, entry.path))
    return tuple(Cgroup(found) for _, found in sorted(directories.items()))


# --- making -----------------------------------------------------------------------------------


def _parent(host: CgroupHost, tree: Hierarchy, spec: CgroupSpec) -> str:
    if not spec.parent or spec.parent == host.parent:
        return tree.parent
    return tree.directory(spec.parent)


def _make(tree: Hierarchy, path: str, group: Cgroup) -> None:
    parent = os.path.dirname(path)
    for _ in range(_ATTEMPTS):
        try:
            os.mkdir(path, 0o755)
        except FileNotFoundError:
            # Not there yet, or removed a moment ago by whoever removed the last container.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.makedirs(parent, 0o755)
            _prepare_parent(tree, parent)
        except FileExistsError:
            group.kill_all()
            group.destroy()
        except OSError as error:
            raise SyscallError("mkdir", error.errno or 0, path) from None
        else:
            if "cpuset" in tree.controllers and tree.version == 1:
                _fill_cpuset(tree, path)
            elif tree.version == 2:
                _enable_controllers(parent)
            return
    raise SyscallError("mkdir", errno.EAGAIN, path)


def _prepare_parent(tree: Hierarchy, parent: str) -> None:
    if tree.version == 2:
        _enable_controllers(os.path.dirname(parent))
    elif "cpuset" in tree.controllers:
        with contextlib.suppress(SyscallError):
            _fill_cpuset(tree, parent)


def _fill_cpuset(tree: Hierarchy, path: str) -> None:
    """Copy processors and memory nodes from the group above: v1 lets nobody join without.

    Whoever made the group above may not have come so far yet, so it is filled first.
    """
    above = os.path.dirname(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if read_text(f"{path}/{name}").strip():
            continue
        if above.startswith(tree.mount_point + "/"):
            _fill_cpuset(tree, above)
        write_text(f"{path}/{name}", read_text(f"{above}/{name}").strip())


def _enable_controllers(directory: str) -> None:
    """Pass on what the group has to the groups below it, as far as the kernel lets us.

    A group with processes of its own may not (cgroup-v2.rst, no internal processes): the first
    time, those move into a leaf beside ours.
    """
    control = f"{directory}/cgroup.subtree_control"
    enabled = read_text(control).split()
    available = read_text(f"{directory}/cgroup.controllers").split()
    for name in _WANTED_ON_V2:
        if name not in available or name in enabled:
            continue
        try:
            write_text(control, f"+{name}")
        except SyscallError as error:
            if error.errno == errno.EBUSY and _vacate(directory):
                with contextlib.suppress(SyscallError):
                    write_text(control, f"+{name}")


def _vacate(directory: str) -> bool:
    leaf = f"{directory}/{SESSION_NAME}"
    try:
        os.makedirs(leaf, 0o755, exist_ok=True)
        for word in read_text(f"{directory}/cgroup.procs").split():
            write_text(f"{leaf}/cgroup.procs", word)
    except (OSError, SyscallError):
        return False
    return True


def _device_line(rule: DeviceRule) -> str:
    major = "*" if rule.major < 0 else rule.major
    minor = "*" if rule.minor < 0 else rule.minor
    return f"{rule.kind} {major}:{minor} {rule.access}"


def _limit_devices(group: Cgroup, rules: Sequence[DeviceRule]) -> list[str]:
    path = group.path_of("devices")
    if path is not None:
        write_text(f"{path}/devices.deny", "a")
        write_lines(f"{path}/devices.allow", [_device_line(rule) for rule in rules])
        group.filters_devices = True
        return []
    unified = group.unified_path
    # An ordinary user may not load the program, and cannot make device nodes that work either.
    if unified is None or os.geteuid() != 0:
        return []
    descriptor = open_directory(unified)
    try:
        attach_device_filter(descriptor, rules)
    except SyscallError as error:
        if error.errno not in {errno.EPERM, errno.ENOSYS}:
            raise
        return [f"devices are not filtered: {error}"]
    finally:
        os.close(descriptor)
    group.filters_devices = True
    return []
