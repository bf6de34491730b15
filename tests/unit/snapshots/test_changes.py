"""What a writable layer changes, as overlay leaves it and as a whole copy shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.snapshots.changes import LowerFiles, find_changes
from engine.snapshots.index import LayerEntry, make_index
from engine.types import ChangeKind, FileKind

if TYPE_CHECKING:
    from pathlib import Path

A, C, D = ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.REMOVED


def made(path: str, kind: FileKind = FileKind.FILE, **fields: object) -> LayerEntry:
    values = {"mode": 0o755, "user_id": 0, "group_id": 0, "size_bytes": 0, "mtime_ns": 0, **fields}
    return LayerEntry(path=os.fsencode(path), kind=kind, **values)


def folder(path: str, **fields: object) -> LayerEntry:
    return made(path, FileKind.DIRECTORY, **fields)


def gone(path: str) -> LayerEntry:
    return made(path, FileKind.WHITEOUT, mode=0)


IMAGE = (
    folder("bin"),
    made("bin/sh", size_bytes=5),
    folder("etc"),
    made("etc/passwd", size_bytes=9),
    folder("srv"),
    folder("srv/deep"),
    made("srv/deep/file", size_bytes=1),
    made("run", FileKind.SYMLINK, link=b"var/run"),
    folder("var"),
    folder("var/run"),
)


@pytest.fixture
def lowers(tmp_path: Path) -> LowerFiles:
    (tmp_path / "diff").mkdir()
    return LowerFiles([make_index(IMAGE)], [str(tmp_path / "diff")])


def changes(lowers: LowerFiles, *upper: LayerEntry, is_whole=False, mount_points=()):
    try:
        found = find_changes(
            lowers, make_index(upper), is_whole_tree=is_whole, mount_points=mount_points
        )
    finally:
        lowers.close()
    listed = {os.fsdecode(path): change for path, change in found.changes.items()}
    return listed, [os.fsdecode(entry.path) for entry in found.entries]


def test_directories_that_lead_to_a_change_are_changed_and_others_are_not(lowers):
    upper = (folder("srv"), folder("srv/deep"), made("srv/deep/new"), folder("bin"))
    expected = {"srv": C, "srv/deep": C, "srv/deep/new": A}
    assert changes(lowers, *upper) == (expected, list(expected))


def test_what_goes_with_a_directory_is_not_listed(lowers):
    assert changes(lowers, gone("srv"), gone("never-was")) == ({"srv": D}, ["srv"])


def test_a_directory_in_the_place_of_one_that_was_removed_hides_what_was_there(lowers):
    upper = (folder("srv", is_opaque=True), made("srv/new"))
    listed, entries = changes(lowers, *upper)
    assert listed == {"srv": C, "srv/new": A, "srv/deep": D}
    assert entries == ["srv", "srv/new"]


def test_a_new_directory_hides_nothing_whatever_its_mark_says(lowers, tmp_path):
    upper = make_index([folder("fresh", is_opaque=True)])
    (entry,) = find_changes(lowers, upper, is_whole_tree=False).entries
    assert not entry.is_opaque


def test_a_file_in_the_place_of_a_directory_is_a_change(lowers):
    listed, entries = changes(lowers, made("srv", size_bytes=3))
    assert listed == {"srv": C, "srv/deep": D}
    assert entries == ["srv"]


def test_places_that_were_made_for_mounts_are_no_change(lowers):
    upper = (
        folder("dev"),
        folder("var"),
        folder("var/run"),
        folder("var/run/made"),
        folder("var/run/made/here"),
        made("etc/hosts"),
        folder("etc"),
        folder("kept"),
        folder("kept/here"),
        made("kept/own"),
    )
    mounts = (b"/run/made/here", b"/kept/here")
    listed, _entries = changes(lowers, *upper, mount_points=mounts)
    assert listed == {"kept": A, "kept/own": A}


def test_a_whole_copy_tells_what_is_missing_once(lowers):
    upper = [entry for entry in IMAGE if not entry.path.startswith((b"srv", b"etc/passwd"))]
    upper.append(made("etc/new", size_bytes=2))
    listed, entries = changes(lowers, *upper, is_whole=True)
    assert listed == {"etc": C, "etc/new": A, "etc/passwd": D, "srv": D}
    assert entries == ["etc", "etc/new", "etc/passwd", "srv"]


def test_a_whole_copy_that_is_the_image_has_no_changes(lowers):
    assert changes(lowers, *IMAGE, is_whole=True) == ({}, [])
