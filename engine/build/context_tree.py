"""The files of a build context on disk, without what .dockerignore leaves out.

Nothing is read that nobody asks for, and every name is met through a descriptor of the directory
that it is in: a link in the context, or one that somebody puts into the way, leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from engine.build.content_digests import DigestMemory, digest_files
from engine.build.file_tree import SourceFile
from engine.errors import BuildCopyError
from engine.linux.files import descriptor_path, open_directory
from engine.operations import CancelledRead
from engine.types import FileKind

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from engine.build.ignore import IgnoreRules, IgnoreScope

_KINDS = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.DIRECTORY,
    stat.S_IFLNK: FileKind.SYMLINK,
    stat.S_IFCHR: FileKind.CHARACTER_DEVICE,
    stat.S_IFBLK: FileKind.BLOCK_DEVICE,
    stat.S_IFIFO: FileKind.FIFO,
}
_DEVICES = frozenset((FileKind.CHARACTER_DEVICE, FileKind.BLOCK_DEVICE))
_NOTHING_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


class ContextTree:
    """A directory as a FileTree. Files belong to nobody in particular: owners are 0:0.

    Attributes:
        socket_count: Sockets that were met; nothing can hold a copy of one.
    """

    def __init__(
        self,
        root: int,
        rules: IgnoreRules,
        *,
        label: str = "the build context",
        memory: DigestMemory | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Look at a directory.

        Args:
            root: Descriptor of the directory; the caller's.
            rules: What is left out.
            label: What errors call it.
            memory: Of digests; not to be shared by threads.
            stop: Ends whatever goes on, when it is set, with CancelledRead.
        """
        self._stop = stop
        self._root = root
        self._rules = rules
        self._label = label
        self._memory = memory or DigestMemory()
        self._scopes: dict[bytes, IgnoreScope] = {b"": rules.root}
        self._kept: dict[bytes, bool] = {}
        self.socket_count = 0

    @property
    def label(self) -> str:
        """As FileTree."""
        return self._label

    @property
    def root(self) -> int:
        """Descriptor of the directory."""
        return self._root

    def walk(self, stop: threading.Event) -> ContextTree:
        """The same tree, for one piece of work that may be stopped."""
        return ContextTree(
            self._root, self._rules, label=self._label, memory=self._memory, stop=stop
        )

    def look(self, path: bytes) -> SourceFile | None:
        """As FileTree."""
        parent_path, _, name = path.rpartition(b"/")
        try:
            parent = open_directory(self._root, parent_path or b".")
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return None
            raise self._error(path, error) from None
        try:
            found = self._see(parent, path, name)
        finally:
            os.close(parent)
        if found is None or self._is_hidden(found, self._scope(parent_path), name):
            return None
        return found

    def children(self, path: bytes) -> list[SourceFile]:
        """As FileTree; what vanishes meanwhile is left out."""
        files = self._list(path)
        if self._rules.is_empty:
            return files
        scope = self._scope(path)
        prefix_length = len(path) + 1 if path else 0
        return [
            file for file in files if not self._is_hidden(file, scope, file.path[prefix_length:])
        ]

    def _list(self, path: bytes) -> list[SourceFile]:
        """Everything in a directory."""
        if self._stop is not None and self._stop.is_set():
            raise CancelledRead
        try:
            directory = open_directory(self._root, path or b".")
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return []
            raise self._error(path, error) from None
        try:
            prefix = path + b"/" if path else b""
            names = sorted(os.listdir(os.fsencode(descriptor_path(directory))))
            found = [self._see(directory, prefix + name, name) for name in names]
        except OSError as error:
            raise self._error(path, error) from None
        finally:
            os.close(directory)
        return [file for file in found if file is not None]

    def is_ignored(self, path: str) -> bool:
        """Whether .dockerignore leaves a path out, if it is there."""
        return self._rules.is_ignored(path)

    def reason_missing(self, path: bytes) -> str:
        """As FileTree."""
        pattern = self._rules.deciding_pattern(os.fsdecode(path)) if path else None
        if pattern is None or pattern.is_exception:
            return ""
        return f"{pattern.place} ({pattern.text})"

    def digest_contents(self, files: Sequence[SourceFile]) -> None:
        """As FileTree."""
        digest_files(self._root, files, self._memory, stop=self._stop)

    def _see(self, directory: int, path: bytes, name: bytes) -> SourceFile | None:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            link = os.readlink(name, dir_fd=directory) if kind is FileKind.SYMLINK else b""
        except OSError as error:
            # EINVAL: it is no link any more.
            if error.errno in _NOTHING_THERE or error.errno == errno.EINVAL:
                return None
            raise
        if kind is None:
            self.socket_count += 1
            return None
        is_shared = status.st_nlink > 1 and kind is not FileKind.DIRECTORY
        device = 0
        if kind in _DEVICES:
            device = os.major(status.st_rdev) << 32 | os.minor(status.st_rdev)
        return SourceFile(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            user_id=0,
            group_id=0,
            size_bytes=status.st_size if kind is FileKind.FILE else 0,
            mtime_ns=status.st_mtime_ns,
            link=link,
            device=device,
            shared_as=b"%d:%d" % (status.st_dev, status.st_ino) if is_shared else b"",
            inode=status.st_ino,
            changed_at_ns=status.st_ctime_ns,
        )

    # --- what is left out -----------------------------------------------------------------------

    def _scope(self, path: bytes) -> IgnoreScope:
        missing = []
        while (known := self._scopes.get(path)) is None:
            path, _, name = path.rpartition(b"/")
            missing.append(name)
        for name in reversed(missing):
            known = known.enter(os.fsdecode(name))
            path = path + b"/" + name if path else name
            self._scopes[path] = known
        return known

    def _is_hidden(self, file: SourceFile, scope: IgnoreScope, name: bytes) -> bool:
        if self._rules.is_empty or not scope.leaves_out(os.fsdecode(name)):
            return False
        return file.kind is not FileKind.DIRECTORY or not self._holds_any(file.path)

    def _holds_any(self, path: bytes) -> bool:
        """Whether a directory that is left out has anything below it that is not."""
        known = self._kept.get(path)
        if known is not None:
            return known
        pending = [path]
        while pending:
            directory = pending.pop()
            self._kept[directory] = False
            scope = self._scope(directory)
            if not scope.may_hold:
                continue
            for file in self._list(directory):
                if not scope.leaves_out(os.fsdecode(file.path.rpartition(b"/")[2])):
                    while directory != path:
                        self._kept[directory] = True
                        directory = directory.rpartition(b"/")[0]
                    self._kept[path] = True
                    # What was not come to is looked at when somebody asks for it.
                    for unseen in pending:
                        self._kept.pop(unseen, None)
                    return True
                if file.kind is FileKind.DIRECTORY:
                    pending.append(file.path)
        return False

    def _error(self, path: bytes, error: OSError) -> BuildCopyError:
        shown = os.fsdecode(path) or "."
        if error.errno in {errno.EACCES, errno.EPERM}:
            return BuildCopyError(
                f"{shown}: permission denied",
                hint="Let yourself read it, or leave it out in .dockerignore",
            )
        return BuildCopyError(f"{shown}: {error.strerror}")
