"""The file tree of a layer, written while it is unpacked, and what it does to those below.

An index is one MessagePack document, sorted so that a directory comes right before what is in
it: by path with `/` as the smallest byte. Everything about images that the interface shows of
files is answered from indexes; no layer is walked for it.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from typing import TYPE_CHECKING

import msgspec

from engine.errors import StoreError
from engine.snapshots.base import INDEX_NAME
from engine.types import ChangeKind, FileEntry, FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

INDEX_VERSION = 1

_EXCLUDED_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"security.selinux")


class LayerEntry(msgspec.Struct, array_like=True, gc=False, kw_only=True, omit_defaults=True):
    """One path of a layer.

    Attributes:
        path: Relative, no leading slash; empty is the root itself.
        size_bytes: Of regular files; 0 otherwise. A hard link has its target's.
        link: Target of a symbolic link as it is, or path of a hard link's first name.
        content_digest: Raw sha256 of a regular file's content; empty where not computed.
        xattrs_digest: First 8 bytes of sha256 over the extended attributes; empty for none.
        device: `major << 32 | minor` of devices.
        is_opaque: A directory that hides what lower layers have below this path.
        is_placeholder: Not on disk as said here: the host could not make it.
        is_reduced: The host could not set all extended attributes.
    """

    path: bytes
    kind: FileKind
    mode: int
    user_id: int
    group_id: int
    size_bytes: int
    mtime_ns: int
    link: bytes = b""
    content_digest: bytes = b""
    xattrs_digest: bytes = b""
    device: int = 0
    is_opaque: bool = False
    is_placeholder: bool = False
    is_reduced: bool = False


def whiteout(path: bytes) -> LayerEntry:
    """The entry that hides what lower layers have at a path."""
    return LayerEntry(
        path=path,
        kind=FileKind.WHITEOUT,
        mode=0,
        user_id=0,
        group_id=0,
        size_bytes=0,
        mtime_ns=0,
    )


class LayerIndex(msgspec.Struct, array_like=True, gc=False, kw_only=True):
    """A whole layer: totals first, then every path, sorted by `sort_key`.

    Attributes:
        size_bytes: Sum of its regular files, each inode once.
        entry_count: Paths, whiteouts and the root not counted.
    """

    version: int
    size_bytes: int
    entry_count: int
    entries: list[LayerEntry]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LayerIndex)


def sort_key(path: bytes) -> bytes:
    """Sorts a directory's content right behind it; no name holds a NUL."""
    return path.replace(b"/", b"\0")


def make_index(entries: Iterable[LayerEntry]) -> LayerIndex:
    """Sort and total entries; the root (empty path) is kept but not counted."""
    ordered = sorted(entries, key=lambda entry: sort_key(entry.path))
    size_bytes = sum(entry.size_bytes for entry in ordered if entry.kind is FileKind.FILE)
    count = sum(1 for entry in ordered if entry.path and entry.kind is not FileKind.WHITEOUT)
    return LayerIndex(
        version=INDEX_VERSION, size_bytes=size_bytes, entry_count=count, entries=ordered
    )


def encode_index(index: LayerIndex) -> bytes:
    """An index as its file holds it."""
    return _encoder.encode(index)


def decode_index(data: bytes, label: str) -> LayerIndex:
    """Read an index file's content; `label` names it in the error.

    Raises:
        StoreError: The file is damaged or of another version.
    """
    try:
        index = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"the file list of layer {label} is damaged: {error}",
            hint="Remove the images that use the layer and load them again",
        ) from None
    if index.version != INDEX_VERSION:
        raise StoreError(f"the file list of layer {label} has the unknown version {index.version}")
    return index


def write_index(directory: int, index: LayerIndex) -> None:
    """Write the index of a layer into its directory (descriptor); nothing is synced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(INDEX_NAME.encode(), flags, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(encode_index(index))


def read_index(path: str) -> LayerIndex:
    """Read an index file; blocking.

    Raises:
        StoreError: It is damaged.
    """
    with open(path, "rb") as file:
        return decode_index(file.read(), os.path.basename(os.path.dirname(path))[:12])


def digest_xattrs(xattrs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Make the digest of extended attributes, sorted by name; overlay's own do not count."""
    digest = None
    for name, value in xattrs:
        if name.startswith(_EXCLUDED_XATTRS):
            continue
        if digest is None:
            digest = hashlib.sha256()
        digest.update(b"%d:%s%d:%s" % (len(name), name, len(value), value))
    return digest.digest()[:8] if digest is not None else b""


class MergedTree:
    """What a stack of layers looks like from above; add them bottom first.

    Adding a layer of n entries over m costs O((n + m) log m), however many whiteouts there are.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[LayerEntry, int]] = {}
        self._keys: list[bytes] = []
        self.layer_count = 0

    @classmethod
    def of(cls, indexes: Iterable[LayerIndex]) -> MergedTree:
        """The merged tree of layers, bottom first."""
        tree = cls()
        for index in indexes:
            tree.add(index)
        return tree

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: bytes) -> bool:
        return sort_key(path) in self._entries

    def get(self, path: bytes) -> LayerEntry | None:
        """The entry that a path has in the merged view."""
        found = self._entries.get(sort_key(path))
        return found[0] if found is not None else None

    def below(self, path: bytes) -> Iterator[tuple[LayerEntry, int]]:
        """A directory and every path in it, as iterating gives them."""
        key = sort_key(path)
        for found in self._keys[bisect_left(self._keys, key) : self._subtree_end(key)]:
            yield self._entries[found]

    def find(self, path: bytes) -> tuple[LayerEntry, int] | None:
        """The entry of a path, with the number of the layer that it comes from."""
        return self._entries.get(sort_key(path))

    def __iter__(self) -> Iterator[tuple[LayerEntry, int]]:
        """Every path with the number of the layer that it comes from, parents first."""
        for key in self._keys:
            yield self._entries[key]

    def hidden_ranges(self, index: LayerIndex) -> list[tuple[int, int]]:
        """Ranges of positions (of paths in order) that a layer hides; disjoint, ascending.

        A whiteout hides the path and what is below it, an opaque directory and one that takes
        a file's place what is below it, anything else what was below a directory there.
        """
        keys, entries = self._keys, self._entries
        ranges: list[tuple[int, int]] = []
        for entry in index.entries:
            key = sort_key(entry.path)
            if entry.kind is FileKind.WHITEOUT:
                start = bisect_left(keys, key)
                if start < len(keys) and keys[start] == key:
                    ranges.append((start, self._subtree_end(key)))
                continue
            if entry.kind is FileKind.DIRECTORY and not entry.is_opaque:
                continue
            below = entries.get(key)
            if below is not None and below[0].kind is FileKind.DIRECTORY:
                # The directory itself is replaced or kept by the layer's own entry.
                start = bisect_left(keys, key) + 1
                ranges.append((start, self._subtree_end(key)))
        ranges = sorted(span for span in ranges if span[0] < span[1])
        merged: list[tuple[int, int]] = []
        for start, end in ranges:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def _subtree_end(self, key: bytes) -> int:
        # The root's subtree is everything: its children have no separator before them.
        return bisect_left(self._keys, key + b"\x01") if key else len(self._keys)

    def _hidden_keys(self, index: LayerIndex) -> list[bytes]:
        return [key for start, end in self.hidden_ranges(index) for key in self._keys[start:end]]

    def hidden_paths(self, index: LayerIndex) -> tuple[bytes, ...]:
        """Every path that a layer hides, parents first."""
        return tuple(self._entries[key][0].path for key in self._hidden_keys(index))

    def add(self, index: LayerIndex) -> None:
        """Put a layer on top."""
        ranges = self.hidden_ranges(index)
        if ranges:
            kept: list[bytes] = []
            position = 0
            for start, end in ranges:
                kept += self._keys[position:start]
                for key in self._keys[start:end]:
                    del self._entries[key]
                position = end
            kept += self._keys[position:]
            self._keys = kept
        entries = self._entries
        number = self.layer_count
        fresh: list[bytes] = []
        for entry in index.entries:
            if entry.kind is FileKind.WHITEOUT:
                continue
            key = sort_key(entry.path)
            if key not in entries:
                fresh.append(key)
            entries[key] = (entry, number)
        if fresh:
            self._keys += fresh
            self._keys.sort()  # two sorted runs: one merge
        self.layer_count += 1

    def compare(self, index: LayerIndex) -> tuple[FileEntry, ...]:
        """A layer's files marked against this tree, which is what lies below it.

        Directories that are there only to hold something are UNCHANGED. Every path that the
        layer hides is there too, as REMOVED with what it was. Sorted, parents first.
        """
        gone = set(self._hidden_keys(index))
        marked: dict[bytes, FileEntry] = {}
        for entry in index.entries:
            if entry.kind is FileKind.WHITEOUT or not entry.path:
                continue
            key = sort_key(entry.path)
            below = self._entries.get(key)
            if below is None:
                change = ChangeKind.ADDED
            elif is_same(below[0], entry):
                change = ChangeKind.UNCHANGED
            else:
                change = ChangeKind.MODIFIED
            gone.discard(key)
            marked[key] = file_entry(entry, change)
        for key in gone:
            marked[key] = file_entry(self._entries[key][0], ChangeKind.REMOVED)
        return tuple(marked[key] for key in sorted(marked))

    def compare_whole(self, index: LayerIndex) -> tuple[FileEntry, ...]:
        """A whole tree (not a layer) against this one: what is missing in it was removed."""
        present = {entry.path for entry in index.entries}
        missing = [
            whiteout(entry.path)
            for entry, _ in self
            if entry.path and entry.path not in present and not entry.is_placeholder
        ]
        changed = [
            entry
            for entry in index.entries
            if (below := self.get(entry.path)) is None or not is_same(below, entry)
        ]
        return self.compare(make_index([*changed, *missing]))


def is_same(below: LayerEntry, above: LayerEntry) -> bool:
    """Whether a path is the same in two layers, time stamps of directories aside.

    Contents are compared by digest where both have one, else by time stamp and size.
    """
    is_file = _is_file(above)
    if (
        (below.kind is not above.kind and not (is_file and _is_file(below)))
        or below.mode != above.mode
        or below.user_id != above.user_id
        or below.group_id != above.group_id
        or below.xattrs_digest != above.xattrs_digest
    ):
        return False
    if above.kind is FileKind.DIRECTORY:
        return not above.is_opaque
    if is_file:
        if below.size_bytes != above.size_bytes:
            return False
        if below.content_digest and above.content_digest:
            return below.content_digest == above.content_digest
        return below.mtime_ns == above.mtime_ns
    return below.link == above.link and below.device == above.device


def _is_file(entry: LayerEntry) -> bool:
    return entry.kind is FileKind.FILE or entry.kind is FileKind.HARD_LINK


def file_entry(entry: LayerEntry, change: ChangeKind) -> FileEntry:
    """An entry as the engine's callers get it."""
    return FileEntry(
        path=entry.path.decode("utf-8", "surrogateescape"),
        kind=entry.kind,
        mode=entry.mode,
        user_id=entry.user_id,
        group_id=entry.group_id,
        size_bytes=entry.size_bytes,
        modified_at=entry.mtime_ns / 1_000_000_000,
        link_target=entry.link.decode("utf-8", "surrogateescape"),
        change=change,
    )
