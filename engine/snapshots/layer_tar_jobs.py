"""The job that writes a layer as a tar, plain or compressed: for archives and for registries."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import DigestMismatchError, ReaderGoneError
from engine.linux.files import open_beneath
from engine.snapshots.base import DIFF_NAME, INDEX_NAME, TAR_NAME
from engine.snapshots.file_content import write_all
from engine.snapshots.index import decode_index
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.layer_tar import write_layer_tar
from engine.snapshots.parallel_gzip import ParallelGzip
from engine.snapshots.removal import engine_error
from engine.snapshots.streams import CHUNK_BYTES, PackedSource
from engine.snapshots.tar_writer import TarStream
from engine.snapshots.tree_tar import TreePacker, pack_layer
from engine.types import Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRESS_BYTES = 4 << 20
_ZSTD_LEVEL = 3


class LayerTarArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Write a layer's tar. Descriptors: the layer's directory, what is written to.

    Attributes:
        label: What errors call the layer.
        diff_id: What the tar must have, where it can be made exactly.
        compression: Of what is written.
    """

    label: str
    diff_id: str
    compression: Compression = Compression.NONE


class LayerTarResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        diff_id: Of the tar; another one than was asked for only if not `is_exact`.
        blob_digest: Of what was written, which is the tar or the tar compressed.
        is_exact: It is the tar that the layer came as. A layer that was unpacked before tars
            were kept is packed anew of its files.
    """

    diff_id: str
    tar_bytes: int
    blob_digest: str
    blob_bytes: int
    is_exact: bool


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class CompressingSink:
    """Compresses and writes what it is given."""

    def __init__(self, write: Callable[[bytes], object], compression: Compression) -> None:
        """Write to `write`, which takes all of what it is given."""
        self._write = write
        self._compressor = _compressor(compression)
        self.written_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Take in a piece."""
        self._put(chunk if self._compressor is None else self._compressor.compress(chunk))

    def finish(self) -> None:
        """Write the end."""
        if self._compressor is not None:
            self._put(self._compressor.flush())

    def _put(self, data: bytes) -> None:
        if data:
            self._write(data)
            self.written_bytes += len(data)


class BlobSink(CompressingSink):
    """Hashes what it has written as well."""

    def __init__(self, write: Callable[[bytes], object], compression: Compression) -> None:
        """As CompressingSink."""
        super().__init__(write, compression)
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of everything that was written."""
        return f"sha256:{self._hash.hexdigest()}"

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        super()._put(data)


def _compressor(compression: Compression) -> _Compressor | None:
    if compression is Compression.GZIP:
        return ParallelGzip()
    if compression is Compression.ZSTD:
        zstandard: _Compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL)
        return zstandard
    return None


def layer_tar(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Write a layer's tar into a file or a pipe: a LayerTarResult.

    Raises:
        ReaderGoneError: Nobody reads it any more.
        NoSpaceError: The disk that is written to is full.
        EngineError: As write_layer.
    """
    request = msgspec.json.decode(arguments, type=LayerTarArguments)
    directory, target = descriptors

    def on_bytes(done: int) -> None:
        report(msgspec.json.encode(JobProgress(done=done, total=0)))

    try:
        result = write_layer(
            directory,
            lambda data: write_all(target, data),
            label=request.label,
            diff_id=request.diff_id,
            compression=request.compression,
            on_bytes=on_bytes,
        )
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise engine_error(error, request.label) from error
    return msgspec.json.encode(result)


def write_layer(
    directory: int,
    write: Callable[[bytes], object],
    *,
    label: str,
    diff_id: str,
    compression: Compression,
    on_bytes: Callable[[int], None],
) -> LayerTarResult:
    """Write a layer's tar; blocking. Files are read in a thread, compressed and written in this.

    Args:
        directory: The layer's own.
        write: Takes all of what it is given.
        label: What errors call the layer.
        diff_id: What the tar must have, where it can be made exactly.
        compression: Of what is written.
        on_bytes: Told now and then how much of the tar was made.

    Raises:
        StoreError: The layer is damaged.
        DigestMismatchError: A file of the layer was changed.
        OSError: From `write`, or because a file cannot be read.
    """
    is_exact = _has_tar(directory)

    def pack(take: Callable[[bytes], None]) -> None:
        if is_exact:
            write_layer_tar(directory, take, label)
        else:
            _pack_anew(directory, take, label)

    sink = BlobSink(write, compression)
    with PackedSource(pack) as source:
        reported = 0
        while chunk := source.read(CHUNK_BYTES):
            sink.write(chunk)
            if source.produced_bytes - reported >= _PROGRESS_BYTES:
                reported = source.produced_bytes
                on_bytes(reported)
        actual = source.finish()
    sink.finish()
    if is_exact and actual != diff_id:
        raise DigestMismatchError(label, expected=diff_id, actual=actual)
    return LayerTarResult(
        diff_id=actual,
        tar_bytes=source.produced_bytes,
        blob_digest=sink.digest,
        blob_bytes=sink.written_bytes,
        is_exact=is_exact or actual == diff_id,
    )


def _has_tar(directory: int) -> bool:
    try:
        os.stat(TAR_NAME, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _pack_anew(directory: int, write: Callable[[bytes], None], label: str) -> None:
    index = os.open(INDEX_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with open(index, "rb") as file:
        entries = decode_index(file.read(), label).entries
    stream = TarStream(write)
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        named = (entry for entry in entries if entry.path)
        pack_layer(TreePacker(stream), root, named, on_entry=_nothing)
    finally:
        os.close(root)
    stream.close()


def _nothing() -> None:
    """Nobody listens to single entries."""


JOBS = {"layer-tar": layer_tar}
