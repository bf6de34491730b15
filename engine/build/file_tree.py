"""What COPY and ADD read: a tree of files, wherever it is.

A context is a directory on disk, another stage a stack of layers; selecting files from both is the
same. Paths are bytes, relative, with `/` between names; empty is the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.snapshots.index import LayerEntry, MergedTree

_LINK_LIMIT = 40  # the kernel's MAXSYMLINKS
_COPIED_KINDS = frozenset(
    (
        FileKind.FILE,
        FileKind.DIRECTORY,
        FileKind.SYMLINK,
        FileKind.FIFO,
        FileKind.CHARACTER_DEVICE,
        FileKind.BLOCK_DEVICE,
    )
)


class SourceFile(msgspec.Struct, array_like=True, gc=False, kw_only=True, omit_defaults=True):
    """One file that can be copied.

    Attributes:
        path: In its tree, without links.
        kind: Never HARD_LINK: every name of a file is the file, and `shared_as` says which.
        size_bytes: Of regular files; 0 otherwise.
        link: Target of a symbolic link.
        device: `major << 32 | minor`.
        shared_as: The same for all names of one file; empty where it has only one.
        target: Where it is copied to, below the destination; empty is the destination itself.
        content_digest: Raw sha256 of a regular file; empty until it is asked for.
        xattrs_digest: As LayerEntry has it; contexts have none.
        layer: Which layer it is in, counted from the lowest; 0 in a context.
        inode: With `changed_at_ns` it says whether a file of a context is the one that was seen.
    """

    path: bytes
    kind: FileKind
    mode: int
    user_id: int
    group_id: int
    size_bytes: int
    mtime_ns: int
    link: bytes = b""
    device: int = 0
    shared_as: bytes = b""
    target: bytes = b""
    content_digest: bytes = b""
    xattrs_digest: bytes = b""
    layer: int = 0
    inode: int = 0
    changed_at_ns: int = 0


class FileTree(Protocol):
    """Files to select from; every method blocks."""

    @property
    def label(self) -> str:
        """What errors call it: `the build context`, `stage build`."""

    def look(self, path: bytes) -> SourceFile | None:
        """What is at a path, which has no links on the way; None if nothing is, or it is hidden."""

    def children(self, path: bytes) -> list[SourceFile]:
        """What is in a directory, sorted by name."""

    def reason_missing(self, path: bytes) -> str:
        """What hides a path, as `file:line` and the pattern; empty if nothing does."""

    def digest_contents(self, files: Sequence[SourceFile]) -> None:
        """Fill in the digests of regular files.

        Raises:
            BuildSourceChangedError: A file changes all the time.
        """


def follow(tree: FileTree, path: bytes) -> SourceFile | None:
    """What a path leads to, links followed as if the top were the root of everything.

    None where it leads to nothing, through a file, or round in circles.
    """
    found = SourceFile(
        path=b"",
        kind=FileKind.DIRECTORY,
        mode=0o755,
        user_id=0,
        group_id=0,
        size_bytes=0,
        mtime_ns=0,
    )
    done: list[bytes] = []
    pending = _reversed_names(path)
    link_count = 0
    while pending:
        name = pending.pop()
        if name == b"..":
            del done[-1:]
            continue
        seen = tree.look(b"/".join((*done, name)))
        if seen is None:
            return None
        if seen.kind is FileKind.SYMLINK:
            link_count += 1
            if link_count > _LINK_LIMIT:
                return None
            if seen.link.startswith(b"/"):
                done.clear()
            pending += _reversed_names(seen.link)
            continue
        if pending and seen.kind is not FileKind.DIRECTORY:
            return None
        done.append(name)
        found = seen
    if found.path != (there := b"/".join(done)):
        # `..` came last: where it leads to was passed before.
        return tree.look(there) if there else _top()
    return found


def _top() -> SourceFile:
    return SourceFile(
        path=b"",
        kind=FileKind.DIRECTORY,
        mode=0o755,
        user_id=0,
        group_id=0,
        size_bytes=0,
        mtime_ns=0,
    )


def _reversed_names(path: bytes) -> list[bytes]:
    return [name for name in reversed(path.split(b"/")) if name not in {b"", b"."}]


class LayerFileTree:
    """The files of an image or a stage, by the indexes of its layers."""

    def __init__(self, tree: MergedTree, *, label: str) -> None:
        """Look at a merged tree, which stays the caller's."""
        self._tree = tree
        self._label = label
        self._children: dict[bytes, list[tuple[LayerEntry, int]]] | None = None

    @property
    def label(self) -> str:
        """As FileTree."""
        return self._label

    def look(self, path: bytes) -> SourceFile | None:
        """As FileTree."""
        found = self._tree.find(path)
        return None if found is None else self._source_file(*found)

    def children(self, path: bytes) -> list[SourceFile]:
        """As FileTree."""
        if self._children is None:
            self._children = {}
            for entry, layer in self._tree:
                if entry.path:
                    parent = entry.path.rpartition(b"/")[0]
                    self._children.setdefault(parent, []).append((entry, layer))
        return [self._source_file(entry, layer) for entry, layer in self._children.get(path, ())]

    def reason_missing(self, path: bytes) -> str:
        """As FileTree: nothing is hidden in an image."""
        del path
        return ""

    def digest_contents(self, files: Sequence[SourceFile]) -> None:
        """As FileTree; layers know the digests of most files since they were made."""
        del files

    def _source_file(self, entry: LayerEntry, layer: int) -> SourceFile:
        first = entry
        if entry.kind is FileKind.HARD_LINK:
            # The first name may be something else by now, in a layer above.
            found = self._tree.find(entry.link)
            if found is not None and found[1] == layer:
                first = found[0]
        kind = first.kind if first.kind in _COPIED_KINDS else FileKind.FILE
        name = entry.link if entry.kind is FileKind.HARD_LINK else entry.path
        return SourceFile(
            path=entry.path,
            kind=kind,
            mode=entry.mode,
            user_id=entry.user_id,
            group_id=entry.group_id,
            size_bytes=entry.size_bytes if kind is FileKind.FILE else 0,
            mtime_ns=entry.mtime_ns,
            link=first.link if kind is FileKind.SYMLINK else b"",
            device=first.device,
            shared_as=b"%d:%s" % (layer, name) if kind is not FileKind.DIRECTORY else b"",
            content_digest=entry.content_digest or first.content_digest,
            xattrs_digest=entry.xattrs_digest,
            layer=layer,
        )
