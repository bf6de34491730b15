"""Where an image archive is written: a tar, plain or compressed, or a directory. All of it blocks.

Every entry has the same time and owner, so that the same images give the same bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from engine.errors import StoreError
from engine.late_dataclasses import dataclass
from engine.linux.files import start_writing_back
from engine.snapshots.file_content import write_all
from engine.snapshots.layer_tar_jobs import CompressingSink
from engine.snapshots.tar import BLOCK_BYTES, TarKind
from engine.snapshots.tar_writer import TarHeader, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.types import Compression

BLOBS = "blobs/sha256"
_LARGEST_PATCHED_BYTES = 4 << 30
"""Up to here the size of a member needs no second header, whatever compressing adds to it."""
_COPY_BYTES = 1 << 20
_WRITTEN_BACK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobIdentity:
    """What a blob is called and how long it is."""

    digest: str
    size: int


class MakeBlob(Protocol):
    """Makes the content of a blob."""

    def __call__(self, write: Callable[[bytes], object], /) -> BlobIdentity:
        """Write all of it, and say what it was."""


class ArchiveTarget(Protocol):
    """An archive that grows."""

    def add(self, name: str, content: bytes) -> None:
        """Add a document."""

    def add_blob(
        self, make: MakeBlob, *, expected: BlobIdentity | None, maximum_bytes: int | None
    ) -> BlobIdentity:
        """Add content under its digest.

        Args:
            make: Makes it; called once.
            expected: What it will be, where that is known.
            maximum_bytes: How long it can be, if that is known.
        """

    def close(self) -> int:
        """Write the end; returns how many bytes the archive has."""


def blob_name(digest: str) -> str:
    """Where a layout has a blob."""
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


class TarTarget:
    """A tar in a file or a pipe."""

    def __init__(
        self, descriptor: int, *, compression: Compression, staging: int, can_seek: bool
    ) -> None:
        """Write to a descriptor, which stays the caller's.

        Args:
            descriptor: A file or a pipe.
            compression: Of the whole.
            staging: A directory (descriptor) for what must be whole before it can be written.
            can_seek: The descriptor is a new file of ours: a header may be filled in later.
        """
        self._descriptor = descriptor
        self._staging = staging
        self._is_file = can_seek
        self._can_patch = can_seek and compression.value == "none"
        self._unsent_bytes = 0
        self._sink = CompressingSink(self._write_all, compression)
        self._position = 0
        for name in ("blobs/", f"{BLOBS}/"):
            self._stream().begin(_header(name.rstrip("/"), TarKind.DIRECTORY))

    def add(self, name: str, content: bytes) -> None:
        """As ArchiveTarget."""
        stream = self._stream()
        stream.begin(_header(name, size=len(content)))
        stream.write(content)

    def add_blob(
        self, make: MakeBlob, *, expected: BlobIdentity | None, maximum_bytes: int | None
    ) -> BlobIdentity:
        """As ArchiveTarget."""
        if expected is not None:
            return self._add_known(make, expected)
        if self._can_patch and maximum_bytes is not None and maximum_bytes < _LARGEST_PATCHED_BYTES:
            return self._add_and_patch(make)
        return self._add_spooled(make)

    def _add_known(self, make: MakeBlob, expected: BlobIdentity) -> BlobIdentity:
        stream = self._stream()
        stream.begin(_header(blob_name(expected.digest), size=expected.size))
        made = make(stream.write)
        if made != expected:
            raise StoreError(
                f"{expected.digest} in the store is damaged: it has become {made.digest}",
                hint="Remove the images that use it, and load or pull them again",
            )
        return made

    def _add_and_patch(self, make: MakeBlob) -> BlobIdentity:
        start = self._position
        self._put(bytes(BLOCK_BYTES))
        made = make(self._put)
        self._put(bytes(-made.size % BLOCK_BYTES))
        pieces: list[bytes] = []
        TarStream(pieces.append).begin(_header(blob_name(made.digest), size=made.size))
        os.pwrite(self._descriptor, b"".join(pieces), start)
        return made

    def _add_spooled(self, make: MakeBlob) -> BlobIdentity:
        flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
        spooled = os.open(".", flags, 0o600, dir_fd=self._staging)
        try:
            made = make(lambda piece: write_all(spooled, piece))
            os.lseek(spooled, 0, os.SEEK_SET)
            stream = self._stream()
            stream.begin(_header(blob_name(made.digest), size=made.size))
            while piece := os.read(spooled, _COPY_BYTES):
                stream.write(piece)
        finally:
            os.close(spooled)
        return made

    def close(self) -> int:
        """As ArchiveTarget."""
        self._stream().close()
        self._sink.finish()
        return self._sink.written_bytes

    def _stream(self) -> TarStream:
        # One an entry: each begins at a whole block.
        return TarStream(self._put)

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self._position += len(data)

    def _write_all(self, data: bytes) -> None:
        write_all(self._descriptor, data)
        self._unsent_bytes += len(data)
        if self._is_file and self._unsent_bytes >= _WRITTEN_BACK_BYTES:
            # The sync at the end finds less to do.
            start_writing_back(self._descriptor)
            self._unsent_bytes = 0


class DirectoryTarget:
    """A layout as a directory."""

    def __init__(self, directory: int) -> None:
        """Write into an empty directory, whose descriptor stays the caller's."""
        self._directory = directory
        self._size = 0
        os.mkdir("blobs", 0o755, dir_fd=directory)
        os.mkdir(BLOBS, 0o755, dir_fd=directory)

    def add(self, name: str, content: bytes) -> None:
        """As ArchiveTarget."""
        with open(self._create(name), "wb") as file:
            file.write(content)
        self._size += len(content)

    def add_blob(
        self, make: MakeBlob, *, expected: BlobIdentity | None, maximum_bytes: int | None
    ) -> BlobIdentity:
        """As ArchiveTarget."""
        unnamed = f"{BLOBS}/.unnamed"
        with open(self._create(unnamed), "wb", buffering=0) as file:
            made = make(lambda piece: write_all(file.fileno(), piece))
        target = blob_name(made.digest)
        os.rename(unnamed, target, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._size += made.size
        return made

    def close(self) -> int:
        """As ArchiveTarget."""
        return self._size

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o644, dir_fd=self._directory)


def _header(name: str, kind: TarKind = TarKind.FILE, *, size: int = 0) -> TarHeader:
    mode = 0o755 if kind is TarKind.DIRECTORY else 0o644
    return TarHeader(name=name.encode(), kind=kind, mode=mode, size=size)
