"""Blocking jobs on files that belong to a container's ids.

Each is `job(arguments, descriptors, report) -> result`; arguments, progress and result are JSON
of the structs here. The engine runs them through a `JobRunner`, in a process inside the user
namespace; they are plain functions, so a test may simply call one. `JOBS` is the table.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from engine.errors import DigestMismatchError
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots import removal, volume_files, writable_jobs
from engine.snapshots.apply import LayerApplier
from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.snapshots.index import encode_index, make_index, read_index, write_index
from engine.snapshots.job_parts import (
    CopyArguments,
    JobProgress,
    PrepareArguments,
    Reporter,
    TreeSize,
)
from engine.snapshots.lowers import LowerLayers, copy_directory_look
from engine.snapshots.merge import copy_merged_tree
from engine.snapshots.removal import engine_error
from engine.snapshots.scan import measure_tree, scan_tree
from engine.snapshots.streams import LayerSource
from engine.snapshots.tar import TarReader

if TYPE_CHECKING:
    from collections.abc import Callable

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
    write_index(directory, index)
    return msgspec.json.encode(
        UnpackResult(
            blob_digest=blob_digest,
            diff_id=diff_id,
            size_bytes=index.size_bytes,
            entry_count=index.entry_count,
            warnings=applier.warnings,
        )
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
    "list-changes": writable_jobs.list_changes,
    "commit-layer": writable_jobs.commit_layer,
    "export-tree": writable_jobs.export_tree,
    "list-writable-files": list_writable_files,
    "measure-writable-layer": measure_writable_layer,
    "copy-tree": copy_tree,
    "prepare-upper": prepare_upper,
}
