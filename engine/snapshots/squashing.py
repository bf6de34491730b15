"""Several layers become one: the job behind `--squash`.

What stays of them is linked into the new layer's directory, not copied: layers never change. What
was made and removed again within them leaves no trace; what they hide of the layers below stays
hidden.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.linux.files import (
    descriptor_path,
    open_beneath,
    open_directory,
    read_attributes,
)
from engine.linux.tree_removal import remove_tree
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.lowers import (
    OPAQUE_NAMES,
    LowerLayers,
    is_opaque,
    is_whiteout,
    make_opaque,
    make_whiteout,
)
from engine.snapshots.merge import copy_file, copy_look
from engine.snapshots.removal import engine_error

if TYPE_CHECKING:
    from engine.snapshots.job_parts import Reporter

_NANOSECONDS = 1_000_000_000


class SquashArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Make one layer of several. Descriptor: its directory with an empty `diff`.

    Attributes:
        label: What errors call it.
        lower_paths: `diff` of the layers that it will stand on, topmost first.
        squashed_paths: `diff` of the layers that it is made of, bottom first.
        uses_user_xattrs: Mark opaque directories by `user.` attributes.
        epoch_ns: Files that are later will be set back to it, so these are copied; None for any.
    """

    label: str
    lower_paths: tuple[str, ...]
    squashed_paths: tuple[str, ...]
    uses_user_xattrs: bool
    epoch_ns: int | None = None


def squash_layers(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Fill the directory; what is in it is not settled yet.

    Raises:
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=SquashArguments)
    lowers = LowerLayers(request.lower_paths)
    squashing = _Squashing(
        lowers,
        opaque_name=OPAQUE_NAMES[1 if request.uses_user_xattrs else 0],
        epoch_ns=request.epoch_ns,
    )
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        target = open_beneath(descriptors[0], DIFF_NAME.encode(), flags)
        try:
            for path in request.squashed_paths:
                source = os.open(path, flags | os.O_CLOEXEC)
                try:
                    squashing.add(source, target)
                finally:
                    os.close(source)
        finally:
            os.close(target)
    except OSError as error:
        raise engine_error(error, request.label) from error
    finally:
        lowers.close()
    return b"null"


class _Squashing:
    """Layers go into a directory, the lowest first."""

    def __init__(self, lowers: LowerLayers, *, opaque_name: str, epoch_ns: int | None) -> None:
        self._lowers = lowers
        self._opaque_name = opaque_name
        self._epoch_ns = epoch_ns
        self._root = -1
        self._copies: dict[tuple[int, int], bytes] = {}

    def add(self, source: int, target: int) -> None:
        """Lay one more layer over those that are there."""
        self._root = target
        self._copies.clear()
        self._add_directory(source, target, b"", has_lower=not self._lowers.is_empty)

    def _add_directory(self, source: int, target: int, path: bytes, *, has_lower: bool) -> None:
        """Lay the content of a directory over another one.

        Args:
            source: Open for reading, of the layer.
            target: As above, of what is being made.
            path: From the root.
            has_lower: What lies below has the directory too, and it shows through.
        """
        prefix = path + b"/" if path else b""
        for name in sorted(os.fsencode(entry) for entry in os.listdir(source)):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            child = prefix + name
            if stat.S_ISDIR(status.st_mode):
                self._add_child(source, target, name, child, status, has_lower=has_lower)
                continue
            remove_tree(target, name)
            if not is_whiteout(status):
                self._add_file(source, target, name, child, status)
            elif has_lower and self._lowers.has_path(child):
                make_whiteout(target, name)

    def _add_child(
        self,
        source: int,
        target: int,
        name: bytes,
        path: bytes,
        status: os.stat_result,
        *,
        has_lower: bool,
    ) -> None:
        has_lower = has_lower and self._lowers.has_directory(path)
        with contextlib.ExitStack() as stack:
            given = open_directory(source, name)
            stack.callback(os.close, given)
            known = _status(target, name)
            is_there = known is not None and stat.S_ISDIR(known.st_mode)
            # It was removed further down, or is removed here: nothing below shows through.
            hides = is_opaque(given) or (known is not None and not is_there)
            if hides or not is_there:
                remove_tree(target, name)
                os.mkdir(name, 0o700, dir_fd=target)
            made = open_directory(target, name)
            stack.callback(os.close, made)
            if hides and has_lower:
                make_opaque(made, self._opaque_name)
            has_lower = has_lower and not is_opaque(made)
            _clear_attributes(made)
            copy_look(given, made)
            os.fchmod(made, stat.S_IMODE(status.st_mode))
            self._add_directory(given, made, path, has_lower=has_lower)
            os.utime(made, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _add_file(
        self, source: int, target: int, name: bytes, path: bytes, status: os.stat_result
    ) -> None:
        is_final = not status.st_mtime_ns % _NANOSECONDS and (
            self._epoch_ns is None or status.st_mtime_ns <= self._epoch_ns
        )
        if is_final:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            return
        # Its time will be set, and that of the other layer's file must not change.
        first = self._copies.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            self._link_copy(first, target, name)
            return
        given = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=source)
        try:
            copy_file(given, target, name, status)
        finally:
            os.close(given)

    def _link_copy(self, first: bytes, target: int, name: bytes) -> None:
        parent_path, _, first_name = first.rpartition(b"/")
        parent = open_beneath(self._root, parent_path or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(first_name, name, src_dir_fd=parent, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(parent)


def _status(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _clear_attributes(directory: int) -> None:
    """Take away what a lower layer's directory of the same path has said."""
    for name, _value in read_attributes(directory):
        if b".overlay." not in name:
            os.removexattr(descriptor_path(directory), name)


JOBS = {"squash-layers": squash_layers}
