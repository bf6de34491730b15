"""What a person mounts into a container: bind mounts, volumes and tmpfs.

Sources are opened and cloned while the host's mounts are still as the host has them, before the
new root is there. Targets are resolved inside the new root by the kernel, and a mount is attached
to what was opened, so a link that another container swaps meanwhile leads nowhere else
(CVE-2021-30465): no path is looked at first and used later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import StartError, SyscallError
from engine.late_dataclasses import dataclass
from engine.linux.files import make_directories, open_beneath, open_in_root
from engine.linux.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SLAVE,
    attach_mount,
    clone_mount,
    new_filesystem,
    set_mount_attributes,
)
from engine.runtime.rootfs import bind_files, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.runtime.spec import FileMount, MountSpec

_MAY_BE_COVERED = (
    b"cpuinfo",
    b"diskstats",
    b"meminfo",
    b"stat",
    b"swaps",
    b"uptime",
    b"loadavg",
    b"slabinfo",
    b"sys/kernel/ns_last_pid",
    b"sys/crypto/fips_enabled",
)
"""Files of /proc that may be mounted over (runc, libcontainer/rootfs_linux.go, checkProcMount)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSource:
    """A mount that waits for its place.

    Attributes:
        mount: Detached mount of a bind mount's source; -1 for a tmpfs, which is made in place.
    """

    spec: MountSpec
    mount: int
    is_directory: bool


def open_sources(mounts: tuple[MountSpec, ...]) -> tuple[MountSource, ...]:
    """Open what is to be mounted; in the container's mount namespace, as the host left it.

    Raises:
        StartError: A source is not there, or cannot be mounted as asked for.
    """
    return tuple(
        MountSource(spec=spec, mount=-1, is_directory=True)
        if spec.kind == "tmpfs"
        else _open_layers(spec)
        if spec.kind == "layers"
        else _open_source(spec)
        for spec in mounts
    )


def _open_source(spec: MountSpec) -> MountSource:
    try:
        source = os.open(spec.source, os.O_PATH)
    except OSError as error:
        raise _source_error(spec, error) from None
    try:
        if spec.subpath:
            # A container with the volume may have put a link there (CVE-2021-25741).
            try:
                inside = open_in_root(source, os.fsencode(spec.subpath), os.O_PATH)
            except OSError as error:
                raise StartError(
                    f"cannot access path {spec.source}/{spec.subpath}: "
                    f"{(error.strerror or str(error)).lower()}",
                    exit_code=125,
                    step="mounts",
                    hint="The path below the volume's root must be there before it is mounted",
                ) from None
            os.close(source)
            source = inside
        _check_propagation(spec, source)
        try:
            mount = clone_mount("", directory=source, is_recursive=spec.is_recursive)
        except SyscallError as error:
            raise _clone_error(spec, error) from None
        _set_up(spec, mount)
        is_directory = stat.S_ISDIR(os.fstat(source).st_mode)
        return MountSource(spec=spec, mount=mount, is_directory=is_directory)
    finally:
        os.close(source)


def _open_layers(spec: MountSpec) -> MountSource:
    """Put directories together as the root's layers are, and open what is meant in them."""
    try:
        whole = _mount_layers(spec)
    except SyscallError as error:
        raise _attach_error(spec, error) from None
    try:
        inside = open_in_root(whole, os.fsencode(spec.subpath) or b".", os.O_PATH)
        try:
            mount = clone_mount("", directory=inside)
            if spec.is_read_only:
                set_mount_attributes(mount, MOUNT_ATTR_RDONLY)
            is_directory = stat.S_ISDIR(os.fstat(inside).st_mode)
        finally:
            os.close(inside)
    except (OSError, SyscallError) as error:
        raise StartError(
            f"cannot mount /{spec.subpath}: {os.strerror(error.errno or 0).lower()}",
            exit_code=125,
            step="mounts",
            hint="The source of the mount must be there",
        ) from None
    finally:
        os.close(whole)
    return MountSource(spec=spec, mount=mount, is_directory=is_directory)


def _mount_layers(spec: MountSpec) -> int:
    if len(spec.lowers) == 1 and not spec.scratch:
        return clone_mount(spec.lowers[0])
    options: list[tuple[str, str | None]] = [("source", "overlay")]
    options += [("lowerdir+", lower) for lower in spec.lowers]
    if spec.scratch:
        for name in ("upper", "work"):
            os.mkdir(f"{spec.scratch}/{name}", 0o755)
        options += [
            ("upperdir", f"{spec.scratch}/upper"),
            ("workdir", f"{spec.scratch}/work"),
        ]
    if spec.uses_user_xattrs:
        options.append(("userxattr", None))
    return new_filesystem("overlay", options)


def _set_up(spec: MountSpec, mount: int) -> None:
    # A clone is a peer of what it was made of: `shared` is what it is already.
    recursive = spec.propagation.startswith("r")
    if spec.propagation.endswith("private"):
        set_mount_attributes(mount, propagation=MS_PRIVATE, is_recursive=recursive)
    elif spec.propagation.endswith("slave"):
        set_mount_attributes(mount, propagation=MS_SLAVE, is_recursive=recursive)
    if spec.is_read_only:
        set_mount_attributes(mount, MOUNT_ATTR_RDONLY, is_recursive=spec.is_recursively_read_only)


def _source_error(spec: MountSpec, error: OSError) -> StartError:
    if isinstance(error, FileNotFoundError):
        return StartError(
            f'invalid mount config for type "bind": bind source path does not exist: {spec.source}',
            exit_code=125,
            step="mounts",
            hint="Make it first, or mount it with -v, which makes a missing directory",
        )
    reason = (error.strerror or str(error)).lower()
    return StartError(
        f'error mounting "{spec.source}" to rootfs at "{spec.target}": {reason}',
        exit_code=125,
        step="mounts",
    )


def _clone_error(spec: MountSpec, error: SyscallError) -> StartError:
    hint = ""
    if error.errno == errno.EINVAL:
        hint = (
            "The host lets this user mount it only with all that is mounted below it: leave "
            "bind-recursive=disabled out"
            if not spec.is_recursive
            else "The source is on a mount that may not be mounted again (unbindable)"
        )
    return StartError(
        f'error mounting "{spec.source}" to rootfs at "{spec.target}": '
        f"{os.strerror(error.errno).lower()}",
        exit_code=125,
        step="mounts",
        hint=hint,
    )


def _check_propagation(spec: MountSpec, source: int) -> None:
    """Refuse what the host's mount cannot give; the texts are Docker's."""
    wanted = spec.propagation.removeprefix("r")
    if wanted not in {"shared", "slave"}:
        return
    mount_point, options = _mount_of(source)
    is_shared = any(option.startswith("shared:") for option in options)
    is_slave = any(option.startswith("master:") for option in options)
    if is_shared or (wanted == "slave" and is_slave):
        return
    kind = "shared" if wanted == "shared" else "shared or slave"
    raise StartError(
        f"path {spec.source} is mounted on {mount_point} but it is not a {kind} mount",
        exit_code=125,
        step="mounts",
        hint=f"`mount --make-shared {mount_point}` on the host makes it one",
    )


def _mount_of(descriptor: int) -> tuple[str, list[str]]:
    """Where the mount is that a descriptor is on, and its propagation (proc_pid_mountinfo(5))."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8") as facts:
        wanted = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if fields[0] == wanted:
                return fields[4], fields[6 : fields.index("-")]
    return "", []


def attach_mounts(
    root: int, sources: tuple[MountSource, ...], file_mounts: tuple[FileMount, ...]
) -> None:
    """Put everything in its place below a root, parents before what is in them.

    Raises:
        StartError: A target cannot be mounted on.
    """
    if not sources:
        bind_files(root, file_mounts)
        return
    places: list[tuple[int, MountSource | FileMount]] = [
        *((_depth(source.spec.target), source) for source in sources),
        *((_depth(file_mount.target), file_mount) for file_mount in file_mounts),
    ]
    for _depth_of_place, what in sorted(places, key=lambda place: place[0]):
        if isinstance(what, MountSource):
            _attach(root, what)
        else:
            bind_files(root, (what,))


def _depth(target: str) -> int:
    return sum(1 for name in target.split("/") if name)


def _attach(root: int, source: MountSource) -> None:
    spec = source.spec
    if spec.target.startswith("/proc/") and spec.target[6:].encode() not in _MAY_BE_COVERED:
        # Said before the place is made, which cannot be done there.
        raise _inside_proc(spec)
    try:
        target, was_there = open_place(
            root, os.fsencode(spec.target), is_directory=source.is_directory
        )
        try:
            _refuse_proc(root, target, spec)
            mount = source.mount
            if mount < 0:
                # As runc: a tmpfs looks like the directory that it covers.
                mount = _new_tmpfs(
                    spec, stat.S_IMODE(os.fstat(target).st_mode) if was_there else 0o1777
                )
            try:
                attach_mount(mount, target)
            finally:
                os.close(mount)
        finally:
            os.close(target)
    except (OSError, SyscallError) as error:
        raise _attach_error(spec, error) from None


def open_place(root: int, path: bytes, *, is_directory: bool) -> tuple[int, bool]:
    """Open where something is to be mounted, made inside the root if it is missing.

    Returns:
        An O_PATH descriptor, and whether it was there.
    """
    path = path.strip(b"/")
    was_there = True
    try:
        place = open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        was_there = False
        place = make_directories(root, path) if is_directory else open_file(root, path)
    if stat.S_ISDIR(os.fstat(place).st_mode) is not is_directory:
        os.close(place)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return place, was_there


def _refuse_proc(root: int, target: int, spec: MountSpec) -> None:
    """Refuse a target in /proc, whatever links led there: programs must be able to trust it.

    Where no program will run, as in a root that is only copied from, no /proc is mounted.
    """
    # By the place: what hides a path of /proc is of another file system.
    top = f"{_place_of(root)}/proc"
    if not f"{_place_of(target)}/".startswith(f"{top}/"):
        return
    status = os.fstat(target)
    with _opened(root, b"proc") as proc:
        if os.fstat(proc).st_dev == os.fstat(root).st_dev:
            return
        for path in _MAY_BE_COVERED:
            with contextlib.suppress(OSError), _opened(proc, path) as allowed:
                if os.path.samestat(status, os.fstat(allowed)):
                    return
    raise _inside_proc(spec)


def _place_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}").rstrip("/")


def _inside_proc(spec: MountSpec) -> StartError:
    return StartError(
        f'"{spec.target}" cannot be mounted because it is inside /proc',
        exit_code=125,
        step="mounts",
        hint="Choose a target outside /proc",
    )


@contextlib.contextmanager
def _opened(directory: int, path: bytes) -> Iterator[int]:
    descriptor = open_beneath(directory, path, os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _new_tmpfs(spec: MountSpec, default_mode: int) -> int:
    options: list[tuple[str, str | None]] = [("source", "tmpfs"), ("mode", f"{default_mode:o}")]
    for option in spec.options:
        key, has_value, value = option.partition("=")
        options.append((key, value if has_value else None))
    return new_filesystem("tmpfs", options, attributes=spec.attributes)


def _attach_error(spec: MountSpec, error: OSError | SyscallError) -> StartError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    detail = ""
    if isinstance(error, SyscallError) and error.detail:
        detail = f" ({error.detail})"
    hint = ""
    exit_code = 125
    if error.errno == errno.ENOTDIR:
        exit_code = 127
        hint = (
            "Are you trying to mount a directory onto a file (or vice-versa)? Check if the "
            "specified host path exists and is the expected type"
        )
    elif error.errno == errno.EROFS:
        hint = "The target is missing and what holds it is read-only: make it beforehand"
    return StartError(
        f'error mounting "{spec.source or spec.kind}" to rootfs at "{spec.target}": '
        f"{reason}{detail}",
        exit_code=exit_code,
        step="mounts",
        hint=hint,
    )
