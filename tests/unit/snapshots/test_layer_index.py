from __future__ import annotations

import pytest

from engine.errors import StoreError
from engine.snapshots.index import (
    LayerEntry,
    LayerIndex,
    MergedTree,
    decode_index,
    encode_index,
    make_index,
)
from engine.types import FileKind


def _entry(path: bytes, kind: FileKind = FileKind.FILE, **fields) -> LayerEntry:
    values = {"mode": 0o644, "user_id": 0, "group_id": 0, "size_bytes": 0, "mtime_ns": 0}
    return LayerEntry(path=path, kind=kind, **{**values, **fields})


def _index(*entries: LayerEntry) -> LayerIndex:
    return make_index(entries)


def _directory(path: bytes, **fields) -> LayerEntry:
    return _entry(path, FileKind.DIRECTORY, mode=0o755, **fields)


def _whiteout(path: bytes) -> LayerEntry:
    return _entry(path, FileKind.WHITEOUT, mode=0)


BASE = _index(
    _directory(b"d"),
    _entry(b"d/a", content_digest=b"1" * 32, size_bytes=1),
    _directory(b"d/sub"),
    _entry(b"d/sub/x"),
    _entry(b"d-like"),
    _entry(b"f", content_digest=b"2" * 32, size_bytes=1),
)


def _marks(above: LayerIndex) -> dict[str, str]:
    return {entry.path: entry.change.value for entry in MergedTree.of([BASE]).compare(above)}


def test_added_modified_and_unchanged_are_told_apart() -> None:
    marks = _marks(
        _index(
            _directory(b"d", mtime_ns=5),
            _entry(b"d/a", content_digest=b"1" * 32, size_bytes=1, mtime_ns=9),
            _entry(b"f", content_digest=b"3" * 32, size_bytes=1),
            _entry(b"new"),
        )
    )
    assert marks == {"d": "unchanged", "d/a": "unchanged", "f": "modified", "new": "added"}


def test_a_whiteout_of_a_directory_removes_all_below_it_and_no_more() -> None:
    assert _marks(_index(_whiteout(b"d"), _whiteout(b"never-there"))) == {
        "d": "removed",
        "d/a": "removed",
        "d/sub": "removed",
        "d/sub/x": "removed",
    }


def test_an_opaque_directory_removes_what_it_does_not_bring() -> None:
    marks = _marks(_index(_directory(b"d", is_opaque=True), _entry(b"d/a", size_bytes=2)))
    assert marks == {
        "d": "modified",
        "d/a": "modified",
        "d/sub": "removed",
        "d/sub/x": "removed",
    }


def test_a_file_in_a_directorys_place_removes_what_was_in_it() -> None:
    assert _marks(_index(_entry(b"d/sub", size_bytes=3))) == {
        "d/sub": "modified",
        "d/sub/x": "removed",
    }


def test_a_stack_is_merged_from_the_bottom_up() -> None:
    tree = MergedTree.of([BASE, _index(_whiteout(b"d")), _index(_directory(b"d"), _entry(b"d/b"))])
    assert [(entry.path, layer) for entry, layer in tree] == [
        (b"d", 2),
        (b"d/b", 2),
        (b"d-like", 0),
        (b"f", 0),
    ]


def test_many_whiteouts_are_merged_at_once() -> None:
    base = _index(_directory(b"d"), *(_entry(b"d/%06d" % number) for number in range(50_000)))
    above = _index(*(_whiteout(b"d/%06d" % number) for number in range(0, 50_000, 2)))
    assert len(MergedTree.of([base, above])) == 25_001


def test_totals_count_an_inode_once_and_no_whiteouts() -> None:
    link = _entry(b"twin", FileKind.HARD_LINK, size_bytes=7, link=b"file")
    index = _index(_entry(b"file", size_bytes=7), link, _whiteout(b"gone"), _directory(b""))
    assert (index.size_bytes, index.entry_count) == (7, 2)


def test_an_index_survives_being_written_and_read() -> None:
    assert decode_index(encode_index(BASE), "layer") == BASE


def test_a_damaged_index_says_so() -> None:
    with pytest.raises(StoreError, match="damaged"):
        decode_index(encode_index(BASE)[:-3], "layer")
