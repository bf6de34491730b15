"""The beginning of one file of a tree in the store, for somebody to look at.

A worker reads it, as files may belong to any id of a container. The tree is hostile, and a running
container changes its own under our eyes: nothing in it is followed, and nothing but a regular
file is opened for reading, as opening a device or a pipe does something.
"""

from __future__ import annotations

import asyncio
import errno
import os
import posixpath
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.errors import InvalidInputError, NotFoundError
from engine.linux.files import descriptor_path, open_beneath, open_directory
from engine.snapshots.removal import engine_error
from engine.types import MAXIMUM_VIEWED_BYTES, FileContent, FileKind

if TYPE_CHECKING:
    from engine.snapshots.base import JobRunner
    from engine.snapshots.job_parts import Reporter

_PIECE_BYTES = 1 << 18
# What was there may have become something else, or have gone; and there may be a link in the path.
_NOT_THERE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.ESTALE)
)


class ViewArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Read how a file begins. Descriptors: the tree, a file that takes what was read.

    Attributes:
        path_hex: Below the tree.
        maximum_bytes: Of what is read.
    """

    path_hex: str
    maximum_bytes: int


class ViewResult(msgspec.Struct, frozen=True, kw_only=True):
    """What is at a path.

    Attributes:
        kind: A FileKind; empty where nothing is.
        size_bytes: Of the whole file.
        link_hex: Where a symbolic link leads.
    """

    kind: str = ""
    size_bytes: int = 0
    link_hex: str = ""


def view_path(path: str) -> str:
    """A path as FileEntry has it, whatever a person put before it."""
    return posixpath.normpath("/" + path).lstrip("/")


def not_viewable_error(path: str, kind: FileKind, link_target: str) -> InvalidInputError:
    """What to say of something that is no file."""
    if kind is FileKind.WHITEOUT:
        return InvalidInputError(f"{path} is removed by this layer")
    if kind is FileKind.SYMLINK:
        return InvalidInputError(
            f"{path} is a symbolic link to {link_target}",
            hint="Look at what it leads to, which another layer may have",
        )
    return InvalidInputError(f"{path} is no file: {kind.value.replace('_', ' ')}")


async def view_in_tree(
    runner: JobRunner, tree: int, path: str, *, missing: NotFoundError
) -> FileContent:
    """Read how a file begins.

    Args:
        runner: Reads it.
        tree: Descriptor of the directory.
        path: Below it, as FileEntry has it.
        missing: Raised where nothing is.

    Raises:
        InvalidInputError: It is no file.
    """
    wanted = view_path(path)
    try:
        raw = wanted.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise missing from None
    if not raw or b"\0" in raw:
        raise missing
    target = os.memfd_create("lamella-view", os.MFD_CLOEXEC)
    try:
        arguments = ViewArguments(path_hex=raw.hex(), maximum_bytes=MAXIMUM_VIEWED_BYTES)
        answer = await runner.run_job(
            "view-file", msgspec.json.encode(arguments), descriptors=(tree, target)
        )
        content = await asyncio.to_thread(os.pread, target, MAXIMUM_VIEWED_BYTES, 0)
    finally:
        os.close(target)
    result = msgspec.json.decode(answer, type=ViewResult)
    if not result.kind:
        raise missing
    kind = FileKind(result.kind)
    if kind is not FileKind.FILE:
        link = bytes.fromhex(result.link_hex).decode("utf-8", "surrogateescape")
        raise not_viewable_error(wanted, kind, link)
    return FileContent(path=wanted, size_bytes=result.size_bytes, content=content)


def view_file(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Copy how a file begins into the second descriptor: a ViewResult."""
    request = msgspec.json.decode(arguments, type=ViewArguments)
    tree, target = descriptors
    path = bytes.fromhex(request.path_hex)
    try:
        result = _view(tree, path, target, request.maximum_bytes)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise engine_error(error, os.fsdecode(path)) from error
        result = ViewResult()
    return msgspec.json.encode(result)


def _view(tree: int, path: bytes, target: int, maximum_bytes: int) -> ViewResult:
    # Loaded by the worker alone.
    from engine.snapshots.scan import entry_of

    parent_path, _, name = path.rpartition(b"/")
    parent = open_directory(tree, parent_path or b".", may_cross_mounts=False)
    try:
        flags = os.O_PATH | os.O_NOFOLLOW
        place = open_beneath(parent, name, flags, may_cross_mounts=False)
    finally:
        os.close(parent)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            entry = entry_of(path, place)
            return ViewResult(kind=entry.kind.value, link_hex=entry.link.hex())
        # What was looked at, and not what has taken its name meanwhile.
        file = os.open(descriptor_path(place), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        return ViewResult(kind=FileKind.FILE.value, size_bytes=_copy(file, target, maximum_bytes))
    finally:
        os.close(file)


def _copy(file: int, target: int, maximum_bytes: int) -> int:
    """Copy how a file begins; returns the size of all of it, which may change meanwhile."""
    done = 0
    while done < maximum_bytes:
        piece = os.pread(file, min(_PIECE_BYTES, maximum_bytes - done), done)
        if not piece:
            return done
        os.pwrite(target, piece, done)
        done += len(piece)
    return max(done, os.fstat(file).st_size)


JOBS = {"view-file": view_file}
