"""What a writable layer changes, as a list of entries that are a layer of their own.

`diff` shows it and `commit` packs it, so that both always agree. Left out is what is there only
because the engine mounts something over it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.late_dataclasses import dataclass
from engine.linux.files import open_beneath
from engine.snapshots.index import LayerEntry, LayerIndex, MergedTree, is_same, make_index, whiteout
from engine.snapshots.scan import entry_of
from engine.snapshots.stubs import STUB_PATHS
from engine.types import ChangeKind, FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINK_LIMIT = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableChanges:
    """What differs between a writable layer and what lies below it.

    Attributes:
        entries: The layer that the changes are: sorted, parents first, whiteouts where something
            was removed, directories that hide everything below marked opaque.
        changes: Every path that is added, changed or removed. As Docker has it, the directories
            that lead to a change are changed too; what went with a directory is not listed.
    """

    entries: tuple[LayerEntry, ...]
    changes: dict[bytes, ChangeKind]


class LowerFiles:
    """The layers below: their merged tree, and their directories for a closer look."""

    def __init__(self, indexes: Sequence[LayerIndex], diff_paths: Sequence[str]) -> None:
        """Both bottom first."""
        self.tree = MergedTree.of(indexes)
        self._diff_paths = diff_paths
        self._roots: dict[int, int] = {}

    def close(self) -> None:
        """Close what was opened."""
        for descriptor in self._roots.values():
            os.close(descriptor)
        self._roots.clear()

    def root(self, number: int) -> int:
        """The directory of a layer, as an O_PATH descriptor that stays ours."""
        if number not in self._roots:
            self._roots[number] = os.open(self._diff_paths[number], os.O_PATH | os.O_DIRECTORY)
        return self._roots[number]

    def is_same(self, entry: LayerEntry) -> bool:
        """Whether a path of the writable layer is what it was below.

        The index says what the layer's tar said; on disk owners and attributes may be others,
        where the host could not set them, and a copy has those.
        """
        found = self.tree.find(entry.path)
        if found is None:
            return False
        below, number = found
        if is_same(below, entry):
            return True
        with contextlib.suppress(OSError):
            descriptor = open_beneath(self.root(number), entry.path, os.O_PATH | os.O_NOFOLLOW)
            try:
                on_disk = entry_of(entry.path, descriptor)
            finally:
                os.close(descriptor)
            return is_same(on_disk, entry)
        return False


def find_changes(
    lowers: LowerFiles,
    upper: LayerIndex,
    *,
    is_whole_tree: bool,
    mount_points: Sequence[bytes] = (),
) -> WritableChanges:
    """Compare a writable layer with the layers below it.

    Args:
        lowers: The layers below.
        upper: What is in the writable layer.
        is_whole_tree: It is a copy of everything, not an overlay's upper directory.
        mount_points: Absolute paths in the container that volumes and binds are mounted on.
    """
    return _Comparison(lowers, upper, mount_points).run(is_whole_tree=is_whole_tree)


class _Comparison:
    def __init__(
        self, lowers: LowerFiles, upper: LayerIndex, mount_points: Sequence[bytes]
    ) -> None:
        self._lowers = lowers
        self._tree = lowers.tree
        self._upper = {entry.path: entry for entry in upper.entries if entry.path}
        self._places = set(STUB_PATHS)
        for target in mount_points:
            self._places |= _with_parents(self._resolve(target))
        # Kept only where something else is below them.
        self._parents: dict[bytes, LayerEntry] = {}
        self._kept: dict[bytes, LayerEntry] = {}

    def run(self, *, is_whole_tree: bool) -> WritableChanges:
        for entry in self._upper.values():
            self._look(entry)
        if is_whole_tree:
            self._add_whiteouts()
        for path in tuple(self._kept):
            for parent in _with_parents(path.rpartition(b"/")[0]):
                if parent in self._parents:
                    self._kept[parent] = self._parents[parent]
        index = make_index(self._kept.values())
        return WritableChanges(entries=tuple(index.entries), changes=self._changes(index))

    def _look(self, entry: LayerEntry) -> None:
        below = self._tree.get(entry.path)
        if entry.kind is FileKind.WHITEOUT:
            if below is not None:
                self._kept[entry.path] = entry
            return
        if entry.kind is FileKind.DIRECTORY:
            hides = entry.is_opaque and below is not None and below.kind is FileKind.DIRECTORY
            if hides is not entry.is_opaque:
                entry = msgspec.structs.replace(entry, is_opaque=hides)
        is_place = below is None and entry.path in self._places and not entry.size_bytes
        if is_place or self._lowers.is_same(entry):
            if entry.kind is FileKind.DIRECTORY:
                self._parents[entry.path] = entry
            return
        self._kept[entry.path] = entry

    def _add_whiteouts(self) -> None:
        """What a copy does not have any more; with a directory goes all that was in it."""
        for entry, _number in self._tree:
            path = entry.path
            if not path or path in self._upper:
                continue
            parent = path.rpartition(b"/")[0]
            above = self._upper.get(parent)
            if not parent or (above is not None and above.kind is FileKind.DIRECTORY):
                self._kept[path] = whiteout(path)

    def _changes(self, index: LayerIndex) -> dict[bytes, ChangeKind]:
        changes: dict[bytes, ChangeKind] = {}
        for entry in index.entries:
            if entry.kind is FileKind.WHITEOUT:
                changes[entry.path] = ChangeKind.REMOVED
            elif entry.path in self._tree:
                changes[entry.path] = ChangeKind.MODIFIED
            else:
                changes[entry.path] = ChangeKind.ADDED
        for path in self._tree.hidden_paths(index):
            if path not in changes and not _has_gone_with_parent(path, changes):
                changes[path] = ChangeKind.REMOVED
        return changes

    def _resolve(self, target: bytes) -> bytes:
        """Where a mount point is, its links followed as the container's root has them."""
        done: list[bytes] = []
        pending = [name for name in reversed(target.split(b"/")) if name not in {b"", b"."}]
        links = 0
        while pending and links < _LINK_LIMIT:
            name = pending.pop()
            if name == b"..":
                del done[-1:]
                continue
            path = b"/".join((*done, name))
            entry = self._upper.get(path) or self._tree.get(path)
            if entry is None or entry.kind is not FileKind.SYMLINK:
                done.append(name)
                continue
            links += 1
            if entry.link.startswith(b"/"):
                done.clear()
            pending.extend(
                part for part in reversed(entry.link.split(b"/")) if part not in {b"", b"."}
            )
        return b"/".join(done)


def _with_parents(path: bytes) -> set[bytes]:
    found = set()
    while path:
        found.add(path)
        path = path.rpartition(b"/")[0]
    return found


def _has_gone_with_parent(path: bytes, changes: dict[bytes, ChangeKind]) -> bool:
    parents = _with_parents(path.rpartition(b"/")[0])
    return any(changes.get(parent) is ChangeKind.REMOVED for parent in parents)
