"""Jobs on whole trees: the writable layer of a container, and the copy that stands for a mount."""

from __future__ import annotations

import os

import msgspec

from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.snapshots.index import encode_index, make_index, read_index
from engine.snapshots.job_parts import (
    CopyArguments,
    JobProgress,
    PrepareArguments,
    Reporter,
    TreeSize,
)
from engine.snapshots.lowers import copy_directory_look
from engine.snapshots.merge import copy_merged_tree
from engine.snapshots.removal import engine_error
from engine.snapshots.scan import measure_tree, scan_tree


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


JOBS = {
    "list-writable-files": list_writable_files,
    "measure-writable-layer": measure_writable_layer,
    "copy-tree": copy_tree,
    "prepare-upper": prepare_upper,
}
