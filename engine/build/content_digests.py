"""Digests of the files of a context, remembered from build to build.

A file that has the size, the times and the inode that it had is not read again. What was written
shortly before it was looked at is not remembered: a second write within the same tick of the
clock would leave all of these as they are (git calls such a file racily clean).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from engine.errors import BuildCopyError, BuildSourceChangedError
from engine.linux.files import open_directory
from engine.operations import CancelledRead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.build.file_tree import SourceFile

_VERSION = 1
_MOST_REMEMBERED = 500_000
_RACY_NS = 2_000_000_000
_PIECE_BYTES = 1 << 20
_LARGE_FILE_BYTES = 4 << 20
_TRY_LIMIT = 3
_REPLACED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO))
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Remembered(msgspec.Struct, array_like=True, gc=False, frozen=True):
    size_bytes: int
    mtime_ns: int
    changed_at_ns: int
    inode: int
    digest: bytes


class _Document(msgspec.Struct, array_like=True):
    version: int
    files: dict[bytes, _Remembered]


_decoder = msgspec.msgpack.Decoder(_Document)


class DigestMemory:
    """What is remembered of one context; not to be shared by threads."""

    def __init__(self, path: str = "") -> None:
        """Remember in a file; empty for nowhere."""
        self._path = path
        self._files: dict[bytes, _Remembered] | None = None
        self._is_changed = False

    def find(self, file: SourceFile) -> bytes:
        """The digest of a file that is as it was; empty for another."""
        if self._files is None:
            self._files = self._load()
        known = self._files.get(file.path)
        if (
            known is None
            or known.size_bytes != file.size_bytes
            or known.mtime_ns != file.mtime_ns
            or known.changed_at_ns != file.changed_at_ns
            or known.inode != file.inode
        ):
            return b""
        return known.digest

    def add(self, file: SourceFile, now_ns: int) -> None:
        """Remember a file's digest, unless it was written only just now."""
        if self._files is None:
            self._files = self._load()
        if now_ns - max(file.mtime_ns, file.changed_at_ns) < _RACY_NS:
            return
        if len(self._files) >= _MOST_REMEMBERED and file.path not in self._files:
            return
        self._is_changed = True
        self._files[file.path] = _Remembered(
            file.size_bytes, file.mtime_ns, file.changed_at_ns, file.inode, file.content_digest
        )

    def save(self) -> None:
        """Write down what is new; a file that cannot be written is no error, only slow."""
        if not self._is_changed or not self._path or self._files is None:
            return
        document = msgspec.msgpack.encode(_Document(_VERSION, self._files))
        temporary = f"{self._path}.{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                file.write(hashlib.sha256(document).digest())
                file.write(document)
            os.replace(temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        self._is_changed = False

    def _load(self) -> dict[bytes, _Remembered]:
        if not self._path:
            return {}
        try:
            with open(self._path, "rb") as file:
                content = file.read()
        except OSError:
            return {}
        # It is never synced: what a power cut leaves of it must not be believed.
        document = memoryview(content)[32:]
        if hashlib.sha256(document).digest() != content[:32]:
            return {}
        try:
            decoded = _decoder.decode(document)
        except msgspec.DecodeError:
            return {}
        return decoded.files if decoded.version == _VERSION else {}


def digest_files(
    root: int,
    files: Iterable[SourceFile],
    memory: DigestMemory,
    *,
    stop: threading.Event | None = None,
) -> None:
    """Fill in the digests of regular files below a directory; blocking.

    What is said of a file is what it was when it was read.

    Args:
        root: Descriptor of the directory.
        files: Which ones.
        memory: Knows those that are as they were.
        stop: Ends it, when it is set, with CancelledRead.

    Raises:
        BuildSourceChangedError: A file changes all the time, or is none any more.
        BuildCopyError: A file may not be read.
    """
    by_directory: dict[bytes, list[SourceFile]] = {}
    for file in files:
        file.content_digest = memory.find(file)
        if not file.content_digest:
            by_directory.setdefault(file.path.rpartition(b"/")[0], []).append(file)
    if not by_directory:
        return
    stop = stop or threading.Event()
    now_ns = time.time_ns()
    large: list[SourceFile] = []
    for path, missing in by_directory.items():
        directory = _open_directory(root, path)
        try:
            for file in missing:
                if file.size_bytes >= _LARGE_FILE_BYTES:
                    large.append(file)
                else:
                    _digest(directory, file, stop)
        finally:
            os.close(directory)
    _digest_large(root, large, stop)
    for missing in by_directory.values():
        for file in missing:
            memory.add(file, now_ns)


def _digest_large(root: int, files: Sequence[SourceFile], stop: threading.Event) -> None:
    """Large files side by side: hashing leaves the interpreter to others."""
    if not files:
        return

    def digest(file: SourceFile) -> None:
        directory = _open_directory(root, file.path.rpartition(b"/")[0])
        try:
            _digest(directory, file, stop)
        finally:
            os.close(directory)

    workers = min(4, os.cpu_count() or 1, len(files))
    with ThreadPoolExecutor(workers, thread_name_prefix="lamella-digests") as executor:
        for _ in executor.map(digest, files):
            pass


def _open_directory(root: int, path: bytes) -> int:
    try:
        return open_directory(root, path or b".")
    except OSError as error:
        raise _reading_error(path, error) from None


def _digest(directory: int, file: SourceFile, stop: threading.Event) -> None:
    for _ in range(_TRY_LIMIT):
        try:
            descriptor = os.open(file.path.rpartition(b"/")[2], _OPEN_FLAGS, dir_fd=directory)
        except OSError as error:
            raise _reading_error(file.path, error) from None
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                break
            digest = _digest_content(descriptor, before.st_size, stop)
            after = os.fstat(descriptor)
        except OSError as error:
            raise _reading_error(file.path, error) from None
        finally:
            os.close(descriptor)
        if _is_same(before, after):
            _take_over(file, after)
            file.content_digest = digest
            return
    raise BuildSourceChangedError(os.fsdecode(file.path))


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody wrote between; another file that takes its name does not change this one."""
    is_untouched = before.st_ctime_ns == after.st_ctime_ns or before.st_nlink != after.st_nlink
    written_before = (before.st_size, before.st_mtime_ns)
    return is_untouched and written_before == (after.st_size, after.st_mtime_ns)


def _digest_content(descriptor: int, size_bytes: int, stop: threading.Event) -> bytes:
    if stop.is_set():
        raise CancelledRead
    if size_bytes < _PIECE_BYTES:
        # One byte more than there should be, to see the end in one go.
        content = os.read(descriptor, size_bytes + 1)
        if len(content) == size_bytes:
            return hashlib.sha256(content).digest()
        os.lseek(descriptor, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    buffer = bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        digest.update(view[:count])
        if stop.is_set():
            raise CancelledRead
    return digest.digest()


def _take_over(file: SourceFile, status: os.stat_result) -> None:
    file.size_bytes = status.st_size
    file.mode = stat.S_IMODE(status.st_mode)
    file.mtime_ns = status.st_mtime_ns
    file.changed_at_ns = status.st_ctime_ns
    file.inode = status.st_ino


def _reading_error(path: bytes, error: OSError) -> BuildCopyError | BuildSourceChangedError:
    shown = os.fsdecode(path)
    if error.errno in _REPLACED:
        return BuildSourceChangedError(shown)
    if isinstance(error, PermissionError):
        return BuildCopyError(
            f"{shown}: permission denied",
            hint="Let yourself read it, or leave it out in .dockerignore",
        )
    return BuildCopyError(f"{shown}: {error.strerror}")
