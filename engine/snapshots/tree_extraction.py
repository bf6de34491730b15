"""From a tar to files in a directory that others may change meanwhile: what `cp` receives.

Every name is resolved below a descriptor and acted in by one name, so that neither an entry nor
somebody who swaps directories for links leads out. A file appears under its name when it is
complete; what has it already is replaced, never written into.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import ArchiveError, CopyRefusedError, NoSpaceError
from engine.late_dataclasses import dataclass
from engine.linux.files import descriptor_path, open_beneath, open_in_root
from engine.snapshots.file_content import write_all, write_segments
from engine.snapshots.tar import TarKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.snapshots.tar import TarEntry, TarReader

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_ZEROES = bytes(1 << 18)
_SMALLEST_HOLE_BYTES = 1 << 16
_ROOM_BYTES = 16 << 20
_TRY_LIMIT = 64
_PLAIN_MODE = 0o1777
_UNSUPPORTED = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT))
_REFUSED = frozenset(
    (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ERANGE, errno.E2BIG)
)
_NODES = {
    TarKind.CHARACTER_DEVICE: stat.S_IFCHR,
    TarKind.BLOCK_DEVICE: stat.S_IFBLK,
    TarKind.FIFO: stat.S_IFIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionPolicy:
    """What is taken over from an archive.

    Attributes:
        keeps_owners: Owners, set-user-id bits and attributes too; else files belong to who
            extracts them.
        makes_devices: Device files are made, not left out.
        label: What errors call the archive.
        keeps_set_id: Set-user-id bits too, although the owner is another.
    """

    keeps_owners: bool
    makes_devices: bool
    label: str
    keeps_set_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedParents:
    """Where directories that are links are looked up: in a container's root.

    Attributes:
        root: Descriptor of the root.
        path: Of the directory that is extracted into, as seen from there.
    """

    root: int
    path: bytes


class TreeExtractor:
    """Extracts one archive into an open directory; used once, blocking.

    Attributes:
        size_bytes: Of the files that were written.
        entry_count: Entries that were extracted.
    """

    def __init__(
        self,
        directory: int,
        policy: ExtractionPolicy,
        *,
        linked_parents: LinkedParents | None = None,
    ) -> None:
        """Prepare.

        Args:
            directory: Descriptor of the directory; the caller's.
            policy: What is taken over.
            linked_parents: Given, a directory that is a link is followed there; else refused.
        """
        self._directory = directory
        self._policy = policy
        self._linked = linked_parents
        self._warnings: dict[str, int] = {}
        self._modes: dict[bytes, TarEntry] = {}
        self._made: set[bytes] = set()
        self._parent = -1
        self._parent_path: bytes | None = None
        self.size_bytes = 0
        self.entry_count = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be made as the archive has it, one sentence each."""
        return tuple(
            f"{text} ({count:,} times)" if count > 1 else text
            for text, count in self._warnings.items()
        )

    def extract(
        self,
        reader: TarReader,
        entries: Iterable[TarEntry],
        *,
        rename: Callable[[bytes], bytes],
        on_entry: Callable[[], None],
    ) -> None:
        """Extract entries of a reader.

        Args:
            reader: Has the data of the current entry.
            entries: Its entries, from where it is.
            rename: Gives the cleaned path of an entry the path that it gets; empty is the
                directory itself, which stays as it is.
            on_entry: Called for every entry.

        Raises:
            ArchiveError: The archive is damaged or climbs out.
            CopyRefusedError: A directory is in the place of a file, or the other way round.
            NoSpaceError: The disk is full.
            OSError: Anything else that the file system says.
        """
        try:
            for entry in entries:
                path = rename(self._clean(entry.name))
                if path:
                    self._extract(entry, path, reader, rename)
                    self.entry_count += 1
                on_entry()
            self._finish_directories()
        finally:
            self._forget_parent()

    def _clean(self, name: bytes) -> bytes:
        parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
        if b".." in parts:
            raise self._error(name, "it climbs out of the directory")
        return b"/".join(parts)

    def _error(self, name: bytes, reason: str) -> ArchiveError:
        return ArchiveError(self._policy.label, f"entry {os.fsdecode(name)!r}: {reason}")

    def _warn(self, text: str) -> None:
        self._warnings[text] = self._warnings.get(text, 0) + 1

    # --- parents ------------------------------------------------------------------------------

    def _open_parent(self, path: bytes) -> int:
        """The directory that a path is in, made if it is missing; stays open until the next."""
        parent_path = path.rpartition(b"/")[0]
        if parent_path != self._parent_path:
            self._forget_parent()
            self._parent = self._open_directory(parent_path)
            self._parent_path = parent_path
        return self._parent

    def _forget_parent(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._parent_path = -1, None

    def _open_directory(self, path: bytes) -> int:
        for _ in range(_TRY_LIMIT):
            try:
                return open_beneath(self._directory, path, _DIRECTORY)
            except FileNotFoundError:
                self._make_directories(path)
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR} or self._linked is None:
                    raise self._blocked(error, path) from error
                linked = self._linked
                try:
                    return open_in_root(linked.root, linked.path + b"/" + path, _DIRECTORY)
                except FileNotFoundError:
                    self._make_directories(path)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)

    def _blocked(self, error: OSError, path: bytes) -> Exception:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            name = os.fsdecode(path)
            return CopyRefusedError(
                f'cannot copy into "{name}": it is no directory (links are not followed)'
            )
        return error

    def _make_directories(self, path: bytes) -> None:
        """Make the first missing one of a path's directories."""
        parent, name = self._directory, b""
        names = path.split(b"/")
        opened = -1
        try:
            for count, name in enumerate(names, 1):
                try:
                    following = self._step(b"/".join(names[:count]))
                except FileNotFoundError:
                    with contextlib.suppress(FileExistsError):
                        _make_plain_directory(parent, name)
                    return
                if opened >= 0:
                    os.close(opened)
                parent = opened = following
        finally:
            if opened >= 0:
                os.close(opened)

    def _step(self, path: bytes) -> int:
        try:
            return open_beneath(self._directory, path, _DIRECTORY)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR} or self._linked is None:
                raise
            return open_in_root(self._linked.root, self._linked.path + b"/" + path, _DIRECTORY)

    # --- entries ------------------------------------------------------------------------------

    def _extract(
        self, entry: TarEntry, path: bytes, reader: TarReader, rename: Callable[[bytes], bytes]
    ) -> None:
        parent = self._open_parent(path)
        name = path.rpartition(b"/")[2]
        if len(name) > 255:
            raise self._error(entry.name, "its name is longer than 255 bytes")
        if entry.kind is TarKind.DIRECTORY:
            self._make_directory(parent, path, name, entry)
            return
        self._refuse_directory(parent, path, name)
        if entry.kind is TarKind.FILE:
            self._write_file(parent, name, entry, reader)
        elif entry.kind is TarKind.SYMLINK:
            self._place(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            self._set_look_by_name(parent, name, entry)
        elif entry.kind is TarKind.HARD_LINK:
            self._link(parent, path, name, entry, rename)
            return
        else:
            self._make_node(parent, name, entry)
        self._made.add(path)

    def _refuse_directory(self, parent: int, path: bytes, name: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                shown = os.fsdecode(path)
                raise CopyRefusedError(
                    f'cannot overwrite directory "{shown}" with non-directory "{shown}"',
                    hint="Remove the directory first, or copy to another name",
                )

    def _make_directory(self, parent: int, path: bytes, name: bytes, entry: TarEntry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                shown = os.fsdecode(path)
                raise CopyRefusedError(
                    f'cannot overwrite non-directory "{shown}" with directory "{shown}"',
                    hint="Remove the file first, or copy to another name",
                ) from None
        descriptor = open_beneath(parent, name, _DIRECTORY)
        try:
            self._set_owner(descriptor, entry)
        finally:
            os.close(descriptor)
        # Mode and time come last: writing into the directory would need the one and spoil both.
        self._modes[path] = entry

    def _place(self, parent: int, name: bytes, make: Callable[[], None]) -> None:
        """Make something under a name, in the place of what has it."""
        for _ in range(_TRY_LIMIT):
            try:
                make()
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=parent)
            else:
                return
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), name)

    def _write_file(self, parent: int, name: bytes, entry: TarEntry, reader: TarReader) -> None:
        if entry.data_bytes > _ROOM_BYTES:
            disk = os.fstatvfs(self._directory)
            if entry.data_bytes > disk.f_bavail * disk.f_frsize:
                raise NoSpaceError(os.fsdecode(entry.name))
        try:
            descriptor = os.open(b".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._write_in_place(parent, name, entry, reader)
            return
        try:
            self._write_content(descriptor, entry, reader)
            # A file without a name can be linked only through /proc by who has no more rights.
            source = os.fsencode(descriptor_path(descriptor))
            self._place(
                parent, name, lambda: os.link(source, name, dst_dir_fd=parent, follow_symlinks=True)
            )
        finally:
            os.close(descriptor)

    def _write_in_place(self, parent: int, name: bytes, entry: TarEntry, reader: TarReader) -> None:
        """Where the file system has no files without a name: NFS, older overlays."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        opened: list[int] = []
        self._place(parent, name, lambda: opened.append(os.open(name, flags, 0o600, dir_fd=parent)))
        try:
            self._write_content(opened[0], entry, reader)
        finally:
            os.close(opened[0])

    def _write_content(self, descriptor: int, entry: TarEntry, reader: TarReader) -> None:
        if entry.segments is not None:
            self._write_segments(descriptor, entry, reader)
        else:
            self._write_pieces(descriptor, entry, reader)
        self.size_bytes += entry.size
        self._set_owner(descriptor, entry)
        os.fchmod(descriptor, self._mode(entry))
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))

    def _write_pieces(self, descriptor: int, entry: TarEntry, reader: TarReader) -> None:
        has_holes = False
        for piece in reader.pieces():
            if len(piece) >= _SMALLEST_HOLE_BYTES and piece == _ZEROES[: len(piece)]:
                os.lseek(descriptor, len(piece), os.SEEK_CUR)
                has_holes = True
            else:
                write_all(descriptor, piece)
        if has_holes:
            os.ftruncate(descriptor, entry.size)

    def _write_segments(self, descriptor: int, entry: TarEntry, reader: TarReader) -> None:
        os.ftruncate(descriptor, entry.size)
        write_segments(descriptor, entry, reader)

    def _link(
        self,
        parent: int,
        path: bytes,
        name: bytes,
        entry: TarEntry,
        rename: Callable[[bytes], bytes],
    ) -> None:
        target = rename(self._clean(entry.link))
        if target not in self._made:
            link = os.fsdecode(entry.link)
            raise self._error(entry.name, f"it is a hard link to {link!r}, which is not in it")
        if target == path:
            return
        directory_path, _, target_name = target.rpartition(b"/")
        directory = self._open_directory(directory_path)
        try:
            self._place(
                parent,
                name,
                lambda: os.link(
                    target_name,
                    name,
                    src_dir_fd=directory,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                ),
            )
        finally:
            os.close(directory)
        self._made.add(path)

    def _make_node(self, parent: int, name: bytes, entry: TarEntry) -> None:
        device = 0
        if entry.kind is not TarKind.FIFO:
            if not self._policy.makes_devices:
                self._warn("device files were left out")
                return
            device = os.makedev(entry.device_major, entry.device_minor)
        try:
            self._place(
                parent,
                name,
                lambda: os.mknod(name, _NODES[entry.kind] | 0o600, device, dir_fd=parent),
            )
        except PermissionError:
            self._warn("device files cannot be made here and were left out")
            return
        self._set_look_by_name(parent, name, entry)

    # --- look ---------------------------------------------------------------------------------

    def _mode(self, entry: TarEntry) -> int:
        # A set-user-id bit is a promise of the old owner's.
        keeps_all = self._policy.keeps_owners or self._policy.keeps_set_id
        return entry.mode if keeps_all else entry.mode & _PLAIN_MODE

    def _set_owner(self, descriptor: int, entry: TarEntry) -> None:
        """Owner and attributes, of anything but a link; the mode comes after it."""
        if not self._policy.keeps_owners:
            return
        self._chown(lambda: os.fchown(descriptor, entry.user_id, entry.group_id))
        self._set_attributes(descriptor_path(descriptor), entry)

    def _set_look_by_name(self, parent: int, name: bytes, entry: TarEntry) -> None:
        try:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            return  # somebody took it away at once
        try:
            if self._policy.keeps_owners:
                self._chown(
                    lambda: os.chown(
                        name,
                        entry.user_id,
                        entry.group_id,
                        dir_fd=parent,
                        follow_symlinks=False,
                    )
                )
                self._set_attributes(descriptor_path(handle), entry)
            if not stat.S_ISLNK(os.fstat(handle).st_mode):
                os.chmod(descriptor_path(handle), self._mode(entry))
            times = (entry.mtime_ns, entry.mtime_ns)
            with contextlib.suppress(FileNotFoundError):
                os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(handle)

    def _chown(self, change: Callable[[], None]) -> None:
        try:
            change()
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno not in {errno.EPERM, errno.EINVAL}:
                raise
            self._warn("some owners could not be kept: this user may not give files away")

    def _set_attributes(self, path: str, entry: TarEntry) -> None:
        for name, value in entry.xattrs:
            try:
                os.setxattr(path, name, value, follow_symlinks=True)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno not in _REFUSED:
                    raise
                self._warn(f"the extended attribute {os.fsdecode(name)} could not be set here")

    def _finish_directories(self) -> None:
        # Deepest first, so that taking permissions from one does not close the way.
        for path in sorted(self._modes, reverse=True):
            entry = self._modes[path]
            try:
                descriptor = self._step(path)
            except OSError:
                continue  # somebody took it away or put something else there
            try:
                os.fchmod(descriptor, self._mode(entry))
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(descriptor)


def _make_plain_directory(parent: int, name: bytes) -> None:
    """Make a directory that everybody may enter, whatever the umask is."""
    os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = open_beneath(parent, name, _DIRECTORY)
    try:
        os.fchmod(descriptor, 0o755)
    finally:
        os.close(descriptor)
