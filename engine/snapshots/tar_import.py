"""The job that makes a layer of somebody's tar: the tar stays as it is, but for sparse files.

Docker cannot write an image again that it imported from a tar with GNU's sparse files, and not
every tool can read one. So they are written out; everything else comes through byte for byte, and
with it the diff id that the tar had anywhere else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from engine.config import LayerLimits
from engine.errors import ArchiveError
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots.apply import LayerApplier
from engine.snapshots.base import DIFF_NAME, LAYER_PARTS
from engine.snapshots.index import write_index
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.layer_tar import LayerTarRecorder
from engine.snapshots.lowers import LowerLayers
from engine.snapshots.removal import engine_error
from engine.snapshots.streams import PackedSource, StreamSource
from engine.snapshots.tar import BLOCK_BYTES, TarEntry, TarKind, TarReader, too_large_error
from engine.snapshots.tar_writer import TarHeader, TarStream
from engine.snapshots.unpacking import layer_tar_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.snapshots.streams import ByteSource

_PROGRESS_BYTES = 4 << 20
_PIECE_BYTES = 1 << 18
_HEADERS_BYTES = 64 << 20
"""Most that lies between the contents of two files."""
_ZEROES = bytes(1 << 18)
_NANOSECONDS = 1_000_000_000
_GLOBAL_FLAG = b"g"


class ImportArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Make a layer. Descriptors: what the tar is read from, an empty directory for the layer.

    Attributes:
        label: What errors call the tar.
        uses_user_xattrs: Mark opaque directories by `user.` attributes.
        limits: How much it may unpack to.
    """

    label: str
    uses_user_xattrs: bool
    limits: LayerLimits = LayerLimits()


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff`, `index` and `tar`; nothing is synced."""

    diff_id: str
    tar_bytes: int
    size_bytes: int
    entry_count: int
    warnings: tuple[str, ...]


def import_layer(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Read a tar, plain or compressed, from a file or a pipe and make a layer: an ImportResult.

    On any error the directory is empty again.

    Raises:
        ArchiveError: What is read is no tar, or damaged.
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=ImportArguments)
    descriptor, directory = descriptors
    os.mkdir(DIFF_NAME, 0o700, dir_fd=directory)
    try:
        return msgspec.json.encode(_import(request, descriptor, directory, report))
    except BaseException as error:
        for part in LAYER_PARTS:
            remove_tree(directory, part.encode())
        if isinstance(error, OSError):
            raise engine_error(error, request.label) from error
        raise


def _import(
    request: ImportArguments, descriptor: int, directory: int, report: Reporter
) -> ImportResult:
    lowers = LowerLayers(())
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        window_bytes = request.limits.window_bytes
        with StreamSource(descriptor, label=request.label, window_bytes=window_bytes) as stream:

            def pack(write: Callable[[bytes], None]) -> None:
                copy_without_sparse_files(stream, write, request.label, request.limits)

            with PackedSource(pack) as source, LayerTarRecorder(source, directory) as recorder:
                reported = 0

                def on_entry() -> None:
                    nonlocal reported
                    if stream.consumed_bytes - reported >= _PROGRESS_BYTES:
                        reported = stream.consumed_bytes
                        report(msgspec.json.encode(JobProgress(done=reported, total=0)))

                applier = LayerApplier(
                    root,
                    lowers=lowers,
                    recorder=recorder,
                    label=request.label,
                    uses_user_xattrs=request.uses_user_xattrs,
                )
                tar = TarReader(
                    recorder, label=request.label, limits=layer_tar_limits(request.limits)
                )
                index = applier.apply(tar, on_entry=on_entry)
                recorder.finish()
                diff_id = source.finish()
    finally:
        lowers.close()
        os.close(root)
    write_index(directory, index)
    return ImportResult(
        diff_id=diff_id,
        tar_bytes=source.produced_bytes,
        size_bytes=index.size_bytes,
        entry_count=index.entry_count,
        warnings=applier.warnings,
    )


class _Collector:
    """A source that keeps what was read through it until it is taken."""

    def __init__(self, source: ByteSource, label: str) -> None:
        self._source = source
        self._label = label
        self._kept = bytearray()

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._kept += piece
        if len(self._kept) > _HEADERS_BYTES:
            raise ArchiveError(self._label, f"its headers are larger than {_HEADERS_BYTES:,} bytes")
        return piece

    def skip(self, size: int, /) -> int:
        left = size
        while left and (piece := self.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
        return size - left

    def take(self) -> bytes:
        kept = bytes(self._kept)
        self._kept.clear()
        return kept


def copy_without_sparse_files(
    source: ByteSource,
    write_out: Callable[[bytes], object],
    label: str,
    limits: LayerLimits,
) -> None:
    """Copy a tar; a sparse file is written out, and nothing else changes. Blocking.

    Raises:
        ArchiveError: It is no tar, or damaged, or too large.
    """
    written = 0

    def write(piece: bytes) -> None:
        nonlocal written
        written += len(piece)
        if written > limits.unpacked_bytes:
            raise too_large_error(label, limits.unpacked_bytes)
        write_out(piece)

    through = _Collector(source, label)
    reader = TarReader(through, label=label, limits=layer_tar_limits(limits))
    # What pads the entry before comes with the next headers. One that was written out has its own.
    padding = dropped = 0
    for entry in reader:
        headers = through.take()
        if entry.segments is None:
            write(headers[dropped:])
            for _piece in reader.pieces():
                write(through.take())
            dropped = 0
        else:
            write(headers[dropped:padding] + _global_headers(headers[padding:]))
            _write_out(entry, reader, through, write)
            # A map that is stored before the data is whole blocks.
            dropped = -entry.data_bytes % BLOCK_BYTES
        padding = -entry.data_bytes % BLOCK_BYTES
    if not reader.has_begun:
        raise ArchiveError(label, "it is empty")
    write(through.take()[dropped:])
    while piece := through.read(_PIECE_BYTES):
        through.take()
        write(piece)


def _write_out(
    entry: TarEntry, reader: TarReader, through: _Collector, write: Callable[[bytes], object]
) -> None:
    stream = TarStream(write)
    stream.begin(
        TarHeader(
            name=entry.name,
            kind=TarKind.FILE,
            mode=entry.mode,
            user_id=entry.user_id,
            group_id=entry.group_id,
            size=entry.size,
            modified_at=entry.mtime_ns // _NANOSECONDS,
            xattrs=entry.xattrs,
        )
    )
    segments = iter(entry.segments or ())
    position = left = 0
    for piece in reader.pieces():
        through.take()
        rest = piece
        while rest:
            while not left:
                offset, left = next(segments)
                _write_zeroes(stream, offset - position)
                position = offset
            part = rest[:left]
            stream.write(part)
            position += len(part)
            left -= len(part)
            rest = rest[len(part) :]
    _write_zeroes(stream, entry.size - position)


def _write_zeroes(stream: TarStream, count: int) -> None:
    while count:
        piece = _ZEROES[: min(count, len(_ZEROES))]
        stream.write(piece)
        count -= len(piece)


def _global_headers(headers: bytes) -> bytes:
    """Of the headers before an entry those that hold for all that follow."""
    kept = bytearray()
    position = 0
    while position < len(headers):
        block = headers[position : position + BLOCK_BYTES]
        if block[156:157] not in b"xgLKV":
            break  # the entry itself
        size = _stored_number(block[124:136])
        end = position + BLOCK_BYTES + size + (-size % BLOCK_BYTES)
        if block[156:157] == _GLOBAL_FLAG:
            kept += headers[position:end]
        position = end
    return bytes(kept)


def _stored_number(data: bytes) -> int:
    # The reader has looked at it: octal digits, or GNU's base-256.
    if data[0] & 0x80:
        return int.from_bytes(data[1:], "big")
    return int(data.split(b"\0", 1)[0].strip() or b"0", 8)


JOBS = {"import-layer": import_layer}
