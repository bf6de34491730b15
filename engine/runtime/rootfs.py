"""Put a container's root filesystem together, in its own mount namespace, before its program runs.

Everything happens below a descriptor of the new root; what an image left there (links at /dev,
/proc or /etc) is resolved inside that root or refused, never followed out of it. Kinds and
options of the mounts, nodes and masks are those of Docker and Podman.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import StartError, SyscallError
from engine.linux.files import make_directories, open_beneath, open_in_root
from engine.linux.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    attach_mount,
    clone_mount,
    is_unsupported,
    mount_by_path,
    new_filesystem,
    set_mount_attributes,
)
from engine.linux.terminal import open_terminal, set_terminal_size
from engine.runtime.devices import bind_console, make_default_devices, place_devices
from engine.runtime.isolation import DEFAULT_SYSCTLS
from engine.runtime.namespaces import HOST, PRIVATE

if TYPE_CHECKING:
    from engine.linux.terminal import Terminal
    from engine.runtime.spec import ContainerSpec, FileMount, RootfsSpec

_NO_SUID_DEV_EXEC = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_TTY_GROUP = 5
_HOST_SHARED_MEMORY = "/dev/shm"


def mount_root(rootfs: RootfsSpec) -> int:
    """Attach the root filesystem at its mount point; return a descriptor of its mount."""
    target = os.open(rootfs.mount_point, os.O_PATH | os.O_DIRECTORY)
    try:
        if rootfs.kind == "copy":
            mount = clone_mount(rootfs.upper)
        else:
            try:
                mount = new_filesystem("overlay", _overlay_options(rootfs))
            except SyscallError as error:
                if not is_unsupported(error):
                    raise
                return _mount_overlay_by_links(rootfs, target)
        attach_mount(mount, target)
    finally:
        os.close(target)
    return mount


def _overlay_options(rootfs: RootfsSpec) -> list[tuple[str, str | None]]:
    options: list[tuple[str, str | None]] = [("source", "overlay")]
    options += [("lowerdir+", lower) for lower in rootfs.lowers]
    options += [("upperdir", rootfs.upper), ("workdir", rootfs.work)]
    return [*options, *_overlay_features(rootfs)]


def _overlay_features(rootfs: RootfsSpec) -> list[tuple[str, str | None]]:
    features: list[tuple[str, str | None]] = [("volatile", None)] if rootfs.is_volatile else []
    if rootfs.uses_user_xattrs:
        return [*features, ("userxattr", None)]
    # The writable layer must hold whole files and directories to be read as a layer.
    return [*features, ("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")]


def _mount_overlay_by_links(rootfs: RootfsSpec, target: int) -> int:
    """Mount the overlay on a kernel before 6.8, which takes all its layers in one page of text.

    Links with short names, in a filesystem that only this namespace sees, make room for 500
    layers, the kernel's own limit, however long their paths are.
    """
    links = new_filesystem("tmpfs", [("source", "tmpfs"), ("mode", "700")])
    attach_mount(links, target)
    names = {str(number): lower for number, lower in enumerate(rootfs.lowers)}
    for name, path in {**names, "upper": rootfs.upper, "work": rootfs.work}.items():
        os.symlink(path, name, dir_fd=links)
    os.mkdir("root", dir_fd=links)
    os.fchdir(links)
    os.close(links)
    features = [
        key if value is None else f"{key}={value}" for key, value in _overlay_features(rootfs)
    ]
    layers = [f"lowerdir={':'.join(names)}", "upperdir=upper", "workdir=work"]
    mount_by_path("overlay", "root", "overlay", ",".join([*layers, *features]))
    return os.open("root", os.O_PATH | os.O_DIRECTORY)


def open_null_device() -> int:
    """Open the host's null device (O_PATH), before any file of an image is in reach."""
    device = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW)
    if os.fstat(device).st_rdev != os.makedev(1, 3):
        raise StartError(
            "the host's /dev/null is not the null device", exit_code=125, step="devices"
        )
    return device


def mount_kernel_filesystems(
    root: int, spec: ContainerSpec, shared_memory: int | None = None
) -> Terminal | None:
    """Mount /proc, /sys, and a /dev of our own with its nodes; return the program's terminal.

    Args:
        root: The root filesystem.
        spec: The container's.
        shared_memory: A detached mount for /dev/shm that another container shares; it is closed.
    """
    _attach_at(root, b"proc", _processes(spec))
    write_protection = 0 if spec.is_privileged else MOUNT_ATTR_RDONLY
    _attach_at(root, b"sys", _system_filesystem(spec, _NO_SUID_DEV_EXEC | write_protection))
    devices = new_filesystem(
        "tmpfs",
        [("source", "tmpfs"), ("mode", "755"), ("size", "65536k")],
        attributes=MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME,
    )
    # From here on /dev is reached by this descriptor alone, so no link can be put in its place
    # (CVE-2025-52565 and its kin).
    _attach_at(root, b"dev", devices, is_kept_open=True)
    terminals = _terminals()
    terminal = open_terminal(terminals) if spec.process.has_terminal else None
    _mount_in(devices, "pts", terminals)
    if spec.namespaces.ipc == PRIVATE:
        shared_memory = _shared_memory(spec.shared_memory_bytes)
    elif spec.namespaces.ipc == HOST:
        shared_memory = clone_mount(_HOST_SHARED_MEMORY)
    if shared_memory is not None:
        _mount_in(devices, "shm", shared_memory)
    _mount_message_queues(devices, spec)
    make_default_devices(devices, is_rootless=spec.is_rootless)
    if terminal is not None:
        set_terminal_size(terminal.master, *spec.terminal_size)
        bind_console(devices, terminal.slave)
    if spec.devices:
        place_devices(root, devices, spec.devices, is_rootless=spec.is_rootless)
    os.close(devices)
    return terminal


def make_staging_root(place: str) -> int:
    """Attach what stands for a root that is not known yet; returns a descriptor of its mount."""
    root = new_filesystem("tmpfs", [("source", "tmpfs"), ("mode", "700")])
    target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        attach_mount(root, target)
    finally:
        os.close(target)
    return root


def move_kernel_filesystems(source: int, root: int) -> None:
    """Move /proc, /sys and /dev from one root, with what is mounted in them, to another.

    Args:
        source: Of `make_staging_root`; it is closed.
        root: The root filesystem.
    """
    for name in (b"proc", b"sys", b"dev"):
        _attach_at(root, name, open_beneath(source, name, os.O_PATH | os.O_DIRECTORY))
    os.close(source)


def _system_filesystem(spec: ContainerSpec, attributes: int) -> int:
    """/sys, which shows the devices of the network namespace that this process is in.

    With the host's network an ordinary user may not have a new one, and gets the host's.
    """
    if not (spec.is_rootless and spec.namespaces.network == HOST):
        return new_filesystem("sysfs", attributes=attributes)
    mount = clone_mount("/sys", is_recursive=True)
    set_mount_attributes(mount, attributes, is_recursive=True)
    return mount


def _processes(spec: ContainerSpec) -> int:
    try:
        return new_filesystem("proc", attributes=_NO_SUID_DEV_EXEC)
    except SyscallError as error:
        # The pid namespace of the host's belongs to no ordinary user.
        if error.errno != errno.EPERM or spec.namespaces.pid == PRIVATE:
            raise
        return clone_mount("/proc", is_recursive=True)


def _shared_memory(size_bytes: int) -> int:
    options = [("source", "shm"), ("mode", "1777"), ("size", str(size_bytes))]
    return new_filesystem("tmpfs", options, attributes=_NO_SUID_DEV_EXEC)


def _mount_message_queues(devices: int, spec: ContainerSpec) -> None:
    try:
        queues = new_filesystem("mqueue", attributes=_NO_SUID_DEV_EXEC)
    except SyscallError as error:
        # As above, of the ipc namespace; programs use queues without the mount too.
        if error.errno != errno.EPERM or spec.namespaces.ipc == PRIVATE:
            raise
        return
    _mount_in(devices, "mqueue", queues)


def mount_control_groups(root: int, *, is_writable: bool = False) -> None:
    """Show the container its own control groups, as the host has them (v1 or v2).

    Call inside the container's cgroup namespace. A host that does not let us mount them leaves
    the container an empty directory: nothing in a container depends on it.
    """
    with open("/proc/self/cgroup", encoding="utf-8") as own:
        hierarchies = [line.split(":", 2)[1] for line in own]
    attributes = _NO_SUID_DEV_EXEC | (0 if is_writable else MOUNT_ATTR_RDONLY)
    named = [controllers for controllers in hierarchies if controllers]
    with contextlib.suppress(SyscallError, OSError):
        if not named:
            _attach_at(root, b"sys/fs/cgroup", new_filesystem("cgroup2", attributes=attributes))
            return
        directory = new_filesystem(
            "tmpfs", [("source", "cgroup"), ("mode", "755")], attributes=_NO_SUID_DEV_EXEC
        )
        _attach_at(root, b"sys/fs/cgroup", directory, is_kept_open=True)
        try:
            for controllers in named:
                with contextlib.suppress(SyscallError):
                    _mount_hierarchy(directory, controllers, attributes)
            if "" in hierarchies:
                with contextlib.suppress(SyscallError):
                    _mount_in(
                        directory, "unified", new_filesystem("cgroup2", attributes=attributes)
                    )
        finally:
            if not is_writable:
                set_mount_attributes(directory, MOUNT_ATTR_RDONLY)
            os.close(directory)


def _mount_hierarchy(directory: int, controllers: str, attributes: int) -> None:
    if controllers.startswith("name="):
        name = controllers.removeprefix("name=")
        options: list[tuple[str, str | None]] = [("none", None), ("name", name)]
    else:
        name = controllers
        options = [(controller, None) for controller in controllers.split(",")]
    _mount_in(directory, name, new_filesystem("cgroup", options, attributes=attributes))


def bind_files(root: int, file_mounts: tuple[FileMount, ...]) -> None:
    """Bind files of the host's over paths of the container's, made if they are missing."""
    for file_mount in file_mounts:
        mount = clone_mount(file_mount.source)
        try:
            if file_mount.is_read_only:
                set_mount_attributes(mount, MOUNT_ATTR_RDONLY)
            target = open_file(root, os.fsencode(file_mount.target.lstrip("/")))
            try:
                attach_mount(mount, target)
            finally:
                os.close(target)
        finally:
            os.close(mount)


def open_file(root: int, path: bytes) -> int:
    """Open an existing file inside the root as a place to mount on, or make an empty one."""
    with contextlib.suppress(FileNotFoundError):
        return open_in_root(root, path, os.O_PATH)
    parent, _, _ = path.rpartition(b"/")
    os.close(make_directories(root, parent))
    # A dangling link in the place of the file is followed, inside the root, as Docker does.
    os.close(open_in_root(root, path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, mode=0o644))
    return open_in_root(root, path, os.O_PATH)


def cover_paths(
    root: int, masked: tuple[str, ...], read_only: tuple[str, ...], null_device: int
) -> None:
    """Hide paths of /proc and /sys from the container, and take write access from others.

    A file is covered by the host's null device, which was opened and verified before the root
    could interfere (CVE-2025-31133); a directory by one empty, read-only tmpfs, bound to all.
    """
    for path in read_only:
        for target in _existing(root, path):
            mount = clone_mount("", directory=target, is_recursive=True)
            set_mount_attributes(mount, MOUNT_ATTR_RDONLY, is_recursive=True)
            attach_mount(mount, target)
            os.close(mount)
            os.close(target)
    empty: int | None = None
    for path in masked:
        for target in _existing(root, path):
            if not stat.S_ISDIR(os.fstat(target).st_mode):
                mount = clone_mount("", directory=null_device)
            elif empty is None:
                mount = empty = _empty_directory()
            else:
                mount = clone_mount("", directory=empty)
            attach_mount(mount, target)
            os.close(target)
            if mount != empty:
                os.close(mount)
    if empty is not None:
        os.close(empty)


def _existing(root: int, path: str) -> list[int]:
    """A descriptor of a path of /proc or /sys that this kernel has, or nothing."""
    try:
        return [open_beneath(root, os.fsencode(path.lstrip("/")), os.O_PATH)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _empty_directory() -> int:
    limits: list[tuple[str, str | None]] = [("nr_blocks", "1"), ("nr_inodes", "1")]
    attributes = _NO_SUID_DEV_EXEC | MOUNT_ATTR_RDONLY
    try:
        return new_filesystem("tmpfs", [("source", "tmpfs"), *limits], attributes=attributes)
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        # One inode is not enough for the root on some older kernels.
        limits[1] = ("nr_inodes", "2")
        return new_filesystem("tmpfs", [("source", "tmpfs"), *limits], attributes=attributes)


def write_sysctls(root: int, sysctls: tuple[tuple[str, str], ...]) -> None:
    """Set kernel parameters of the container's own namespaces, before /proc/sys is covered.

    Raises:
        StartError: The kernel does not have one, or refuses its value.
    """
    for name, value in sysctls:
        path = os.fsencode("proc/sys/" + name.replace(".", "/"))
        try:
            descriptor = open_beneath(root, path, os.O_WRONLY)
            try:
                os.write(descriptor, value.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            # A kernel without IPv4, say, has nothing that a default could open up.
            if isinstance(error, FileNotFoundError) and name in DEFAULT_SYSCTLS:
                continue
            reason = (error.strerror or str(error)).lower()
            raise StartError(
                f"cannot set sysctl {name}={value}: {reason}", exit_code=125, step="network"
            ) from None


def _attach_at(root: int, path: bytes, mount: int, *, is_kept_open: bool = False) -> None:
    """Attach a mount on a directory of the root that is no link, made if it is missing."""
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        try:
            target = open_beneath(root, path, flags)
        except FileNotFoundError:
            os.mkdir(path, 0o755, dir_fd=root)
            target = open_beneath(root, path, flags)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        raise StartError(
            f"the image's /{os.fsdecode(path)} is not a directory",
            exit_code=125,
            step="mounts",
            hint="A container needs /proc, /sys and /dev as directories; links are not followed",
        ) from None
    try:
        attach_mount(mount, target)
    finally:
        os.close(target)
        if not is_kept_open:
            os.close(mount)


def _mount_in(directory: int, name: str, mount: int) -> None:
    """Make a directory in a mount of our own and attach another one there."""
    os.mkdir(name, 0o755, dir_fd=directory)
    target = open_beneath(directory, name.encode(), os.O_PATH | os.O_DIRECTORY)
    try:
        attach_mount(mount, target)
    finally:
        os.close(target)
        os.close(mount)


def _terminals() -> int:
    options: list[tuple[str, str | None]] = [
        ("newinstance", None),
        ("ptmxmode", "0666"),
        ("mode", "0620"),
    ]
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC
    try:
        return new_filesystem("devpts", [*options, ("gid", str(_TTY_GROUP))], attributes=attributes)
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        # The group is not mapped in a user namespace with a single id.
        return new_filesystem("devpts", options, attributes=attributes)
