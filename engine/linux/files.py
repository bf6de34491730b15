"""Paths below a directory, resolved by the kernel so that nothing in there can lead out.

Everything here works on descriptors of directories. `open_beneath` follows no symbolic link at
all, `open_in_root` follows them as a chroot would. Both are one openat2 call; where the kernel
(before 5.6) or a seccomp filter does not give it, `walk_open` does the same one name at a time
with descriptors that cannot be swapped. Never check a path first and open it later.

Like the functions of `os` that they stand beside, these raise OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from ctypes import c_uint64

from engine.errors import SyscallError
from engine.linux.libc import syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_FICLONE = 0x40049409
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000
_FILE_FLAGS = struct.Struct("@i")
_SYNC_FILE_RANGE_WRITE = 2
_LINK_LIMIT = 40  # the kernel's MAXSYMLINKS
_RETRY_LIMIT = 128
_LONGEST_PATH_BYTES = 4000  # below PATH_MAX with its NUL
_COPY_BYTES = 1 << 20


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


class _Support:
    """Whether openat2 works here; found out by the first call."""

    has_openat2 = True


def open_beneath(
    directory: int, path: bytes, flags: int, *, mode: int = 0, may_cross_mounts: bool = True
) -> int:
    """Open a path below `directory` without following any link; blocking.

    Raises:
        OSError: ELOOP for a link in the path (also the last name), EXDEV for a path that is
            absolute or climbs above the directory, and what open(2) gives.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    if not may_cross_mounts:
        resolve |= RESOLVE_NO_XDEV
    return _open(directory, path, flags, mode, resolve)


def open_in_root(root: int, path: bytes, flags: int, *, mode: int = 0) -> int:
    """Open a path as a process whose root is `root` would see it; blocking.

    Absolute links and `..` stay inside. O_NOFOLLOW concerns the last name only, as in open(2).
    """
    return _open(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def _open(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    if not _Support.has_openat2:
        return walk_open(directory, path, flags, mode=mode, resolve=resolve)
    # The kernel refuses a mode without O_CREAT, where open(2) ignores it.
    is_creating = flags & os.O_CREAT or (flags & os.O_TMPFILE) == os.O_TMPFILE
    how = _OpenHow(flags | os.O_CLOEXEC, mode if is_creating else 0, resolve)
    for _ in range(_RETRY_LIMIT):
        try:
            return syscall(
                "openat2", directory, path or b".", ctypes.byref(how), ctypes.sizeof(how)
            )
        except SyscallError as error:
            if error.errno == errno.EAGAIN:
                # A rename raced with `..`: the kernel could not prove where it stands.
                continue
            if error.errno == errno.ENOSYS:
                _Support.has_openat2 = False
                return walk_open(directory, path, flags, mode=mode, resolve=resolve)
            raise OSError(error.errno, os.strerror(error.errno), path) from None
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


class _Walk:
    """One resolution in progress: the directories from the root down to where it stands."""

    def __init__(self, directory: int, path: bytes, resolve: int) -> None:
        self.path = path
        self.resolve = resolve
        self.links = 0
        if path.startswith(b"/") and resolve & RESOLVE_BENEATH:
            raise self.error(errno.EXDEV)
        self.descriptors = [os.open(b".", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)]
        self.device = os.fstat(self.descriptors[0]).st_dev
        self.pending: list[bytes] = []
        self.push(path)

    def error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), self.path)

    def push(self, path: bytes) -> None:
        """Put a path, or a link's target, before what is still to be walked."""
        if path.startswith(b"/"):
            if self.resolve & RESOLVE_BENEATH:
                raise self.error(errno.EXDEV)
            while len(self.descriptors) > 1:
                os.close(self.descriptors.pop())
        names = path.split(b"/")
        if names[-1] == b"" and len(names) > 1:
            names[-1] = b"."  # a trailing slash asks for a directory
        self.pending.extend(name for name in reversed(names) if name)

    def follow(self, link: int) -> None:
        """Go on with a link's target instead of its name; `link` is an O_PATH descriptor."""
        self.links += 1
        if self.links > _LINK_LIMIT or self.resolve & RESOLVE_NO_SYMLINKS:
            raise self.error(errno.ELOOP)
        self.push(os.readlink(b"", dir_fd=link))

    def climb(self) -> None:
        if len(self.descriptors) > 1:
            os.close(self.descriptors.pop())
        elif self.resolve & RESOLVE_BENEATH:
            raise self.error(errno.EXDEV)

    def descend(self, name: bytes) -> None:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.descriptors[-1])
        try:
            status = os.fstat(descriptor)
            if stat.S_ISLNK(status.st_mode):
                self.follow(descriptor)
            elif not stat.S_ISDIR(status.st_mode):
                raise self.error(errno.ENOTDIR)
            elif self.resolve & RESOLVE_NO_XDEV and status.st_dev != self.device:
                raise self.error(errno.EXDEV)
            else:
                self.descriptors.append(descriptor)
                descriptor = -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def walk_open(directory: int, path: bytes, flags: int, *, mode: int = 0, resolve: int) -> int:
    """What openat2 does, without it: one name at a time, each through an O_PATH descriptor.

    Links are read and walked as text, so one that the kernel would jump through (in /proc) has
    no magic here.
    """
    walk = _Walk(directory, path, resolve)
    try:
        while walk.pending:
            name = walk.pending.pop()
            if name == b".":
                continue
            if name == b"..":
                walk.climb()
            elif walk.pending:
                walk.descend(name)
            else:
                opened = _open_last(walk, name, flags, mode)
                if opened is not None:
                    return opened
        return os.open(b".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=walk.descriptors[-1])
    finally:
        walk.close()


def _open_last(walk: _Walk, name: bytes, flags: int, mode: int) -> int | None:
    """Open the last name; None when it was a link that `walk` now goes on with."""
    parent = walk.descriptors[-1]
    try:
        opened = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=parent)
    except OSError as error:
        # O_DIRECTORY | O_NOFOLLOW on a link gives ENOTDIR.
        if error.errno not in {errno.ELOOP, errno.ENOTDIR} or flags & os.O_NOFOLLOW:
            raise
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(link).st_mode):
                raise
            walk.follow(link)
        finally:
            os.close(link)
        return None
    status = os.fstat(opened)
    try:
        if stat.S_ISLNK(status.st_mode):
            if walk.resolve & RESOLVE_NO_SYMLINKS and not flags & os.O_NOFOLLOW:
                raise walk.error(errno.ELOOP)
            if not flags & os.O_NOFOLLOW:
                walk.follow(opened)
                os.close(opened)
                return None
        if walk.resolve & RESOLVE_NO_XDEV and status.st_dev != walk.device:
            raise walk.error(errno.EXDEV)
    except OSError:
        os.close(opened)
        raise
    return opened


def open_directory(directory: int, path: bytes, *, may_cross_mounts: bool = True) -> int:
    """Open a directory beneath another for reading, however long the path is; follows no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    current = os.open(b".", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
    try:
        while len(path) > _LONGEST_PATH_BYTES:
            cut = path.rindex(b"/", 0, _LONGEST_PATH_BYTES)
            step = open_beneath(
                current,
                path[:cut],
                os.O_PATH | os.O_DIRECTORY,
                may_cross_mounts=may_cross_mounts,
            )
            os.close(current)
            current, path = step, path[cut + 1 :]
        return open_beneath(current, path, flags, may_cross_mounts=may_cross_mounts)
    finally:
        os.close(current)


def make_directories(root: int, path: bytes, *, mode: int = 0o755) -> int:
    """Make a directory and its missing parents inside `root`; return an O_PATH descriptor.

    Links on the way are followed inside the root; a dangling one is an error, as in mkdir(2).
    """
    flags = os.O_PATH | os.O_DIRECTORY
    made = b""
    current = open_in_root(root, b".", flags)
    for name in path.split(b"/"):
        if not name:
            continue
        made = made + b"/" + name if made else name
        try:
            following = open_in_root(root, made, flags)
        except FileNotFoundError:
            try:
                os.mkdir(name, mode, dir_fd=current)
            except FileExistsError:
                pass  # somebody else made it, or it is a dangling link: opening it tells
            except OSError:
                os.close(current)
                raise
            try:
                following = open_in_root(root, made, flags)
            except OSError:
                os.close(current)
                raise
        except OSError:
            os.close(current)
            raise
        os.close(current)
        current = following
    return current


def descriptor_path(descriptor: int) -> str:
    """A path that leads to exactly what a descriptor (also an O_PATH one) refers to.

    For the calls that take no O_PATH descriptor: chmod and the extended attributes. A symbolic
    link that was opened with O_PATH | O_NOFOLLOW is reached itself, not its target.
    """
    return f"/proc/self/fd/{descriptor}"


def read_attributes(descriptor: int) -> tuple[tuple[bytes, bytes], ...]:
    """Extended attributes of what a descriptor refers to, sorted; empty where there are none."""
    path = descriptor_path(descriptor)
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.EACCES, errno.EPERM}:
            return ()
        raise
    attributes = []
    for name in sorted(names):
        try:
            attributes.append((os.fsencode(name), os.getxattr(path, name)))
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.EACCES, errno.EPERM, errno.ENOTSUP}:
                raise
    return tuple(attributes)


def rename_exclusively(
    source_directory: int, source: bytes, target_directory: int, target: bytes
) -> None:
    """Rename, but fail with FileExistsError where the target is there already.

    A file system that cannot promise that in one step (NFS, 9p) is asked before; all our targets
    are directories with content, which no rename replaces.
    """
    try:
        syscall("renameat2", source_directory, source, target_directory, target, RENAME_NOREPLACE)
        return
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, os.strerror(error.errno), target) from None
    try:
        os.stat(target, dir_fd=target_directory, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_directory, dst_dir_fd=target_directory)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


def exchange(first: str, second: str) -> None:
    """Give two paths of one file system each other's name, in one step where it can do that.

    Elsewhere (NFS, 9p) the second has no name for a moment, and the first's is taken in between.
    """
    try:
        syscall(
            "renameat2",
            _AT_FDCWD,
            os.fsencode(first),
            _AT_FDCWD,
            os.fsencode(second),
            RENAME_EXCHANGE,
        )
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, os.strerror(error.errno), second) from None
        between = f"{first}.exchanged"
        os.rename(second, between)
        os.rename(first, second)
        os.rename(between, first)


def sync_file_system(descriptor: int) -> None:
    """Write everything of the file system that a descriptor is on to the disk; blocking."""
    try:
        syscall("syncfs", descriptor)
    except SyscallError as error:
        raise OSError(error.errno, os.strerror(error.errno)) from None


def start_writing_back(descriptor: int) -> None:
    """Let the kernel begin to write a file to the disk; promises nothing, and never fails."""
    with contextlib.suppress(SyscallError):
        syscall("sync_file_range", descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def spread_subdirectories(directory: int) -> bool:
    """Have ext4 put each new subdirectory far from the others; blocking.

    That is what `chattr +T` says: they have nothing to do with each other. A tree that is made
    then is not near one that was just removed: without a journal, ext4 gives those inodes to
    nobody for minutes, and looks at each of them anew for every file that is made near them.

    Returns:
        False where the file system knows nothing of it.
    """
    import fcntl  # not for every process that starts

    try:
        flags = _FILE_FLAGS.unpack(fcntl.ioctl(directory, _FS_IOC_GETFLAGS, bytes(8))[:4])[0]
        if not flags & _FS_TOPDIR_FL:
            fcntl.ioctl(directory, _FS_IOC_SETFLAGS, _FILE_FLAGS.pack(flags | _FS_TOPDIR_FL))
    except OSError:
        return False
    return True


def copy_contents(source: int, target: int, size_bytes: int) -> None:
    """Copy a file's contents into an empty one; shares the blocks where the disk can.

    Holes stay holes. Blocking; releases the interpreter while the kernel copies.
    """
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
    os.ftruncate(target, size_bytes)
    offset = 0
    while offset < size_bytes:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size_bytes)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise
            start, end = offset, size_bytes
        _copy_range(source, target, start, end)
        offset = max(end, offset + 1)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    is_kernel_copying = True
    while start < end:
        if is_kernel_copying:
            try:
                count = os.copy_file_range(source, target, end - start, start, start)
            except OSError as error:
                if error.errno not in {
                    errno.EXDEV,
                    errno.EINVAL,
                    errno.ENOSYS,
                    errno.EOPNOTSUPP,
                    errno.EPERM,
                }:
                    raise
                is_kernel_copying = False
                continue
        else:
            piece = os.pread(source, min(_COPY_BYTES, end - start), start)
            count = os.pwrite(target, piece, start) if piece else 0
        if count == 0:
            return  # the source shrank
        start += count
