"""Whether a layer on disk is what its index says: every path, every attribute, every byte.

The index was written while the layer was unpacked and verified against its diff id, so what agrees
with the index is the layer. Where it is kept how the tar was written, that is made again and must
have the diff id itself. Nothing is followed and nothing is written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.errors import StoreError
from engine.linux.files import descriptor_path, open_beneath, open_directory, read_attributes
from engine.snapshots.base import DIFF_NAME, INDEX_NAME, TAR_NAME
from engine.snapshots.index import LayerEntry, LayerIndex, decode_index, digest_xattrs
from engine.snapshots.layer_tar import write_layer_tar
from engine.snapshots.lowers import OPAQUE_NAMES, is_opaque, is_whiteout
from engine.types import FileKind

if TYPE_CHECKING:
    from engine.snapshots.job_parts import Reporter

_PROGRESS_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_MOST_DIFFERENCES = 20
_EVERY_ID = 4_294_967_295
_TIMES = range(1 << 31)
"""Seconds that every file system can keep; others are cut by some."""

_KINDS = {
    FileKind.FILE: stat.S_IFREG,
    FileKind.DIRECTORY: stat.S_IFDIR,
    FileKind.SYMLINK: stat.S_IFLNK,
    FileKind.CHARACTER_DEVICE: stat.S_IFCHR,
    FileKind.BLOCK_DEVICE: stat.S_IFBLK,
    FileKind.FIFO: stat.S_IFIFO,
}


class VerifiedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer to verify.

    Attributes:
        label: What messages call the layer.
        diff_id: What its tar must have.
    """

    label: str
    diff_id: str


class VerifyArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Verify layers. Descriptors: their directories, in this order."""

    layers: tuple[VerifiedLayer, ...]


class VerifyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it has come.

    Attributes:
        position: Of the layer in the arguments.
        done: How many bytes of it were read.
        total: How many it has.
    """

    position: int
    done: int
    total: int


class VerifyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer is found to be.

    Attributes:
        size_bytes: As the index has it; 0 when there is none.
        entry_count: As the index has it.
        read_bytes: How much of the files' contents was read.
        difference_count: Everything that is not as it should be.
        differences: The first of them, a sentence each.
    """

    size_bytes: int = 0
    entry_count: int = 0
    read_bytes: int = 0
    difference_count: int = 0
    differences: tuple[str, ...] = ()


def verify_layers(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Compare each layer's `diff` with its `index`: a VerifyResult each. Damage is no error."""
    request = msgspec.json.decode(arguments, type=VerifyArguments)
    results = []
    for position, (layer, directory) in enumerate(zip(request.layers, descriptors, strict=True)):
        verification = _Verification(layer, position, report)
        verification.verify(directory)
        results.append(verification.result())
    return msgspec.json.encode(results)


class _Verification:
    def __init__(self, layer: VerifiedLayer, position: int, report: Reporter) -> None:
        self._label = layer.label
        self._diff_id = layer.diff_id
        self._position = position
        self._report = report
        self._index = LayerIndex(version=0, size_bytes=0, entry_count=0, entries=[])
        self._entries: dict[bytes, LayerEntry] = {}
        self._children: dict[bytes, list[bytes]] = {}
        self._inodes: dict[bytes, tuple[int, int]] = {}
        self._differences: list[str] = []
        self._difference_count = 0
        self._read_bytes = 0
        self._reported_bytes = 0
        self._has_every_id = _has_every_id()

    def result(self) -> VerifyResult:
        return VerifyResult(
            size_bytes=self._index.size_bytes,
            entry_count=self._index.entry_count,
            read_bytes=self._read_bytes,
            difference_count=self._difference_count,
            differences=tuple(self._differences),
        )

    def verify(self, directory: int) -> None:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(INDEX_NAME, flags, dir_fd=directory), "rb") as file:
                self._index = decode_index(file.read(), self._label)
            root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        except StoreError as error:
            self._differs(error.message)
            return
        except OSError as error:
            self._differs(f"its {_named(error, INDEX_NAME)}: {error.strerror}")
            return
        self._tell()
        try:
            self._arrange()
            self._compare_root(root)
            self._walk(root)
            self._compare_links()
        finally:
            os.close(root)
        if not self._difference_count:
            self._compare_tar(directory)

    def _arrange(self) -> None:
        for entry in self._index.entries:
            self._entries[entry.path] = entry
            if entry.path:
                parent, _, name = entry.path.rpartition(b"/")
                self._children.setdefault(parent, []).append(name)

    def _compare_root(self, root: int) -> None:
        if (entry := self._entries.get(b"")) is not None:
            self._compare(entry, root)

    def _walk(self, root: int) -> None:
        pending = [b""]
        while pending:
            path = pending.pop()
            try:
                directory = open_directory(root, path or b".", may_cross_mounts=False)
            except OSError as error:
                self._differs(f"{os.fsdecode(path)} cannot be entered: {error.strerror}")
                continue
            try:
                pending += self._compare_directory(directory, path)
            finally:
                os.close(directory)

    def _compare_directory(self, directory: int, path: bytes) -> list[bytes]:
        """Compare what a directory holds; returns the directories in it."""
        prefix = path + b"/" if path else b""
        there = {os.fsencode(name) for name in os.listdir(directory)}
        expected = set(self._children.get(path, ()))
        for name in sorted(there - expected):
            self._differs(f"{os.fsdecode(prefix + name)} is not part of the layer")
        for name in sorted(expected - there):
            self._differs(f"{os.fsdecode(prefix + name)} is missing")
        entered: list[bytes] = []
        for name in sorted(there & expected):
            entry = self._entries[prefix + name]
            try:
                descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            except OSError as error:
                self._differs(f"{os.fsdecode(entry.path)} cannot be opened: {error.strerror}")
                continue
            try:
                self._compare(entry, descriptor)
            except OSError as error:
                self._differs(f"{os.fsdecode(entry.path)} cannot be read: {error.strerror}")
            finally:
                os.close(descriptor)
            if entry.kind is FileKind.DIRECTORY:
                entered.append(entry.path)
        return entered

    def _compare(self, entry: LayerEntry, descriptor: int) -> None:
        """Compare one path; reads its content.

        Raises:
            OSError: It cannot be read.
        """
        path = os.fsdecode(entry.path) or "the root"
        status = os.fstat(descriptor)
        if entry.kind is FileKind.WHITEOUT:
            if not is_whiteout(status):
                self._differs(f"{path} is not the mark of something removed that it was")
            return
        self._inodes[entry.path] = (status.st_dev, status.st_ino)
        if entry.is_placeholder or entry.kind is FileKind.HARD_LINK:
            return  # the host could not make it; or it is compared under its first name
        if stat.S_IFMT(status.st_mode) != _KINDS[entry.kind] or is_whiteout(status):
            self._differs(f"{path} is no {entry.kind.value.replace('-', ' ')} any more")
            return
        self._compare_attributes(entry, status, descriptor, path)
        match entry.kind:
            case FileKind.FILE:
                self._compare_content(entry, status, descriptor, path)
            case FileKind.DIRECTORY if is_opaque(descriptor) is not entry.is_opaque:
                self._differs(f"{path} hides what lies below it, or no longer does")
            case FileKind.SYMLINK if os.readlink(b"", dir_fd=descriptor) != entry.link:
                self._differs(f"{path} points somewhere else")
            case FileKind.CHARACTER_DEVICE | FileKind.BLOCK_DEVICE:
                device = os.major(status.st_rdev) << 32 | os.minor(status.st_rdev)
                if device != entry.device:
                    self._differs(f"{path} is another device")

    def _compare_attributes(
        self, entry: LayerEntry, status: os.stat_result, descriptor: int, path: str
    ) -> None:
        owner = (status.st_uid, status.st_gid)
        mode = stat.S_IMODE(status.st_mode)
        is_given_to_us = (
            not self._has_every_id
            and owner == (os.geteuid(), os.getegid())
            and owner != (entry.user_id, entry.group_id)
        )
        if not is_given_to_us and owner != (entry.user_id, entry.group_id):
            self._differs(
                f"{path} belongs to {owner[0]}:{owner[1]}, not to {entry.user_id}:{entry.group_id}"
            )
        # What is given to another owner than the layer says loses its set-id bits.
        allowed = {entry.mode, entry.mode & 0o1777} if is_given_to_us else {entry.mode}
        if entry.kind is not FileKind.SYMLINK and mode not in allowed:
            self._differs(f"{path} has mode {mode:04o}, not {entry.mode:04o}")
        seconds = entry.mtime_ns // 1_000_000_000
        if (
            entry.kind is FileKind.FILE
            and seconds in _TIMES
            and seconds != status.st_mtime_ns // 1_000_000_000
        ):
            self._differs(f"{path} was written to at another time")
        if not entry.is_reduced and self._has_every_id:
            attributes = [
                (name, value)
                for name, value in read_attributes(descriptor)
                if os.fsdecode(name) not in OPAQUE_NAMES
            ]
            if digest_xattrs(attributes) != entry.xattrs_digest:
                self._differs(f"{path} has other extended attributes")

    def _compare_content(
        self, entry: LayerEntry, status: os.stat_result, descriptor: int, path: str
    ) -> None:
        if status.st_size != entry.size_bytes:
            self._differs(f"{path} has {status.st_size} bytes, not {entry.size_bytes}")
            return
        digest = hashlib.sha256()
        with open(os.open(descriptor_path(descriptor), os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                self._count(len(piece))
        if entry.content_digest and digest.digest() != entry.content_digest:
            self._differs(f"{path} has another content")

    def _compare_links(self) -> None:
        for path, entry in self._entries.items():
            if entry.kind is not FileKind.HARD_LINK or path not in self._inodes:
                continue
            if self._inodes.get(entry.link) != self._inodes[path]:
                self._differs(
                    f"{os.fsdecode(path)} is no longer the same file as {os.fsdecode(entry.link)}"
                )

    def _compare_tar(self, directory: int) -> None:
        """Make the layer's tar again, where it is known how it was written."""
        try:
            os.stat(TAR_NAME, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        digest = hashlib.sha256()
        try:
            write_layer_tar(directory, digest.update, self._label)
        except StoreError as error:
            self._differs(error.message)
        except OSError as error:
            self._differs(f"its tar cannot be made again: {error.strerror}")
        else:
            if f"sha256:{digest.hexdigest()}" != self._diff_id:
                self._differs("its tar has another digest than the diff id")

    def _count(self, read_bytes: int) -> None:
        self._read_bytes += read_bytes
        if self._read_bytes - self._reported_bytes >= _PROGRESS_BYTES:
            self._tell()

    def _tell(self) -> None:
        self._reported_bytes = self._read_bytes
        told = VerifyProgress(
            position=self._position, done=self._read_bytes, total=self._index.size_bytes
        )
        self._report(msgspec.json.encode(told))

    def _differs(self, text: str) -> None:
        self._difference_count += 1
        if len(self._differences) < _MOST_DIFFERENCES:
            self._differences.append(text)


def _named(error: OSError, name: str) -> str:
    is_index = error.filename in {name, name.encode()}
    return "file list cannot be read" if is_index else "files cannot be read"


def _has_every_id() -> bool:
    """Whether every user and group can own a file here; elsewhere unpacking had to give some up."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            words = file.read().split()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.EACCES}:
            raise
        return False
    return os.geteuid() == 0 and len(words) == 3 and int(words[2]) == _EVERY_ID


JOBS = {"verify-layers": verify_layers}
