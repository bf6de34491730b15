"""A planned layer becomes a directory, an index and a tar, in one go.

Every file is read once: its bytes are compared with the digest for which it was selected, written
below `diff`, and hashed as a part of the tar. The same plan gives the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.build.source_roots import file_pieces, public_attributes
from engine.errors import BuildSourceChangedError
from engine.linux.files import descriptor_path, open_directory
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.file_content import write_all
from engine.snapshots.index import LayerEntry, digest_xattrs, make_index, write_index
from engine.snapshots.layer_tar import LayerTarFile
from engine.snapshots.packing import SealedLayer
from engine.snapshots.tar import TarKind
from engine.snapshots.tar_writer import TarHeader, TarStream
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from engine.build.copy_plan import PlannedFile
    from engine.build.source_roots import SourceRoots

_PIECE_BYTES = 1 << 20
_SHORTEST_HOLE_BYTES = 1 << 16
_ZEROES = bytes(_PIECE_BYTES)
_SECOND_NS = 1_000_000_000
_MOST_OPEN = 128
_LONGEST_LINK_PATH_BYTES = 4000
_SET_ID = 0o6000
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = frozenset((errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ERANGE))
_NODES = {
    FileKind.FIFO: stat.S_IFIFO,
    FileKind.CHARACTER_DEVICE: stat.S_IFCHR,
    FileKind.BLOCK_DEVICE: stat.S_IFBLK,
}


class _OpenDirectory(NamedTuple):
    path: bytes
    descriptor: int
    planned: PlannedFile | None


class LayerWriting:
    """Writes one layer; used once, blocking. The umask must be 0."""

    def __init__(self, directory: int, roots: SourceRoots) -> None:
        """Write into a layer's directory, whose `diff` is empty; it stays the caller's."""
        self._directory = directory
        self._roots = roots
        self._diff = open_directory(directory, DIFF_NAME.encode())
        self._open: list[_OpenDirectory] = [_OpenDirectory(b"", self._diff, None)]
        self._entries: list[LayerEntry] = []
        self._first_names: dict[tuple[int, bytes], LayerEntry] = {}
        self._warnings: dict[str, int] = {}
        self._own_ids = (os.geteuid(), os.getegid())
        self._executor: ThreadPoolExecutor | None = None
        self._whole = hashlib.sha256()
        self._pending = bytearray()
        self.written_bytes = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the host could not make as planned, one sentence each."""
        return tuple(
            f"{text} ({count:,} times)" if count > 1 else text
            for text, count in self._warnings.items()
        )

    def write(
        self, files: Sequence[tuple[bytes, PlannedFile]], *, on_file: Callable[[], None]
    ) -> SealedLayer:
        """Write everything; `on_file` is called for every path.

        Args:
            files: As CopyPlan gives them.
            on_file: May look at `written_bytes`.

        Raises:
            BuildSourceChangedError: A file is not what it was when it was selected.
            OSError: It cannot be read or written.
        """
        try:
            with LayerTarFile(self._directory) as recorder:
                self._recorder = recorder
                self._stream = TarStream(self._add)
                for path, planned in files:
                    self._write(path, planned)
                    on_file()
                self._leave(b"")
                self._stream.close()
                self._whole.update(self._pending)
                recorder.end()
        finally:
            self._roots.close()
            if self._executor is not None:
                self._executor.shutdown()
            for directory in self._open:
                if directory.descriptor >= 0:
                    os.close(directory.descriptor)
        index = make_index(self._entries)
        write_index(self._directory, index)
        return SealedLayer(
            diff_id=f"sha256:{self._whole.hexdigest()}",
            tar_bytes=self._stream.written_bytes,
            size_bytes=index.size_bytes,
            entry_count=index.entry_count,
        )

    def _add(self, piece: bytes) -> None:
        self._recorder.add(piece)
        # Headers are small: a call for each would cost more than its work.
        self._pending += piece
        if len(self._pending) >= _PIECE_BYTES:
            self._whole.update(self._pending)
            self._pending.clear()

    def _write(self, path: bytes, planned: PlannedFile) -> None:
        parent_path, _, name = path.rpartition(b"/")
        parent = self._enter(parent_path)
        first = self._first_names.get(planned.shared_with) if planned.shared_with else None
        if planned.kind is FileKind.DIRECTORY:
            self._make_directory(parent, path, name, planned)
        elif first is not None and len(first.path) < _LONGEST_LINK_PATH_BYTES:
            self._link(parent, path, name, first)
        elif planned.kind is FileKind.FILE:
            self._write_file(parent, path, name, planned)
        elif planned.kind is FileKind.SYMLINK:
            self._make_link(parent, path, name, planned)
        else:
            self._make_node(parent, path, name, planned)
        if planned.shared_with is not None and first is None:
            self._first_names[planned.shared_with] = self._entries[-1]

    # --- directories --------------------------------------------------------------------------

    def _enter(self, path: bytes) -> int:
        """The directory of the next path, which was made just before, or is one of its parents."""
        while self._open[-1].path != path:
            self._leave_one()
        top = self._open[-1]
        if top.descriptor < 0:
            self._open[-1] = top = top._replace(descriptor=open_directory(self._diff, path))
        return top.descriptor

    def _leave(self, path: bytes) -> None:
        while self._open[-1].path != path:
            self._leave_one()

    def _leave_one(self) -> None:
        """Mode and time of a directory come last: writing into it would need the one, and spoil
        the other.
        """
        path, descriptor, planned = self._open.pop()
        if descriptor < 0:
            descriptor = open_directory(self._diff, path)
        try:
            if planned is not None:
                os.fchmod(descriptor, planned.mode)
                os.utime(descriptor, ns=(planned.mtime_ns, planned.mtime_ns))
        finally:
            os.close(descriptor)

    def _make_directory(self, parent: int, path: bytes, name: bytes, planned: PlannedFile) -> None:
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        if len(self._open) > _MOST_OPEN:
            middle = self._open[-_MOST_OPEN]
            if middle.path:
                os.close(middle.descriptor)
                self._open[-_MOST_OPEN] = middle._replace(descriptor=-1)
        self._open.append(_OpenDirectory(path, descriptor, planned))
        self._chown(descriptor, planned)
        xattrs = planned.xattrs or self._source_attributes(planned)
        is_reduced = bool(xattrs) and self._set_attributes(descriptor, xattrs)
        self._stream.begin(planned.tar_header(path, xattrs=xattrs))
        self._record(path, planned, xattrs=xattrs, is_reduced=is_reduced)

    # --- files --------------------------------------------------------------------------------

    def _write_file(self, parent: int, path: bytes, name: bytes, planned: PlannedFile) -> None:
        source = planned.source
        assert source is not None
        if planned.content is not None:
            self._write_small(parent, path, name, planned, planned.content)
            return
        descriptor = self._roots.open(planned.root, source.layer, source.path)
        try:
            if source.xattrs_digest:
                planned.xattrs = public_attributes(descriptor)
            if source.size_bytes < _PIECE_BYTES:
                # One byte more than there should be shows that there is more.
                content = os.read(descriptor, source.size_bytes + 1)
                self._write_small(parent, path, name, planned, content)
            else:
                self._write_large(parent, path, name, planned, descriptor)
        except IsADirectoryError:
            raise BuildSourceChangedError(os.fsdecode(source.path)) from None
        finally:
            os.close(descriptor)

    def _write_small(
        self, parent: int, path: bytes, name: bytes, planned: PlannedFile, content: bytes
    ) -> None:
        source = planned.source
        assert source is not None
        digest = hashlib.sha256(content).digest()
        if source.content_digest and digest != source.content_digest:
            raise BuildSourceChangedError(os.fsdecode(source.path))
        size = len(content)
        if size > source.size_bytes:
            raise BuildSourceChangedError(os.fsdecode(source.path))
        target = os.open(name, _CREATE_FLAGS, planned.mode & 0o777, dir_fd=parent)
        try:
            if content:
                write_all(target, content)
            is_reduced = self._finish_file(target, planned)
        finally:
            os.close(target)
        self._stream.begin(planned.tar_header(path, size=size, xattrs=planned.xattrs))
        if content:
            self._recorder.begin_content(path, ((0, size),))
            self._stream.write(content)
            self.written_bytes += size
        self._record(
            path, planned, size=size, digest=digest, xattrs=planned.xattrs, is_reduced=is_reduced
        )

    def _write_large(
        self, parent: int, path: bytes, name: bytes, planned: PlannedFile, descriptor: int
    ) -> None:
        source = planned.source
        assert source is not None
        size = source.size_bytes
        self._stream.begin(planned.tar_header(path, size=size, xattrs=planned.xattrs))
        self._recorder.begin_content(path, ((0, size),))
        content = hashlib.sha256()
        executor = self._digest_executor()
        target = os.open(name, _CREATE_FLAGS, planned.mode & 0o777, dir_fd=parent)
        try:
            ends_in_hole = False
            for piece in file_pieces(descriptor, size):
                # Two digests of the same bytes, side by side.
                digesting = executor.submit(content.update, piece)
                self._stream.write(piece)
                ends_in_hole = _write_or_skip(target, piece)
                self.written_bytes += len(piece)
                digesting.result()
            is_wrong = self._stream.missing_bytes or os.read(descriptor, 1)
            digest = content.digest()
            if is_wrong or (source.content_digest and digest != source.content_digest):
                raise BuildSourceChangedError(os.fsdecode(source.path))
            if ends_in_hole:
                os.ftruncate(target, size)
            is_reduced = self._finish_file(target, planned)
        finally:
            os.close(target)
        self._record(
            path, planned, size=size, digest=digest, xattrs=planned.xattrs, is_reduced=is_reduced
        )

    def _digest_executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            # Most copies have no large file, and it takes longer to load than they take.
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(1, thread_name_prefix="content-digest")
        return self._executor

    def _finish_file(self, target: int, planned: PlannedFile) -> bool:
        """Owner, attributes and time of a file; True if not all attributes could be set."""
        # Writing and another owner take the set-id bits away again.
        has_owner = self._chown(target, planned)
        if planned.mode & 0o7000:
            os.fchmod(target, planned.mode if has_owner else planned.mode & ~_SET_ID)
        is_reduced = bool(planned.xattrs) and self._set_attributes(target, planned.xattrs)
        os.utime(target, ns=(planned.mtime_ns, planned.mtime_ns))
        return is_reduced

    def _link(self, parent: int, path: bytes, name: bytes, first: LayerEntry) -> None:
        os.link(first.path, name, src_dir_fd=self._diff, dst_dir_fd=parent, follow_symlinks=False)
        self._stream.begin(
            TarHeader(
                name=path,
                kind=TarKind.HARD_LINK,
                mode=first.mode,
                user_id=first.user_id,
                group_id=first.group_id,
                modified_at=first.mtime_ns // _SECOND_NS,
                link=first.path,
            )
        )
        self._entries.append(
            msgspec.structs.replace(first, path=path, kind=FileKind.HARD_LINK, link=first.path)
        )

    def _make_link(self, parent: int, path: bytes, name: bytes, planned: PlannedFile) -> None:
        source = planned.source
        assert source is not None
        os.symlink(source.link, name, dir_fd=parent)
        self._chown_name(parent, name, planned)
        times = (planned.mtime_ns, planned.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        self._stream.begin(planned.tar_header(path, link=source.link))
        self._record(path, planned, link=source.link)

    def _make_node(self, parent: int, path: bytes, name: bytes, planned: PlannedFile) -> None:
        source = planned.source
        assert source is not None
        major, minor = source.device >> 32, source.device & 0xFFFFFFFF
        is_placeholder = False
        try:
            os.mknod(name, _NODES[planned.kind] | 0o600, os.makedev(major, minor), dir_fd=parent)
        except PermissionError:
            # As when an image is unpacked: an empty file without permissions keeps the place.
            self._warn("device files cannot be made without root; empty files stand in for them")
            os.close(os.open(name, _CREATE_FLAGS, 0, dir_fd=parent))
            is_placeholder = True
        self._chown_name(parent, name, planned)
        if not is_placeholder:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
            try:
                os.chmod(descriptor_path(handle), planned.mode)
            finally:
                os.close(handle)
        times = (planned.mtime_ns, planned.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        self._stream.begin(planned.tar_header(path, device=source.device))
        self._record(path, planned, device=source.device, is_placeholder=is_placeholder)

    # --- look ---------------------------------------------------------------------------------

    def _chown(self, descriptor: int, planned: PlannedFile) -> bool:
        owner = (planned.user_id, planned.group_id)
        if owner == self._own_ids:
            return True
        return self._try_to_give(lambda: os.fchown(descriptor, *owner))

    def _chown_name(self, parent: int, name: bytes, planned: PlannedFile) -> None:
        owner = (planned.user_id, planned.group_id)
        if owner != self._own_ids:
            self._try_to_give(lambda: os.chown(name, *owner, dir_fd=parent, follow_symlinks=False))

    def _try_to_give(self, give: Callable[[], None]) -> bool:
        try:
            give()
        except OSError as error:
            # EPERM: no right to chown at all. EINVAL: an id that is not mapped here.
            if error.errno not in {errno.EPERM, errno.EINVAL}:
                raise
            self._warn("some owners are not available to this user; root owns those files instead")
            return False
        return True

    def _source_attributes(self, planned: PlannedFile) -> tuple[tuple[bytes, bytes], ...]:
        source = planned.source
        if source is None or not source.xattrs_digest:
            return ()
        descriptor = self._roots.open(planned.root, source.layer, source.path)
        try:
            return public_attributes(descriptor)
        finally:
            os.close(descriptor)

    def _set_attributes(self, descriptor: int, xattrs: tuple[tuple[bytes, bytes], ...]) -> bool:
        """Set attributes; True if the host refuses one."""
        is_reduced = False
        for name, value in xattrs:
            try:
                os.setxattr(descriptor_path(descriptor), name, value)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                is_reduced = True
                self._warn(f"the extended attribute {os.fsdecode(name)} could not be set here")
        return is_reduced

    def _warn(self, text: str) -> None:
        self._warnings[text] = self._warnings.get(text, 0) + 1

    # --- tar and index ------------------------------------------------------------------------

    def _record(
        self,
        path: bytes,
        planned: PlannedFile,
        *,
        size: int = 0,
        link: bytes = b"",
        digest: bytes = b"",
        device: int = 0,
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
        is_reduced: bool = False,
        is_placeholder: bool = False,
    ) -> None:
        self._entries.append(
            LayerEntry(
                path=path,
                kind=planned.kind,
                mode=planned.mode,
                user_id=planned.user_id,
                group_id=planned.group_id,
                size_bytes=size,
                mtime_ns=planned.mtime_ns,
                link=link,
                content_digest=digest,
                xattrs_digest=digest_xattrs(xattrs) if xattrs else b"",
                device=device,
                is_reduced=is_reduced,
                is_placeholder=is_placeholder,
            )
        )


def _write_or_skip(target: int, piece: bytes) -> bool:
    """Write a piece, or leave a hole where it is nothing but zeros; True for a hole."""
    length = len(piece)
    if not piece[0] and length >= _SHORTEST_HOLE_BYTES and piece == _ZEROES[:length]:
        os.lseek(target, length, os.SEEK_CUR)
        return True
    write_all(target, piece)
    return False
