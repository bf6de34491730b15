"""Jobs on the files of volumes, which may belong to any id of a container.

A volume's directory holds one entry, `_data`; what is half done lives in a staging directory and
takes the place of an empty `_data` by one rename(2), which fails if that is not empty (any more).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from engine.linux.files import open_beneath, sync_file_system
from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.snapshots.index import MergedTree, read_index
from engine.snapshots.job_parts import DATA_NAME, FillArguments
from engine.snapshots.merge import copy_merged_directory
from engine.snapshots.removal import engine_error
from engine.snapshots.scan import measure_tree
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA = DATA_NAME.encode()
_LINK_LIMIT = 40  # the kernel's MAXSYMLINKS


class FillStep(msgspec.Struct, frozen=True, kw_only=True):
    """What a fill has done: `copied` into staging, then `placed` in the volume."""

    step: str


def fill_volume(arguments: bytes, descriptors: list[int], report: Callable[[bytes], None]) -> bytes:
    """Give an empty volume what an image has at a path, with the mode and owner of the path.

    Returns:
        JSON: whether it was filled. A volume with files, and an image without such a directory,
        leave it as it is.
    """
    request = msgspec.json.decode(arguments, type=FillArguments)
    volume, staging = descriptors
    try:
        is_filled = _fill(request, volume, staging, report)
    except OSError as error:
        raise engine_error(error, "the volume's first content") from error
    return msgspec.json.encode(is_filled)


def _fill(
    request: FillArguments, volume: int, staging: int, report: Callable[[bytes], None]
) -> bool:
    if not _is_empty(volume):
        return False
    indexes = [read_index(os.path.join(path, INDEX_NAME)) for path in request.layer_paths]
    tree = MergedTree.of(indexes)
    top = find_directory(tree, bytes.fromhex(request.path_hex))
    if top is None:
        return False
    os.mkdir(_DATA, 0o700, dir_fd=staging)
    copied = open_beneath(staging, _DATA, os.O_RDONLY | os.O_DIRECTORY)
    try:
        roots = [os.path.join(path, DIFF_NAME) for path in request.layer_paths]
        copy_merged_directory(tree, roots, top, copied)
        sync_file_system(copied)
    finally:
        os.close(copied)
    report(msgspec.json.encode(FillStep(step="copied")))
    try:
        os.rename(_DATA, _DATA, src_dir_fd=staging, dst_dir_fd=volume)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    os.fsync(volume)
    report(msgspec.json.encode(FillStep(step="placed")))
    return True


def _is_empty(volume: int) -> bool:
    data = open_beneath(volume, _DATA, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(data) as entries:
            return next(entries, None) is None
    finally:
        os.close(data)


def find_directory(tree: MergedTree, path: bytes) -> bytes | None:
    """The directory of an image that a path leads to, links followed inside the image."""
    pending = path.split(b"/")[::-1]
    found: list[bytes] = []
    links = 0
    while pending:
        name = pending.pop()
        if name in {b"", b"."}:
            continue
        if name == b"..":
            found = found[:-1]
            continue
        entry = tree.get(b"/".join((*found, name)))
        if entry is None:
            return None
        if entry.kind is FileKind.SYMLINK:
            links += 1
            if links > _LINK_LIMIT:
                return None
            if entry.link.startswith(b"/"):
                found = []
            pending += entry.link.split(b"/")[::-1]
        elif entry.kind is FileKind.DIRECTORY:
            found.append(name)
        else:
            return None
    return b"/".join(found)


def measure_volume(
    _arguments: bytes, descriptors: list[int], _report: Callable[[bytes], None]
) -> bytes:
    """Bytes of a volume (descriptor: its directory), as JSON."""
    try:
        data = open_beneath(descriptors[0], _DATA, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise engine_error(error, "the volume") from error
    try:
        return msgspec.json.encode(measure_tree(data)[0])
    finally:
        os.close(data)


JOBS = {"fill-volume": fill_volume, "measure-volume": measure_volume}
