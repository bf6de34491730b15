"""The directory of a layer while it is unpacked: its parents, and what is below them."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.errors import ArchiveError, UnsafePathError
from engine.linux.files import descriptor_path, open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots.lowers import (
    COPIED_ONLY,
    LowerLayers,
    copy_directory_look,
    is_opaque,
    is_whiteout,
    make_opaque,
)
from engine.snapshots.scan import entry_of

if TYPE_CHECKING:
    from engine.snapshots.index import LayerEntry
    from engine.snapshots.layer_tar import LayerTarRecorder
    from engine.snapshots.tar import TarEntry

_LINK_LIMIT = 40
_OPEN_PARENTS = 64
_PARENT_FLAGS = os.O_PATH | os.O_DIRECTORY
MISSING_ERRORS = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class LayerTree:
    """What was unpacked so far, with the directories that are open."""

    def __init__(
        self,
        root: int,
        *,
        lowers: LowerLayers,
        recorder: LayerTarRecorder,
        label: str,
        uses_user_xattrs: bool,
    ) -> None:
        """Begin with an empty directory.

        Args:
            root: Descriptor of the layer's directory.
            lowers: The layers below.
            recorder: Writes the layer's tar down; the reader reads through it.
            label: What errors call the layer.
            uses_user_xattrs: Mark opaque directories by `user.` instead of `trusted.`.
        """
        self._root = root
        self._lowers = lowers
        self._recorder = recorder
        self._label = label
        self._opaque_name = "user.overlay.opaque" if uses_user_xattrs else "trusted.overlay.opaque"
        self._user_id, self._group_id = os.geteuid(), os.getegid()
        self._can_chown = True
        self._is_reduced = False
        """Something could not be set of what is being made."""
        self._warnings: dict[str, int] = {}
        self._parents: dict[bytes, int] = {}
        self._entries: dict[bytes, LayerEntry] = {}
        # Modes and times of directories come last: writing into them would spoil both.
        self._directories: dict[bytes, tuple[int, int]] = {}

    def _error(self, name: bytes, reason: str) -> ArchiveError:
        return ArchiveError(self._label, f"entry {os.fsdecode(name)!r}: {reason}")

    def _clean(self, name: bytes, *, what: bytes) -> bytes:
        """A path relative to the root; absolute ones count from the root, as other tools do."""
        if b"//" not in name and b"." not in name and name[:1] != b"/" and name[-1:] != b"/":
            return name
        names = [part for part in name.split(b"/") if part and part != b"."]
        if b".." in names:
            depth = 0
            kept: list[bytes] = []
            for part in names:
                depth += -1 if part == b".." else 1
                if depth < 0:
                    raise UnsafePathError(
                        self._label, os.fsdecode(what), "it climbs out of the layer"
                    )
                if part == b"..":
                    kept.pop()
                else:
                    kept.append(part)
            names = kept
        return b"/".join(names)

    def _forget_parents(self) -> None:
        for descriptor in self._parents.values():
            os.close(descriptor)
        self._parents.clear()

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """Open the directory at `path`, making it if missing; also its canonical path."""
        known = self._parents.get(path)
        if known is not None:
            return known, path
        try:
            descriptor = open_beneath(self._root, path, _PARENT_FLAGS)
        except OSError as error:
            if error.errno not in MISSING_ERRORS:
                raise
            path = self._make_parent(path)
            known = self._parents.get(path)
            if known is not None:
                return known, path
            descriptor = open_beneath(self._root, path, _PARENT_FLAGS)
        if len(self._parents) >= _OPEN_PARENTS:
            self._forget_parents()
        self._parents[path] = descriptor
        return descriptor, path

    def _make_parent(self, path: bytes) -> bytes:
        """Make a missing directory, following links of this layer and of those below.

        A parent that only a lower layer has gets its look from there, so that merging changes
        nothing; one that is nowhere is made as mkdir(1) would.
        """
        done: list[bytes] = []
        pending = [part for part in reversed(path.split(b"/")) if part]
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                # Only from a link's target; above the root is the root, as in a chroot.
                del done[-1:]
                continue
            target = self._enter(b"/".join(done), name)
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise self._error(path, "too many symbolic links lead to it")
            if target.startswith(b"/"):
                done.clear()
            pending.extend(part for part in reversed(target.split(b"/")) if part and part != b".")
        return b"/".join(done)

    def _enter(self, parent_path: bytes, name: bytes) -> bytes | None:
        """Make sure that a name is a directory; or return the target if it is a link."""
        path = parent_path + b"/" + name if parent_path else name
        parent = open_beneath(self._root, parent_path, _PARENT_FLAGS)
        try:
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return self._enter_lower(parent, path, name)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(name, dir_fd=parent)
            if stat.S_ISDIR(status.st_mode):
                return None
            if not is_whiteout(status):
                raise self._error(path, "something is to be put into it, but it is no directory")
            os.unlink(name, dir_fd=parent)
            self._make_implicit(parent, path, name, below=None)
            self._set_opaque(path)
            return None
        finally:
            os.close(parent)

    def _enter_lower(self, parent: int, path: bytes, name: bytes) -> bytes | None:
        below = None if self._is_cut_off(path) else self._lowers.open(path)
        try:
            if below is not None:
                mode = os.fstat(below).st_mode
                if stat.S_ISLNK(mode):
                    return os.readlink(b"", dir_fd=below)
                if not stat.S_ISDIR(mode):
                    os.close(below)
                    below = None
            self._make_implicit(parent, path, name, below=below)
            return None
        finally:
            if below is not None:
                os.close(below)

    def _is_cut_off(self, path: bytes) -> bool:
        """Whether this layer itself hides what is below a path."""
        if self._lowers.is_empty:
            return True
        while path:
            path = path.rpartition(b"/")[0]
            entry = self._entries.get(path)
            if entry is not None and entry.is_opaque:
                return True
        return False

    def _make_implicit(self, parent: int, path: bytes, name: bytes, *, below: int | None) -> None:
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            mode, mtime_ns = 0o755, 0
            if below is not None:
                status = os.fstat(below)
                mode, mtime_ns = stat.S_IMODE(status.st_mode), status.st_mtime_ns
                copy_directory_look(below, descriptor)
            self._entries[path] = entry_of(path, descriptor, mode=mode, mtime_ns=mtime_ns)
            self._directories[path] = (mode, mtime_ns)
        finally:
            os.close(descriptor)

    def _clear(self, parent: int, path: bytes, name: bytes) -> None:
        """Remove what an earlier entry of this layer made at a path."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self._forget_parents_below(path)
        prefix = path[: len(path) - len(name)]

        def forget(removed: bytes) -> None:
            self._entries.pop(prefix + removed, None)
            self._directories.pop(prefix + removed, None)

        def keep(directory: int, name: bytes, removed: bytes) -> None:
            self._recorder.keep_replaced(directory, name, prefix + removed)

        remove_tree(parent, name, on_removed=forget, before_unlink=keep)

    def _forget_parents_below(self, path: bytes) -> None:
        for known in [
            known for known in self._parents if known == path or known.startswith(path + b"/")
        ]:
            os.close(self._parents.pop(known))

    def _warn(self, text: str) -> None:
        self._warnings[text] = self._warnings.get(text, 0) + 1

    def _mark_opaque(self, descriptor: int) -> None:
        if not make_opaque(descriptor, self._opaque_name):
            self._warn(COPIED_ONLY)

    def _set_opaque(self, path: bytes) -> None:
        if self._lowers.is_empty:
            return  # nothing is below, and overlay takes no marks in its lowest layer
        descriptor = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not is_opaque(descriptor):
                self._mark_opaque(descriptor)
            known = self._entries.get(path)
            if known is None:
                status = os.fstat(descriptor)
                known = entry_of(path, descriptor)
                self._directories[path] = (stat.S_IMODE(status.st_mode), status.st_mtime_ns)
            known.is_opaque = True
            self._entries[path] = known
        finally:
            os.close(descriptor)

    # --- owners and attributes ----------------------------------------------------------------

    def _chown(self, target: int, entry: TarEntry, *, name: bytes | None = None) -> bool:
        """Set the owner; False where the host does not let us."""
        if entry.user_id == self._user_id and entry.group_id == self._group_id:
            return True
        if self._can_chown:
            try:
                if name is None:
                    os.chown(target, entry.user_id, entry.group_id)
                else:
                    os.chown(
                        name, entry.user_id, entry.group_id, dir_fd=target, follow_symlinks=False
                    )
                return True
            except OverflowError:
                raise self._error(entry.name, "its owner is no user id") from None
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EINVAL}:
                    raise
                # EPERM: no right to chown at all. EINVAL: an id that is not mapped here.
                self._can_chown = error.errno != errno.EPERM
        self._warn("some owners are not available to this user; root owns those files instead")
        return False

    def _set_xattrs(self, target: int, entry: TarEntry) -> None:
        for name, value in entry.xattrs:
            if name.startswith((b"trusted.overlay.", b"user.overlay.")):
                self._warn("overlay marks inside the layer were left out")
                continue
            try:
                os.setxattr(descriptor_path(target), name, value)
            except OSError as error:
                if error.errno not in {
                    errno.ENOTSUP,
                    errno.EPERM,
                    errno.EACCES,
                    errno.EINVAL,
                    errno.ERANGE,
                    errno.E2BIG,
                }:
                    raise
                self._is_reduced = True
                label = os.fsdecode(name)
                self._warn(f"the extended attribute {label} could not be set here")
            except ValueError:
                raise self._error(entry.name, "it has an impossible attribute name") from None
