"""The outside of an image archive: a tar, a directory, or a pipe, looked into by exact names."""

from __future__ import annotations

import errno
import os
import posixpath
import select
import stat
from typing import TYPE_CHECKING, Protocol

from engine.errors import ArchiveError, NoSpaceError, SyscallError
from engine.late_dataclasses import dataclass
from engine.linux.files import open_in_root
from engine.operations import CancelledRead
from engine.snapshots.streams import CHUNK_BYTES, FileSource, compression_of, decompress
from engine.snapshots.tar import BLOCK_BYTES, TarKind, TarLimits, TarReader, too_large_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.config import LayerLimits
    from engine.operations import Cancellation

_MEMBER_LIMIT = 100_000
_NAMES_BYTES = 16 << 20
_LINK_LIMIT = 16
_MAGIC_BYTES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A stretch of an open file. The descriptor belongs to the archive that gave it."""

    descriptor: int
    offset: int
    size: int


class ArchiveSource(Protocol):
    """Named content. Every method blocks."""

    @property
    def label(self) -> str:
        """What errors call the archive."""

    def find(self, name: str) -> Member | None:
        """A file by its exact name, `/` between directories; None if there is none."""

    def close(self) -> None:
        """Close every descriptor."""


class TarArchive:
    """A tar in a file that can be seeked; its members are used where they are."""

    def __init__(self, descriptor: int, *, label: str) -> None:
        """Read the headers; the descriptor is then this object's.

        Raises:
            ArchiveError: Not a tar, or damaged.
        """
        self.label = label
        self._descriptor = descriptor
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        limits = TarLimits(entries=_MEMBER_LIMIT)
        reader = TarReader(FileSource(descriptor), label=label, limits=limits)
        names_bytes = 0
        for entry in reader:
            names_bytes += len(entry.name) + len(entry.link)
            if names_bytes > _NAMES_BYTES:
                raise ArchiveError(label, "the names in it are longer than those of any image")
            name = _clean(os.fsdecode(entry.name))
            self._links.pop(name, None)
            self._files.pop(name, None)
            if entry.kind is TarKind.FILE and entry.segments is None:
                self._files[name] = (entry.data_offset, entry.data_bytes)
            elif entry.kind is TarKind.SYMLINK:
                # docker save names a layer that it has written already by a relative link.
                target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
                self._links[name] = _clean(target)
            elif entry.kind is TarKind.HARD_LINK:
                self._links[name] = _clean(os.fsdecode(entry.link))

    def find(self, name: str) -> Member | None:
        """As ArchiveSource."""
        name = _clean(name)
        for _ in range(_LINK_LIMIT):
            found = self._files.get(name)
            if found is not None:
                return Member(descriptor=self._descriptor, offset=found[0], size=found[1])
            if name not in self._links:
                return None
            name = self._links[name]
        raise ArchiveError(self.label, f"too many links lead to {name!r}")

    def close(self) -> None:
        """As ArchiveSource."""
        os.close(self._descriptor)


class DirectoryArchive:
    """An archive that lies unpacked in a directory, such as an OCI layout."""

    def __init__(self, descriptor: int, *, label: str) -> None:
        """Look into a directory; the descriptor is then this object's."""
        self.label = label
        self._directory = descriptor
        self._open: dict[str, Member] = {}

    def find(self, name: str) -> Member | None:
        """As ArchiveSource; links stay inside the directory."""
        name = _clean(name)
        known = self._open.get(name)
        if known is not None:
            return known
        try:
            # A pipe with this name would block for ever without O_NONBLOCK.
            descriptor = open_in_root(
                self._directory, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK
            )
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}:
                return None
            raise SyscallError("openat2", error.errno or errno.EIO, name) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        member = Member(descriptor=descriptor, offset=0, size=status.st_size)
        self._open[name] = member
        return member

    def close(self) -> None:
        """As ArchiveSource."""
        for member in self._open.values():
            os.close(member.descriptor)
        self._open.clear()
        os.close(self._directory)


def _clean(name: str) -> str:
    """A member's name without `.`, doubled slashes and `..`; above the root is the root."""
    return posixpath.normpath("/" + name).lstrip("/")


def open_archive(
    path: Path,
    *,
    staging: Path,
    limits: LayerLimits,
    cancellation: Cancellation,
    on_bytes: Callable[[int, int | None], None],
) -> ArchiveSource:
    """Open whatever a path leads to; blocking.

    A plain tar and a directory are used in place. What is compressed, and what cannot be seeked
    (a pipe), is first written, decompressed, into `staging`.

    Args:
        path: File, directory or pipe.
        staging: A directory of the store's own file system.
        limits: What a compressed one may decompress to, and the memory that it may take.
        cancellation: Ends the copying, with CancelledRead.
        on_bytes: Told how much was copied of how much, if that is known.

    Raises:
        ArchiveError: Nothing there, or nothing that can be an archive.
        NoSpaceError: The disk is full.
    """
    label = path.name if str(path) != "/dev/stdin" else "the standard input"
    try:
        # A pipe is waited for where the wait can be cancelled, not while it is opened.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(
            str(path), os.strerror(error.errno or errno.EIO), hint="Give the path of an archive"
        ) from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            source = DirectoryArchive(descriptor, label=label)
            descriptor = -1
            return source
        total = None
        if stat.S_ISREG(status.st_mode):
            if not status.st_size:
                raise ArchiveError(label, "it is empty")
            if not compression_of(os.pread(descriptor, _MAGIC_BYTES, 0)):
                kept, descriptor = descriptor, -1
                return _tar_archive(kept, label)
            total = status.st_size
        pieces = _read_stream(descriptor, cancellation, on_bytes, total)
        spooled = _spool(pieces, staging, label, limits)
        return _tar_archive(spooled, label)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _tar_archive(descriptor: int, label: str) -> TarArchive:
    try:
        return TarArchive(descriptor, label=label)
    except BaseException:
        os.close(descriptor)
        raise


def _spool(pieces: Iterator[bytes], staging: Path, label: str, limits: LayerLimits) -> int:
    """Copy a stream, decompressed, into a file without a name; return its descriptor."""
    spooled = os.open(staging, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        first = b""
        for piece in pieces:
            first += piece
            if len(first) >= _MAGIC_BYTES:
                break
        if not first:
            raise ArchiveError(label, "it is empty")
        magic, window_bytes = first[:_MAGIC_BYTES], limits.window_bytes
        chunks = decompress(_chain(first, pieces), magic, label, window_bytes=window_bytes)
        is_compressed = bool(compression_of(first))
        written = 0
        for chunk in _begin_as_tar(chunks, label, spooled):
            written += len(chunk)
            if is_compressed and written > limits.unpacked_bytes:
                raise too_large_error(label, limits.unpacked_bytes)
            view = memoryview(chunk)
            while view:
                view = view[os.write(spooled, view) :]
    except OSError as error:
        os.close(spooled)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(str(staging)) from error
        raise SyscallError("read", error.errno or errno.EIO, label) from error
    except BaseException:
        os.close(spooled)
        raise
    return spooled


def _begin_as_tar(chunks: Iterator[bytes], label: str, spooled: int) -> Iterator[bytes]:
    """Pass a stream on once it has begun as a tar: /dev/zero has no end."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= BLOCK_BYTES:
            TarReader(FileSource(spooled), label=label).check_beginning(head[:BLOCK_BYTES])
            break
    yield head
    yield from chunks


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _read_stream(
    descriptor: int,
    cancellation: Cancellation,
    on_bytes: Callable[[int, int | None], None],
    total: int | None,
) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    poll.register(cancellation.descriptor, select.POLLIN)
    done = 0
    while True:
        if any(ready == cancellation.descriptor for ready, _ in poll.poll()):
            raise CancelledRead
        try:
            piece = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            continue
        if not piece:
            return
        done += len(piece)
        on_bytes(done, total)
        yield piece
