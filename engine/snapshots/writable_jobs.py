"""Jobs on writable layers: what they change, the layer that the changes are, the whole as a tar."""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING

import msgspec

from engine.errors import ReaderGoneError
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots.apply import LayerApplier
from engine.snapshots.base import DIFF_NAME, INDEX_NAME, LAYER_PARTS
from engine.snapshots.changes import LowerFiles, find_changes
from engine.snapshots.index import make_index, read_index, write_index
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.layer_tar import LayerTarRecorder
from engine.snapshots.lowers import LowerLayers
from engine.snapshots.removal import engine_error
from engine.snapshots.scan import scan_tree
from engine.snapshots.streams import PackedSource
from engine.snapshots.tar import TarReader
from engine.snapshots.tar_writer import TarStream
from engine.snapshots.tree_tar import TreePacker, pack_layer
from engine.types import ChangeKind, FileKind, LayerChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.snapshots.changes import WritableChanges

_PROGRESS_BYTES = 4 << 20
_PROGRESS_ENTRIES = 200
WRITE_BYTES = 1 << 18
"""Collected before it is written: headers are small."""


class CompareArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Compare a writable layer with its image. Descriptor: the `upper` directory.

    Attributes:
        layer_paths: Directories of the image's layers (with `diff` and `index`), bottom first.
        is_whole_tree: `upper` is a copy of everything, not an overlay's upper directory.
        mount_points_hex: Paths in the container that something is mounted on, as hexadecimal.
    """

    layer_paths: tuple[str, ...]
    is_whole_tree: bool
    mount_points_hex: tuple[str, ...] = ()


class CommitArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Turn a writable layer into a layer. Descriptors: `upper`, an empty directory for the layer.

    Attributes:
        label: What errors call the layer.
        comparison: What it is compared with.
        uses_user_xattrs: Mark opaque directories by `user.` attributes.
    """

    label: str
    comparison: CompareArguments
    uses_user_xattrs: bool


class CommittedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff`, `index` and `tar`; nothing is synced.

    Attributes:
        diff_id: Digest of the layer's tar.
        tar_bytes: How large that tar is.
        is_empty: Nothing was changed; the directory is empty.
    """

    diff_id: str
    tar_bytes: int
    size_bytes: int
    entry_count: int
    is_empty: bool
    warnings: tuple[str, ...]


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    tar_bytes: int
    entry_count: int
    warnings: tuple[str, ...]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One changed path, in hexadecimal: it may be no text."""

    path_hex: str
    change: ChangeKind


@contextlib.contextmanager
def _compared(
    arguments: CompareArguments, upper: int
) -> Iterator[tuple[LowerFiles, WritableChanges]]:
    lowers = LowerFiles(
        [read_index(os.path.join(path, INDEX_NAME)) for path in arguments.layer_paths],
        [os.path.join(path, DIFF_NAME) for path in arguments.layer_paths],
    )
    try:
        yield (
            lowers,
            find_changes(
                lowers,
                make_index(scan_tree(upper)),
                is_whole_tree=arguments.is_whole_tree,
                mount_points=tuple(bytes.fromhex(path) for path in arguments.mount_points_hex),
            ),
        )
    finally:
        lowers.close()


def list_changes(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """List the paths that a writable layer adds, changes and removes; `decode_changes` reads it."""
    request = msgspec.json.decode(arguments, type=CompareArguments)
    with _compared(request, descriptors[0]) as (_lowers, found):
        changes = found.changes
    return msgspec.json.encode([Change(path.hex(), changes[path]) for path in sorted(changes)])


def decode_changes(result: bytes) -> tuple[LayerChange, ...]:
    """Read the result of `list_changes`."""
    return tuple(
        LayerChange(path=os.fsdecode(bytes.fromhex(change.path_hex)), change=change.change)
        for change in msgspec.json.decode(result, type=list[Change])
    )


def commit_layer(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Pack what a writable layer changes, and unpack it at the same time as a layer.

    So what the layer holds is what its tar says, whatever the container does meanwhile. On any
    error the directory is empty again.

    Raises:
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=CommitArguments)
    upper, directory = descriptors
    name = DIFF_NAME.encode()
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        with _compared(request.comparison, upper) as (_lowers, found):
            result = _commit(request, found, upper, directory, report)
        if result.is_empty:
            _remove_parts(directory)
        return msgspec.json.encode(result)
    except BaseException as error:
        _remove_parts(directory)
        if isinstance(error, OSError):
            raise engine_error(error, request.label) from error
        raise


def _remove_parts(directory: int) -> None:
    for part in LAYER_PARTS:
        remove_tree(directory, part.encode())


def _commit(
    request: CommitArguments,
    found: WritableChanges,
    upper: int,
    directory: int,
    report: Reporter,
) -> CommittedLayer:
    packers: list[TreePacker] = []
    total = sum(entry.size_bytes for entry in found.entries if entry.kind is FileKind.FILE)

    def pack(write: Callable[[bytes], None]) -> None:
        stream = TarStream(write)
        packers.append(TreePacker(stream))
        pack_layer(packers[0], upper, found.entries, on_entry=_nothing)
        stream.close()

    layers = reversed(request.comparison.layer_paths)
    lowers = LowerLayers([os.path.join(path, DIFF_NAME) for path in layers])
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with PackedSource(pack) as source, LayerTarRecorder(source, directory) as recorder:
            reported = 0

            def on_entry() -> None:
                nonlocal reported
                if source.produced_bytes - reported >= _PROGRESS_BYTES:
                    reported = source.produced_bytes
                    report(msgspec.json.encode(JobProgress(done=reported, total=total)))

            applier = LayerApplier(
                root,
                lowers=lowers,
                recorder=recorder,
                label=request.label,
                uses_user_xattrs=request.uses_user_xattrs,
            )
            index = applier.apply(TarReader(recorder, label=request.label), on_entry=on_entry)
            recorder.finish()
            diff_id = source.finish()
    finally:
        lowers.close()
        os.close(root)
    if found.entries:
        write_index(directory, index)
    return CommittedLayer(
        diff_id=diff_id,
        tar_bytes=source.produced_bytes,
        size_bytes=index.size_bytes,
        entry_count=index.entry_count,
        is_empty=not found.entries,
        warnings=(*applier.warnings, *_shrunk(packers[0])),
    )


def _nothing() -> None:
    """Nobody listens to single entries."""


def _shrunk(packer: TreePacker) -> tuple[str, ...]:
    if not packer.shrunk_count:
        return ()
    return (
        f"{packer.shrunk_count:,} files became shorter while they were read; "
        "zeros stand for what was missing",
    )


def export_tree(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Write what a container's root looks like, without what is mounted into it, as a tar.

    Descriptors: `upper`, and what is written to. Nothing is mounted for it: the layers are merged
    here, so it does not matter whether the container runs, or who started it.

    Raises:
        ReaderGoneError: Nobody reads it any more.
        NoSpaceError: The disk that is written to is full.
    """
    request = msgspec.json.decode(arguments, type=CompareArguments)
    upper, target = descriptors
    try:
        with (
            _compared(request, upper) as (lowers, found),
            open(target, "wb", buffering=WRITE_BYTES, closefd=False) as file,
        ):
            return _export(request, lowers, found, upper, file, report)
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise engine_error(error, "the exported archive") from error


def _export(
    request: CompareArguments,
    lowers: LowerFiles,
    found: WritableChanges,
    upper: int,
    target: IO[bytes],
    report: Reporter,
) -> bytes:
    stream = TarStream(target.write)
    packer = TreePacker(stream)
    tree = lowers.tree
    tree.add(make_index(found.entries))
    own = tree.layer_count - 1
    count = 0
    for entry, number in tree:
        if not entry.path:
            continue
        count += 1
        if count % _PROGRESS_ENTRIES == 0:
            report(msgspec.json.encode(JobProgress(done=stream.written_bytes, total=0)))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            root = upper if number == own or request.is_whole_tree else lowers.root(number)
            descriptor = open_beneath(root, entry.path, os.O_PATH | os.O_NOFOLLOW)
            try:
                packer.add(entry.path, descriptor, entry=entry)
            finally:
                os.close(descriptor)
    stream.close(record_bytes=10240)
    return msgspec.json.encode(
        ExportResult(tar_bytes=stream.written_bytes, entry_count=count, warnings=_shrunk(packer))
    )


JOBS = {"list-changes": list_changes, "commit-layer": commit_layer, "export-tree": export_tree}
