"""Blocking jobs on files that belong to a container's ids.

Each is `job(arguments, descriptors, report) -> result`; arguments, progress and result are JSON
of the structs here. The engine runs them through a `JobRunner`, in a process inside the user
namespace; they are plain functions, so a test may simply call one. `JOBS` is the table.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import DigestMismatchError
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots import removal, volume_files
from engine.snapshots.apply import LayerApplier
from engine.snapshots.index import (
    DIFF_NAME,
    INDEX_NAME,
    MergedTree,
    encode_index,
    make_index,
    read_index,
)
from engine.snapshots.lowers import LowerLayers, copy_directory_look
from engine.snapshots.merge import copy_merged_tree
from engine.snapshots.removal import engine_error
from engine.snapshots.scan import measure_tree, scan_tree
from engine.snapshots.streams import LayerSource
from engine.snapshots.stubs import STUB_PATHS
from engine.snapshots.tar import TarReader
from engine.types import ChangeKind, LayerChange

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRESS_BYTES = 4 << 20


class Reporter(Protocol):
    """Sends progress to who asked for the job."""

    def __call__(self, progress: bytes, /) -> None:
        """Send one message; blocking."""


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come; `total` 0 is not known."""

    done: int
    total: int


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
    """

    label: str
    offset: int
    size: int
    blob_digest: str
    diff_id: str
    lower_paths: tuple[str, ...]
    uses_user_xattrs: bool


class UnpackResult(msgspec.Struct, frozen=True, kw_only=True):
    """A layer directory now holds `diff` and `index`; nothing is synced."""

    blob_digest: str
    diff_id: str
    size_bytes: int
    entry_count: int
    warnings: tuple[str, ...]


class CompareArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Compare a writable layer with its image. Descriptor: the `upper` directory.

    Attributes:
        index_paths: Index files of the image's layers, bottom first.
        is_whole_tree: `upper` is a copy of everything, not an overlay's upper directory.
    """

    index_paths: tuple[str, ...]
    is_whole_tree: bool


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One changed path, as text with `surrogateescape` turned into `path_hex` where needed."""

    path_hex: str
    change: ChangeKind


class TreeSize(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory tree holds."""

    size_bytes: int
    entry_count: int


class CopyArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Copy the merged tree of layers. Descriptor: an empty directory.

    Attributes:
        layer_paths: Layer directories (with `diff` and `index`), bottom first.
    """

    layer_paths: tuple[str, ...]


class PrepareArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Give a new `upper` directory the root's look. Descriptor: `upper`.

    Attributes:
        lower_path: `diff` of the image's topmost layer.
    """

    lower_path: str


def unpack_layer(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Unpack a layer's blob into `<directory>/diff` and write `<directory>/index`.

    On any error the directory is empty again.

    Raises:
        ArchiveError: The blob is damaged (DigestMismatchError: not what its name promises).
        UnsafePathError: An entry climbs out of the layer.
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=UnpackArguments)
    blob, directory = descriptors
    name = DIFF_NAME.encode()
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        return _unpack(request, blob, directory, report)
    except BaseException as error:
        remove_tree(directory, name)
        remove_tree(directory, INDEX_NAME.encode())
        if isinstance(error, OSError):
            raise engine_error(error, request.label) from error
        raise


def _unpack(request: UnpackArguments, blob: int, directory: int, report: Reporter) -> bytes:
    root = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
    lowers = LowerLayers(request.lower_paths)
    try:
        with LayerSource(
            blob, offset=request.offset, size=request.size, label=request.label
        ) as source:
            reported = 0

            def on_entry() -> None:
                nonlocal reported
                if source.consumed_bytes - reported >= _PROGRESS_BYTES:
                    reported = source.consumed_bytes
                    report(msgspec.json.encode(JobProgress(done=reported, total=request.size)))

            applier = LayerApplier(
                root,
                lowers=lowers,
                label=request.label,
                uses_user_xattrs=request.uses_user_xattrs,
            )
            index = applier.apply(TarReader(source, label=request.label), on_entry=on_entry)
            blob_digest, diff_id = source.finish()
    finally:
        lowers.close()
        os.close(root)
    for expected, actual in ((request.blob_digest, blob_digest), (request.diff_id, diff_id)):
        if expected and expected != actual:
            raise DigestMismatchError(request.label, expected=expected, actual=actual)
    _write_file(directory, INDEX_NAME.encode(), encode_index(index))
    return msgspec.json.encode(
        UnpackResult(
            blob_digest=blob_digest,
            diff_id=diff_id,
            size_bytes=index.size_bytes,
            entry_count=index.entry_count,
            warnings=applier.warnings,
        )
    )


def _write_file(directory: int, name: bytes, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(content)


def list_changes(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """List the paths that a writable layer adds, changes and removes; `decode_changes` reads it.

    As Docker has it, the directories that lead to a change are changed too. What the engine
    itself mounts over is left out.
    """
    request = msgspec.json.decode(arguments, type=CompareArguments)
    lowers = MergedTree.of(read_index(path) for path in request.index_paths)
    upper = make_index(scan_tree(descriptors[0]))
    marked = lowers.compare_whole(upper) if request.is_whole_tree else lowers.compare(upper)
    changes: dict[str, ChangeKind] = {}
    for entry in marked:
        path = os.fsencode(entry.path)
        if entry.change is ChangeKind.UNCHANGED or is_stub(path, lowers):
            continue
        changes[entry.path] = entry.change
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in changes:
            changes[parent] = ChangeKind.MODIFIED
            parent = parent.rpartition("/")[0]
    return msgspec.json.encode(
        [Change(os.fsencode(path).hex(), changes[path]) for path in sorted(changes)]
    )


def is_stub(path: bytes, lowers: MergedTree) -> bool:
    """Whether a path is there only because the engine mounts something over it."""
    return path in STUB_PATHS and path not in lowers


def decode_changes(result: bytes) -> tuple[LayerChange, ...]:
    """Read the result of `list_changes`."""
    return tuple(
        LayerChange(path=os.fsdecode(bytes.fromhex(change.path_hex)), change=change.change)
        for change in msgspec.json.decode(result, type=list[Change])
    )


def list_writable_files(_arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """The index of a tree (descriptor), encoded; `decode_index` reads it.

    The caller has the lower layers merged and compares.
    """
    return encode_index(make_index(scan_tree(descriptors[0])))


def measure_writable_layer(_arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Size and number of entries of a tree (descriptor): a TreeSize."""
    size_bytes, entry_count = measure_tree(descriptors[0])
    return msgspec.json.encode(TreeSize(size_bytes=size_bytes, entry_count=entry_count))


def copy_tree(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Copy what a stack of layers looks like into an empty directory."""
    request = msgspec.json.decode(arguments, type=CopyArguments)

    def on_entry(done: int, total: int) -> None:
        report(msgspec.json.encode(JobProgress(done=done, total=total)))

    indexes = [read_index(os.path.join(path, INDEX_NAME)) for path in request.layer_paths]
    roots = [os.path.join(path, DIFF_NAME) for path in request.layer_paths]
    try:
        copy_merged_tree(indexes, roots, descriptors[0], on_entry=on_entry)
    except OSError as error:
        raise engine_error(error, "the copy of the image") from error
    return b"null"


def prepare_upper(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Give a new writable layer the mode, owner and attributes of the image's root."""
    request = msgspec.json.decode(arguments, type=PrepareArguments)
    lower = os.open(request.lower_path, os.O_PATH | os.O_DIRECTORY)
    try:
        copy_directory_look(lower, descriptors[0])
        os.fchmod(descriptors[0], os.fstat(lower).st_mode & 0o7777)
    except OSError as error:
        raise engine_error(error, request.lower_path) from error
    finally:
        os.close(lower)
    return b"null"


JOBS: dict[str, Callable[[bytes, list[int], Reporter], bytes]] = {
    **removal.JOBS,
    **volume_files.JOBS,
    "unpack-layer": unpack_layer,
    "list-changes": list_changes,
    "list-writable-files": list_writable_files,
    "measure-writable-layer": measure_writable_layer,
    "copy-tree": copy_tree,
    "prepare-upper": prepare_upper,
}
