"""From a layer's tar to its directory, as overlayfs wants it.

Everything goes through descriptors: a parent is opened beneath the layer's root without following
links, and acted in by one name. A link in the way is resolved by hand, as text, inside the merged
view. So whatever an entry names, and whoever swaps directories for links: nothing leaves the root.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import NoSpaceError, UnsafePathError
from engine.linux.files import copy_contents, descriptor_path, open_beneath
from engine.snapshots.file_content import (
    LARGE_FILE_BYTES,
    ContentWriter,
    write_content,
    write_segments,
)
from engine.snapshots.index import LayerEntry, LayerIndex, digest_xattrs, make_index, whiteout
from engine.snapshots.layer_tree import MISSING_ERRORS, LayerTree
from engine.snapshots.lowers import (
    COPIED_ONLY,
    LowerLayers,
    copy_directory_look,
    is_whiteout,
    make_whiteout,
)
from engine.snapshots.scan import entry_of, linked_entry
from engine.snapshots.tar import TarEntry, TarKind, TarReader
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.snapshots.layer_tar import LayerTarRecorder

_WHITEOUT_PREFIX = b".wh."
_OPAQUE_NAME = b".wh..wh..opq"
_AUFS_PREFIX = b".wh..wh."
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOWEST_FREE_BYTES = 16 << 20

_KINDS = {
    TarKind.CHARACTER_DEVICE: (FileKind.CHARACTER_DEVICE, stat.S_IFCHR),
    TarKind.BLOCK_DEVICE: (FileKind.BLOCK_DEVICE, stat.S_IFBLK),
    TarKind.FIFO: (FileKind.FIFO, stat.S_IFIFO),
}


class LayerApplier(LayerTree):
    """Unpacks one layer into an empty directory; used once, blocking."""

    def __init__(
        self,
        root: int,
        *,
        lowers: LowerLayers,
        recorder: LayerTarRecorder,
        label: str,
        uses_user_xattrs: bool,
    ) -> None:
        """As LayerTree."""
        super().__init__(
            root,
            lowers=lowers,
            recorder=recorder,
            label=label,
            uses_user_xattrs=uses_user_xattrs,
        )
        self._large_files: ContentWriter | None = None

    def apply(self, reader: TarReader, *, on_entry: Callable[[], None]) -> LayerIndex:
        """Unpack every entry and return the index; `on_entry` is called once for each.

        Raises:
            ArchiveError: The layer is damaged, or an UnsafePathError: it climbs out.
            NoSpaceError: The disk is full.
            OSError: Anything else that the file system says.
        """
        try:
            for entry in reader:
                self._apply_entry(entry, reader)
                on_entry()
            self._finish_root()
            self._finish_directories()
            if self._large_files is not None:
                self._large_files.settle()
        finally:
            self._forget_parents()
            if self._large_files is not None:
                self._large_files.close()
        return make_index(self._entries.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the host could not make as the layer has it, one sentence each."""
        return tuple(
            f"{text} ({count:,} times)" if count > 1 else text
            for text, count in self._warnings.items()
        )

    # --- entries ------------------------------------------------------------------------------

    def _apply_entry(self, entry: TarEntry, reader: TarReader) -> None:
        path = self._clean(entry.name, what=entry.name)
        parent_path, _, name = path.rpartition(b"/")
        if not path:
            if entry.kind is not TarKind.DIRECTORY:
                raise self._error(entry.name, "only a directory can be the root")
            self._apply_directory(self._root, b"", b"", entry)
            return
        if len(name) > 255:
            raise self._error(entry.name, "its name is longer than 255 bytes")
        parent, parent_path = self._parent(parent_path)
        path = parent_path + b"/" + name if parent_path else name
        if name.startswith(_WHITEOUT_PREFIX):
            self._apply_whiteout(parent, parent_path, name, entry)
        elif entry.kind is TarKind.DIRECTORY:
            self._apply_directory(parent, path, name, entry)
        elif entry.kind is TarKind.FILE:
            self._apply_file(parent, path, name, entry, reader)
        elif entry.kind is TarKind.SYMLINK:
            self._apply_symlink(parent, path, name, entry)
        elif entry.kind is TarKind.HARD_LINK:
            self._apply_hard_link(path, name, entry)
        else:
            self._apply_node(parent, path, name, entry)

    def _create(self, parent: int, path: bytes, name: bytes) -> int:
        try:
            return os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, path, name)
            return os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)

    def _record(
        self,
        path: bytes,
        kind: FileKind,
        entry: TarEntry,
        *,
        link: bytes = b"",
        content_digest: bytes = b"",
        device: int = 0,
        is_opaque: bool = False,
        is_placeholder: bool = False,
    ) -> None:
        size = entry.size if kind is FileKind.FILE else 0
        self._entries[path] = LayerEntry(
            path=path,
            kind=kind,
            mode=entry.mode if kind is not FileKind.SYMLINK else 0o777,
            user_id=entry.user_id,
            group_id=entry.group_id,
            size_bytes=size,
            mtime_ns=entry.mtime_ns,
            xattrs_digest=digest_xattrs(entry.xattrs) if entry.xattrs else b"",
            link=link,
            content_digest=content_digest,
            device=device,
            is_opaque=is_opaque,
            is_placeholder=is_placeholder,
            is_reduced=self._is_reduced,
        )
        self._is_reduced = False

    def _apply_file(
        self, parent: int, path: bytes, name: bytes, entry: TarEntry, reader: TarReader
    ) -> None:
        if entry.data_bytes > _LOWEST_FREE_BYTES:
            self._check_room(entry.data_bytes)
        descriptor = self._create(parent, path, name)
        self._recorder.begin_content(path, entry.segments or ((0, entry.data_bytes),))
        # Writing takes attributes and the setuid bit away again: those come last.
        if (
            entry.data_bytes >= LARGE_FILE_BYTES
            and entry.segments is None
            and not entry.xattrs
            and not entry.mode & 0o6000
        ):
            self._apply_large_file(descriptor, path, entry, reader)
            return
        try:
            digest = self._write(descriptor, entry, reader)
            mode = entry.mode
            if not self._chown(descriptor, entry):
                mode &= 0o1777
            os.fchmod(descriptor, mode)
            if entry.xattrs:
                self._set_xattrs(descriptor, entry)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)
        self._record(path, FileKind.FILE, entry, content_digest=digest)

    def _apply_large_file(
        self, descriptor: int, path: bytes, entry: TarEntry, reader: TarReader
    ) -> None:
        try:
            self._chown(descriptor, entry)
            os.fchmod(descriptor, entry.mode)
        except BaseException:
            os.close(descriptor)
            raise
        self._record(path, FileKind.FILE, entry)
        if self._large_files is None:
            self._large_files = ContentWriter()
        self._large_files.write(descriptor, self._entries[path], reader.pieces())

    def _check_room(self, size_bytes: int) -> None:
        """Refuse what cannot fit before the disk is full for everybody else."""
        disk = os.fstatvfs(self._root)
        if size_bytes > disk.f_bavail * disk.f_frsize:
            raise NoSpaceError(self._label)

    def _write(self, descriptor: int, entry: TarEntry, reader: TarReader) -> bytes:
        if entry.segments is not None:
            self._write_segments(descriptor, entry, reader)
            return b""
        return write_content(descriptor, entry.size, reader.pieces())

    def _write_segments(self, descriptor: int, entry: TarEntry, reader: TarReader) -> None:
        try:
            os.ftruncate(descriptor, entry.size)
        except OSError as error:
            if error.errno in {errno.EFBIG, errno.EINVAL}:
                raise self._error(entry.name, "it is larger than a file can be here") from None
            raise
        write_segments(descriptor, entry, reader)

    def _apply_directory(self, parent: int, path: bytes, name: bytes, entry: TarEntry) -> None:
        was_hidden = False
        if path:
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    was_hidden = is_whiteout(status)
                    self._clear(parent, path, name)
                    os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            mode = entry.mode if self._chown(descriptor, entry) else entry.mode & 0o1777
            if entry.xattrs:
                self._set_xattrs(descriptor, entry)
            if was_hidden:
                self._mark_opaque(descriptor)
        finally:
            os.close(descriptor)
        known = self._entries.get(path)
        opaque = was_hidden or (known is not None and known.is_opaque)
        self._record(path, FileKind.DIRECTORY, entry, is_opaque=opaque)
        self._directories[path] = (mode, entry.mtime_ns)

    def _apply_symlink(self, parent: int, path: bytes, name: bytes, entry: TarEntry) -> None:
        if not entry.link:
            raise self._error(entry.name, "it is a symbolic link to nothing")
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, path, name)
            os.symlink(entry.link, name, dir_fd=parent)
        self._chown(parent, entry, name=name)
        if entry.xattrs:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
            try:
                self._set_xattrs(handle, entry)
            finally:
                os.close(handle)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        self._record(path, FileKind.SYMLINK, entry, link=entry.link)

    def _apply_node(self, parent: int, path: bytes, name: bytes, entry: TarEntry) -> None:
        kind, bits = _KINDS[entry.kind]
        device = 0
        if kind is not FileKind.FIFO:
            if not 0 <= entry.device_major < 1 << 12 or not 0 <= entry.device_minor < 1 << 20:
                raise self._error(entry.name, "its device number is impossible")
            device = os.makedev(entry.device_major, entry.device_minor)
            if kind is FileKind.CHARACTER_DEVICE and device == 0:
                # On disk it would be a whiteout, so that is what it is.
                self._make_whiteout(parent, path, name)
                return
        is_placeholder = False
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            self._clear(parent, path, name)
        try:
            os.mknod(name, bits | 0o600, device, dir_fd=parent)
        except PermissionError:
            # No user namespace may make devices. An empty file without permissions keeps the
            # place, so that what is below does not show.
            self._warn("device files cannot be made without root; empty files stand in for them")
            os.close(os.open(name, _CREATE_FLAGS, 0, dir_fd=parent))
            is_placeholder = True
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
        try:
            self._chown(parent, entry, name=name)
            if not is_placeholder:
                os.chmod(descriptor_path(handle), entry.mode)
                if entry.xattrs:
                    self._set_xattrs(handle, entry)
        finally:
            os.close(handle)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        number = entry.device_major << 32 | entry.device_minor
        self._record(path, kind, entry, device=number, is_placeholder=is_placeholder)

    # --- hard links ---------------------------------------------------------------------------

    def _apply_hard_link(self, path: bytes, name: bytes, entry: TarEntry) -> None:
        target = self._clean(entry.link, what=entry.name + b" -> " + entry.link)
        if not target:
            raise self._error(entry.name, "it is a hard link to the root")
        target_parent_path, _, target_name = target.rpartition(b"/")
        target_parent, target_parent_path = self._parent(target_parent_path)
        target = target_parent_path + b"/" + target_name if target_parent_path else target_name
        if target == path:
            return
        # A descriptor of our own: opening the other parent may close what was remembered.
        target_parent = os.dup(target_parent)
        try:
            self._copy_up(target_parent, target, target_name, entry)
            parent_path = path[: max(0, len(path) - len(name) - 1)]
            parent, _ = self._parent(parent_path)
            try:
                os.link(
                    target_name,
                    name,
                    src_dir_fd=target_parent,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )
            except FileExistsError:
                self._clear(parent, path, name)
                os.link(
                    target_name,
                    name,
                    src_dir_fd=target_parent,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                )
        finally:
            os.close(target_parent)
        if self._large_files is not None and not self._entries[target].content_digest:
            self._large_files.settle()
        self._entries[path] = linked_entry(self._entries[target], path)

    def _copy_up(self, parent: int, path: bytes, name: bytes, entry: TarEntry) -> None:
        """Make sure that a hard link's target is in this layer; overlay links only in one."""
        known = self._entries.get(path)
        if known is not None:
            if known.kind is FileKind.DIRECTORY:
                raise self._error(entry.name, "it is a hard link to a directory")
            if known.kind is not FileKind.WHITEOUT:
                return
        below = None
        if known is None and not self._is_cut_off(path):
            below = self._lowers.open(path)
        if below is None:
            raise self._error(
                entry.name, f"it is a hard link to {os.fsdecode(entry.link)!r}, which is missing"
            )
        try:
            status = os.fstat(below)
            if not stat.S_ISREG(status.st_mode):
                raise self._error(entry.name, "it is a hard link to something that is no file")
            source = os.open(descriptor_path(below), os.O_RDONLY)
            try:
                target = os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)
                try:
                    copy_contents(source, target, status.st_size)
                    copy_directory_look(below, target)
                    os.fchmod(target, stat.S_IMODE(status.st_mode))
                    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
                    self._entries[path] = entry_of(path, target)
                finally:
                    os.close(target)
            finally:
                os.close(source)
        finally:
            os.close(below)

    # --- whiteouts ----------------------------------------------------------------------------

    def _apply_whiteout(
        self, parent: int, parent_path: bytes, name: bytes, entry: TarEntry
    ) -> None:
        if name == _OPAQUE_NAME:
            if parent_path:
                self._set_opaque(parent_path)
                return
            # Overlay knows no opaque root: everything in it is removed by name.
            for below in self._lowers.root_names():
                self._make_whiteout(parent, below, below)
            return
        if name.startswith(_AUFS_PREFIX):
            return  # bookkeeping of aufs
        hidden = name[len(_WHITEOUT_PREFIX) :]
        if hidden in {b"", b".", b".."}:
            raise UnsafePathError(
                self._label, os.fsdecode(entry.name), "it removes something impossible"
            )
        path = parent_path + b"/" + hidden if parent_path else hidden
        self._make_whiteout(parent, path, hidden)

    def _make_whiteout(self, parent: int, path: bytes, name: bytes) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            parent_path = path.rpartition(b"/")[0]
            # In a directory that is only in this layer overlay would show the mark itself.
            if self._is_cut_off(path) or not self._lowers.has_directory(parent_path):
                return
            try:
                if not make_whiteout(parent, name):
                    self._warn(COPIED_ONLY)
            except PermissionError as error:
                raise OSError(error.errno, "whiteouts need Linux 5.8 without root") from None
            self._entries[path] = whiteout(path)
            return
        # Whiteouts concern lower layers only: what this layer has itself stays.
        if stat.S_ISDIR(status.st_mode) and not self._lowers.is_empty:
            self._set_opaque(path)

    # --- the end ------------------------------------------------------------------------------

    def _finish_root(self) -> None:
        """A layer that does not mention its root has the root of the layer below."""
        known = self._entries.get(b"")
        below = None if self._lowers.is_empty else self._lowers.open(b".")
        try:
            if below is not None and (known is None or b"" not in self._directories):
                status = os.fstat(below)
                copy_directory_look(below, self._root)
                self._directories[b""] = (stat.S_IMODE(status.st_mode), status.st_mtime_ns)
            elif b"" not in self._directories:
                self._directories[b""] = (0o755, os.fstat(self._root).st_mtime_ns)
        finally:
            if below is not None:
                os.close(below)

    def _finish_directories(self) -> None:
        # Deepest first, so that taking permissions from one does not close the way.
        for path in sorted(self._directories, reverse=True):
            mode, mtime_ns = self._directories[path]
            try:
                descriptor = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno in MISSING_ERRORS:
                    continue
                raise
            try:
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)
            if path in self._entries:
                continue
            self._entries[path] = entry_of(path, self._root, mode=mode, mtime_ns=mtime_ns)
