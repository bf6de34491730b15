"""A writable directory becomes a layer as it lies there: nothing is copied.

In two steps. `settle` makes the directory what a layer may be: it takes away what the engine made
in it (places for mounts), what no layer can hold (sockets) and what did not change, and sets times
later than the build's epoch back to that. From then on the next step can stand on it. `digest`
reads it once and writes the layer's index and tar beside it, which gives the diff id. The same
files give the same bytes: entries are sorted, times are whole seconds, owners have no names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.linux.files import open_beneath, open_directory, read_attributes
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.index import LayerEntry, digest_xattrs, make_index, sort_key, write_index
from engine.snapshots.layer_tar import LayerTarFile
from engine.snapshots.lowers import LowerLayers, copy_directory_look, is_opaque, is_whiteout
from engine.snapshots.tar import TarKind
from engine.snapshots.tar_writer import TarHeader, TarStream
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIECE_BYTES = 1 << 20
_NANOSECONDS = 1_000_000_000
_MOST_LINKS = 40
_PRIVATE_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"user.lamella.overlay.", b"security.se")
_KINDS = {
    stat.S_IFREG: (FileKind.FILE, TarKind.FILE),
    stat.S_IFDIR: (FileKind.DIRECTORY, TarKind.DIRECTORY),
    stat.S_IFLNK: (FileKind.SYMLINK, TarKind.SYMLINK),
    stat.S_IFCHR: (FileKind.CHARACTER_DEVICE, TarKind.CHARACTER_DEVICE),
    stat.S_IFBLK: (FileKind.BLOCK_DEVICE, TarKind.BLOCK_DEVICE),
    stat.S_IFIFO: (FileKind.FIFO, TarKind.FIFO),
}


class SealedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff`, `index` and `tar`; nothing is synced.

    Attributes:
        diff_id: Digest of the layer's tar.
        tar_bytes: How large that tar is.
    """

    diff_id: str
    tar_bytes: int
    size_bytes: int
    entry_count: int


class _Found(msgspec.Struct):
    """One path of the directory, as it stays."""

    path: bytes
    status: os.stat_result
    mtime_ns: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    is_opaque: bool = False
    is_dropped: bool = False


class LayerSealer:
    """One writable directory on its way to a layer; blocking."""

    def __init__(
        self,
        directory: int,
        *,
        lower_paths: Sequence[str],
        epoch_ns: int | None,
        started_at_ns: int = 0,
    ) -> None:
        """Take a layer's directory, whose `diff` is what was written.

        Args:
            directory: Stays the caller's.
            lower_paths: `diff` of the layers below, topmost first.
            epoch_ns: The latest time that anything may have; None leaves times as they are, but
                for parts of a second.
            started_at_ns: When writing began: what is older may have been copied up unchanged.
        """
        self._directory = directory
        self._lower_paths = tuple(lower_paths)
        self._epoch_ns = epoch_ns
        self._started_at_ns = started_at_ns
        self._found: list[_Found] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written; after `settle`."""
        return not self._found

    # --- settle -------------------------------------------------------------------------------

    def settle(self, places: Iterable[bytes] = ()) -> None:
        """Make the directory what a layer may be.

        Args:
            places: Where the engine mounted something; what it made there goes if it is empty.

        Raises:
            OSError: The directory cannot be read or changed.
        """
        root = open_beneath(self._directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        lowers = LowerLayers(self._lower_paths)
        try:
            for place in sorted(places, key=lambda path: -path.count(b"/")):
                _remove_place(root, _resolve(root, place, lowers), lowers)
            self._settle_root(root, lowers)
            self._settle_directory(root, b"", lowers, is_new=not self._lower_paths)
            self._found = [one for one in self._found if not one.is_dropped]
            self._found.sort(key=lambda one: sort_key(one.path))
        finally:
            lowers.close()
            os.close(root)

    def _settle_root(self, root: int, lowers: LowerLayers) -> None:
        """The root's own look is not part of a layer's tar, so it is as it was below."""
        if lowers.is_empty:
            return
        below = lowers.open(b".")
        if below is not None:
            try:
                copy_directory_look(below, root)
                os.fchmod(root, os.fstat(below).st_mode & 0o7777)
            finally:
                os.close(below)

    def _settle_directory(
        self, directory: int, path: bytes, lowers: LowerLayers, *, is_new: bool
    ) -> bool:
        """Settle what is in a directory; False if nothing of it stays.

        Args:
            directory: Open for reading.
            path: From the root.
            lowers: What is below.
            is_new: Nothing below has this directory, so nothing in it can be compared.
        """
        prefix = path + b"/" if path else b""
        stays = False
        for name in sorted(os.fsencode(entry) for entry in os.listdir(directory)):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            child = prefix + name
            if stat.S_ISSOCK(status.st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            if is_whiteout(status):
                self._found.append(_Found(child, status, 0, ()))
                stays = True
            elif stat.S_ISDIR(status.st_mode):
                stays |= self._settle_child_directory(directory, name, child, lowers, is_new=is_new)
            else:
                stays |= self._settle_file(directory, name, child, status, lowers, is_new=is_new)
        return stays

    def _settle_child_directory(
        self, parent: int, name: bytes, path: bytes, lowers: LowerLayers, *, is_new: bool
    ) -> bool:
        directory = open_directory(parent, name)
        try:
            status = os.fstat(directory)
            xattrs = read_attributes(directory) if _may_have_attributes(directory, b"") else ()
            found = _Found(path, status, 0, _public(xattrs))
            found.is_opaque = bool(xattrs) and is_opaque(directory)
            self._found.append(found)
            is_unknown = is_new or found.is_opaque or not lowers.has_directory(path)
            holds = self._settle_directory(directory, path, lowers, is_new=is_unknown)
            if not holds and not is_unknown and _is_as_below(found, lowers):
                # It was copied up, and in the end nothing about it is different.
                found.is_dropped = True
                os.rmdir(name, dir_fd=parent)
                return False
            # After what is in it: making and removing there changes its time.
            found.mtime_ns = self._clamp(status.st_mtime_ns)
            os.utime(directory, ns=(found.mtime_ns, found.mtime_ns))
        finally:
            os.close(directory)
        return True

    def _settle_file(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        status: os.stat_result,
        lowers: LowerLayers,
        *,
        is_new: bool,
    ) -> bool:
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        if _may_have_attributes(directory, name):
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            try:
                xattrs = _public(read_attributes(descriptor))
            finally:
                os.close(descriptor)
        found = _Found(path, status, self._clamp(status.st_mtime_ns), xattrs)
        may_be_unchanged = not is_new and status.st_mtime_ns < self._started_at_ns
        if (
            may_be_unchanged
            and status.st_nlink == 1
            and _is_copied_up(directory, name, found, lowers)
        ):
            os.unlink(name, dir_fd=directory)
            return False
        if found.mtime_ns != status.st_mtime_ns:
            times = (found.mtime_ns, found.mtime_ns)
            os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
        self._found.append(found)
        return True

    def _clamp(self, mtime_ns: int) -> int:
        if self._epoch_ns is not None and mtime_ns > self._epoch_ns:
            return self._epoch_ns
        return mtime_ns - mtime_ns % _NANOSECONDS

    # --- digest -------------------------------------------------------------------------------

    def digest(self) -> SealedLayer:
        """Read what was settled, and write `index` and `tar`.

        Raises:
            OSError: It cannot be read, or the disk is full.
        """
        root = open_beneath(self._directory, DIFF_NAME.encode(), os.O_PATH | os.O_DIRECTORY)
        whole = hashlib.sha256()
        try:
            with LayerTarFile(self._directory) as recorder:
                pending = bytearray()

                def write(piece: bytes) -> None:
                    recorder.add(piece)
                    # Headers are small: a call for each would cost more than its work.
                    pending.extend(piece)
                    if len(pending) >= _PIECE_BYTES:
                        whole.update(pending)
                        pending.clear()

                stream = TarStream(write)
                packer = _Packer(root, stream, recorder)
                entries = [packer.add(found) for found in self._found]
                stream.close()
                whole.update(pending)
                recorder.end()
        finally:
            os.close(root)
        index = make_index(entries)
        write_index(self._directory, index)
        return SealedLayer(
            diff_id=f"sha256:{whole.hexdigest()}",
            tar_bytes=stream.written_bytes,
            size_bytes=index.size_bytes,
            entry_count=index.entry_count,
        )


class _Packer:
    """Appends settled paths to a tar, and makes their entries of the index."""

    def __init__(self, root: int, stream: TarStream, recorder: LayerTarFile) -> None:
        self._root = root
        self._stream = stream
        self._recorder = recorder
        self._first_names: dict[tuple[int, int], tuple[bytes, LayerEntry]] = {}

    def add(self, found: _Found) -> LayerEntry:
        status, path = found.status, found.path
        if is_whiteout(status):
            self._add_marker(_beside(path))
            return LayerEntry(
                path=path, kind=FileKind.WHITEOUT, mode=0, user_id=0, group_id=0, size_bytes=0,
                mtime_ns=0,
            )  # fmt: skip
        kind, tar_kind = _KINDS[stat.S_IFMT(status.st_mode)]
        identity = (status.st_dev, status.st_ino)
        if kind is not FileKind.DIRECTORY and status.st_nlink > 1 and identity in self._first_names:
            return self._add_hard_link(found, *self._first_names[identity])
        link = b""
        if kind is FileKind.SYMLINK:
            link = self._read_link(path)
        is_device = kind in {FileKind.CHARACTER_DEVICE, FileKind.BLOCK_DEVICE}
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        header = TarHeader(
            name=path,
            kind=tar_kind,
            mode=stat.S_IMODE(status.st_mode),
            user_id=status.st_uid,
            group_id=status.st_gid,
            size=status.st_size if kind is FileKind.FILE else 0,
            modified_at=found.mtime_ns // _NANOSECONDS,
            link=link,
            device_major=major if is_device else 0,
            device_minor=minor if is_device else 0,
            xattrs=found.xattrs,
        )
        self._stream.begin(header)
        content_digest = self._add_content(path, status.st_size) if kind is FileKind.FILE else b""
        if found.is_opaque:
            self._add_marker(path + b"/.wh..wh..opq")
        entry = LayerEntry(
            path=path,
            kind=kind,
            mode=header.mode,
            user_id=status.st_uid,
            group_id=status.st_gid,
            size_bytes=header.size,
            mtime_ns=found.mtime_ns,
            link=link,
            content_digest=content_digest,
            xattrs_digest=digest_xattrs(found.xattrs),
            device=major << 32 | minor if is_device else 0,
            is_opaque=found.is_opaque,
        )
        if kind is not FileKind.DIRECTORY and status.st_nlink > 1:
            self._first_names[identity] = (path, entry)
        return entry

    def _add_marker(self, name: bytes) -> None:
        self._stream.begin(TarHeader(name=name, kind=TarKind.FILE, mode=0))

    def _add_hard_link(self, found: _Found, name: bytes, first: LayerEntry) -> LayerEntry:
        self._stream.begin(
            TarHeader(
                name=found.path,
                kind=TarKind.HARD_LINK,
                mode=first.mode,
                user_id=first.user_id,
                group_id=first.group_id,
                modified_at=first.mtime_ns // _NANOSECONDS,
                link=name,
            )
        )
        return msgspec.structs.replace(first, path=found.path, kind=FileKind.HARD_LINK, link=name)

    def _read_link(self, path: bytes) -> bytes:
        descriptor = open_beneath(self._root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink(b"", dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _add_content(self, path: bytes, size: int) -> bytes:
        digest = hashlib.sha256()
        self._recorder.begin_content(path, ((0, size),))
        descriptor = open_beneath(self._root, path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            left = size
            while left:
                piece = os.read(descriptor, min(left, _PIECE_BYTES))
                if not piece:
                    raise OSError(0, f"{os.fsdecode(path)} became shorter while it was read")
                digest.update(piece)
                self._stream.write(piece)
                left -= len(piece)
        finally:
            os.close(descriptor)
        return digest.digest()


def _beside(path: bytes) -> bytes:
    """The name of the mark for a path that was removed (OCI image-spec, layer.md, "Whiteouts")."""
    parent, slash, name = path.rpartition(b"/")
    return parent + slash + b".wh." + name


def _may_have_attributes(directory: int, name: bytes) -> bool:
    path = f"/proc/self/fd/{directory}"
    try:
        if name:
            return bool(os.listxattr(os.path.join(os.fsencode(path), name), follow_symlinks=False))
        return bool(os.listxattr(path))
    except OSError:
        return False


def _public(xattrs: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(one for one in xattrs if not one[0].startswith(_PRIVATE_XATTRS))


def _is_as_below(found: _Found, lowers: LowerLayers) -> bool:
    """Whether a path is what it was before; of a directory but for what is in it."""
    descriptor = lowers.open(found.path)
    if descriptor is None:
        return False
    try:
        below, above = os.fstat(descriptor), found.status
        if (below.st_mode, below.st_uid, below.st_gid) != (
            above.st_mode, above.st_uid, above.st_gid,
        ):  # fmt: skip
            return False
        if not stat.S_ISDIR(above.st_mode) and (
            below.st_size, below.st_mtime_ns, below.st_rdev,
        ) != (above.st_size, above.st_mtime_ns, above.st_rdev):  # fmt: skip
            return False
        return _public(read_attributes(descriptor)) == found.xattrs
    finally:
        os.close(descriptor)


def _is_copied_up(directory: int, name: bytes, found: _Found, lowers: LowerLayers) -> bool:
    """Whether a file is the one below, and nothing about it is different.

    A time says nothing of what a file holds: programs set it, and all files that builds wrote have
    the same.
    """
    return _is_as_below(found, lowers) and lowers.has_same_content(found.path, directory, name)


def _remove_place(root: int, path: bytes, lowers: LowerLayers) -> None:
    """Remove an empty file or directory that was made to be mounted on, and parents made for it."""
    while path and not lowers.has_path(path):
        parent, _, name = path.rpartition(b"/")
        try:
            directory = open_beneath(root, parent or b".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=directory)
            elif stat.S_ISREG(status.st_mode) and not status.st_size:
                os.unlink(name, dir_fd=directory)
            else:
                return
        except OSError:
            return
        finally:
            os.close(directory)
        path = parent


def _resolve(root: int, path: bytes, lowers: LowerLayers) -> bytes:
    """Where a path leads from the root that the program saw: links are followed inside it."""
    done: list[bytes] = []
    pending = _parts(path)[::-1]
    links_left = _MOST_LINKS
    while pending:
        name = pending.pop()
        if name == b"..":
            del done[-1:]
            continue
        target = _link_at(root, b"/".join((*done, name)), lowers) if links_left else None
        if target is None:
            done.append(name)
            continue
        links_left -= 1
        if target.startswith(b"/"):
            done.clear()
        pending += _parts(target)[::-1]
    return b"/".join(done)


def _parts(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def _link_at(root: int, path: bytes, lowers: LowerLayers) -> bytes | None:
    """The target of a symbolic link; None for anything else, and for nothing."""
    try:
        descriptor: int | None = open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        descriptor = lowers.open(path)
    if descriptor is None:
        return None
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            return None
        return os.readlink(b"", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def prepare_upper(directory: int, lower_path: str) -> None:
    """Give the `diff` of a new layer's directory the look of the root below it; blocking.

    Raises:
        OSError: The host does not let it.
    """
    with contextlib.ExitStack() as stack:
        upper = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, upper)
        lower = os.open(lower_path, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, lower)
        copy_directory_look(lower, upper)
        os.fchmod(upper, os.fstat(lower).st_mode & 0o7777)
