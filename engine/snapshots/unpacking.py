"""Jobs that unpack layers: one from a file, or a whole stack of them from files that still grow."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.config import LayerLimits
from engine.errors import DigestMismatchError
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots.apply import LayerApplier
from engine.snapshots.base import DIFF_NAME, LAYER_PARTS
from engine.snapshots.index import write_index
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.layer_reader import (
    GrowingBlob,
    Growth,
    LayerBlob,
    LayerReader,
    StoredBlob,
)
from engine.snapshots.layer_tar import LayerTarRecorder
from engine.snapshots.lowers import LowerLayers
from engine.snapshots.removal import engine_error
from engine.snapshots.tar import TarLimits, TarReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from engine.snapshots.layer_reader import BlobReader

_PROGRESS_BYTES = 4 << 20


class UnpackArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Unpack one layer. Descriptors: the file with the blob, an empty directory for the layer.

    Attributes:
        label: What errors call the layer.
        offset: Where in the file the blob starts.
        size: Of the blob.
        blob_digest: What the blob must have, or empty where the archive does not say.
        diff_id: What the uncompressed tar must have.
        lower_paths: `diff` directories of the layers below, topmost first.
        uses_user_xattrs: Mark opaque directories by `user.` attributes.
        limits: How much it may unpack to.
    """

    label: str
    offset: int
    size: int
    blob_digest: str
    diff_id: str
    lower_paths: tuple[str, ...]
    uses_user_xattrs: bool
    limits: LayerLimits = LayerLimits()


class UnpackResult(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff`, `index` and `tar`; nothing is synced."""

    blob_digest: str
    diff_id: str
    size_bytes: int
    entry_count: int
    warnings: tuple[str, ...]


class StackLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a stack.

    Attributes:
        blob_name: Of the file with the blob; it may be made later, and grow.
        directory_name: Of an empty directory for the layer.
        layer: How it is unpacked; its `lower_paths` may be layers of the same stack.
    """

    blob_name: str
    directory_name: str
    layer: UnpackArguments


class UnpackStackArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Unpack layers one after another, each as far as its blob has come.

    Descriptors: the directory in which names are, an eventfd that is written to whenever a blob
    was made or has grown. A blob that never becomes whole is waited for until the job is ended.

    Attributes:
        layers: Bottom first.
    """

    layers: tuple[StackLayer, ...]


class ArchivedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of an archive.

    Attributes:
        descriptor: Position of the file with the blob among the job's descriptors.
        directory_name: Of an empty directory for the layer.
        layer: As StackLayer has it.
    """

    descriptor: int
    directory_name: str
    layer: UnpackArguments


class UnpackArchiveArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Unpack layers of an archive one after another: a worker each would take longer than most.

    Descriptors: the directory in which names are, then the files with the blobs.

    Attributes:
        layers: Every layer behind those below it.
    """

    layers: tuple[ArchivedLayer, ...]


class StackProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stack has come.

    Attributes:
        position: Of the layer, in the arguments.
        done: Bytes of its blob.
        result: When the layer is complete.
    """

    position: int
    done: int
    result: UnpackResult | None = None


def unpack_layer(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Unpack a layer's blob into `<directory>/diff` and write `<directory>/index` and `tar`.

    On any error the directory is empty again.

    Raises:
        ArchiveError: The blob is damaged (DigestMismatchError: not what its name promises).
        UnsafePathError: An entry climbs out of the layer.
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=UnpackArguments)
    blob, directory = descriptors

    def on_bytes(done: int) -> None:
        report(msgspec.json.encode(JobProgress(done=done, total=request.size)))

    with LayerReader(_stored_blobs(((request, blob),))) as reader:
        return msgspec.json.encode(_unpack_or_clear(request, reader, directory, on_bytes))


def unpack_stack(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Unpack a stack of layers; the results are those of the progress.

    Raises:
        ArchiveError: As unpack_layer; the layers below are complete then.
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=UnpackStackArguments)
    parent, grown = descriptors
    growth = Growth(grown)
    with LayerReader(_growing_blobs(request.layers, parent, growth), growth=growth) as reader:
        parts = [(part.directory_name, part.layer) for part in request.layers]
        _unpack_all(parts, parent, reader, report)
    return b"null"


def unpack_archive(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Unpack layers of an archive; the results are those of the progress, as of unpack_stack."""
    request = msgspec.json.decode(arguments, type=UnpackArchiveArguments)
    parent, *blobs = descriptors
    stored = _stored_blobs([(part.layer, blobs[part.descriptor]) for part in request.layers])
    with LayerReader(stored) as reader:
        parts = [(part.directory_name, part.layer) for part in request.layers]
        _unpack_all(parts, parent, reader, report)
    return b"null"


def _stored_blobs(
    layers: Iterable[tuple[UnpackArguments, int]],
) -> Generator[LayerBlob, None, None]:
    for layer, descriptor in layers:
        yield _layer_blob(layer, StoredBlob(descriptor, offset=layer.offset, size=layer.size))


def _growing_blobs(
    layers: Iterable[StackLayer], parent: int, growth: Growth
) -> Generator[LayerBlob, None, None]:
    for part in layers:
        blob = _open_blob(part.blob_name, parent, growth)
        try:
            yield _layer_blob(part.layer, GrowingBlob(blob, size=part.layer.size, growth=growth))
        finally:
            os.close(blob)


def _open_blob(name: str, parent: int, growth: Growth) -> int:
    while True:
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            growth.wait()


def _layer_blob(layer: UnpackArguments, blob: BlobReader) -> LayerBlob:
    return LayerBlob(blob=blob, label=layer.label, limits=layer.limits)


def _unpack_all(
    parts: Sequence[tuple[str, UnpackArguments]], parent: int, reader: LayerReader, report: Reporter
) -> None:
    for position, (name, layer) in enumerate(parts):

        def on_bytes(done: int, position: int = position) -> None:
            report(msgspec.json.encode(StackProgress(position=position, done=done)))

        on_bytes(0)
        with _opened_directory(name, parent) as directory:
            result = _unpack_or_clear(layer, reader, directory, on_bytes)
        done = StackProgress(position=position, done=layer.size, result=result)
        report(msgspec.json.encode(done))


@contextlib.contextmanager
def _opened_directory(name: str, parent: int) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(name, flags, dir_fd=parent)
    try:
        yield directory
    finally:
        os.close(directory)


def _unpack_or_clear(
    request: UnpackArguments,
    reader: LayerReader,
    directory: int,
    on_bytes: Callable[[int], None],
) -> UnpackResult:
    name = DIFF_NAME.encode()
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        return _unpack(request, reader, directory, on_bytes)
    except BaseException as error:
        for part in LAYER_PARTS:
            remove_tree(directory, part.encode())
        if isinstance(error, OSError):
            raise engine_error(error, request.label) from error
        raise


def layer_tar_limits(limits: LayerLimits) -> TarLimits:
    """The limits of a layer, as who reads its tar holds to them."""
    return TarLimits(
        entries=limits.entries,
        entries_remedy="LAMELLA_LAYER_ENTRIES=NUMBER allows more",
        content_bytes=limits.unpacked_bytes,
    )


def _unpack(
    request: UnpackArguments,
    reader: LayerReader,
    directory: int,
    on_bytes: Callable[[int], None],
) -> UnpackResult:
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
    lowers = LowerLayers(request.lower_paths)
    limits = layer_tar_limits(request.limits)
    try:
        reader.begin()
        with LayerTarRecorder(reader, directory) as recorder:
            reported = 0

            def on_entry() -> None:
                nonlocal reported
                if reader.consumed_bytes - reported >= _PROGRESS_BYTES:
                    reported = reader.consumed_bytes
                    on_bytes(reported)

            applier = LayerApplier(
                root,
                lowers=lowers,
                recorder=recorder,
                label=request.label,
                uses_user_xattrs=request.uses_user_xattrs,
            )
            tar = TarReader(recorder, label=request.label, limits=limits)
            index = applier.apply(tar, on_entry=on_entry)
            recorder.finish()
            blob_digest, diff_id = reader.finish()
    finally:
        lowers.close()
        os.close(root)
    for expected, actual in ((request.blob_digest, blob_digest), (request.diff_id, diff_id)):
        if expected and expected != actual:
            raise DigestMismatchError(request.label, expected=expected, actual=actual)
    write_index(directory, index)
    return UnpackResult(
        blob_digest=blob_digest,
        diff_id=diff_id,
        size_bytes=index.size_bytes,
        entry_count=index.entry_count,
        warnings=applier.warnings,
    )


JOBS = {
    "unpack-layer": unpack_layer,
    "unpack-stack": unpack_stack,
    "unpack-archive": unpack_archive,
}
