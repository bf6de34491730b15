"""Contexts that somebody made to do harm, and selections compared with a plain look at the disk."""

import errno
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.build.ignore import IgnoreRules, parse_ignore_file
from engine.build.selection import SourceQuery, digest_selection, select_sources
from engine.errors import (
    BuildCopyError,
    BuildSourceChangedError,
    BuildSourceNotFoundError,
    IgnoreFileError,
    PathPatternError,
)
from engine.operations import CancelledRead
from tests.unit.build.layers import copy_context
from tests.unit.build.trees import opened_context, write_files

NAMES = ["a", "b", ".c", "[x]", "a\\b", "\udcff"]


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """Directories, files, and links of every kind."""
    top = tmp_path_factory.mktemp("forest")
    (top / "outside").write_text("secret")
    root = top / "context"
    for first in NAMES:
        (root / first).mkdir(parents=True)
        for second in NAMES:
            (root / first / second).write_bytes(os.fsencode(first + second))
    for name, target in {
        "up": "../outside",
        "root": "/",
        "self": "self",
        "to-a": "a",
        "to-file": "a/b",
        "a/back": "../b",
        "dangling": "nowhere",
        "deep": "a/back/../b",
    }.items():
        (root / name).symlink_to(target)
    return root


PLAIN = ["a", "b", ".c", "..", ".", "", "up", "root", "self", "to-a", "back", "deep", "\udcff"]
WILD = ["*", "?", "**", "[a-b]", "[^a]", "[[]x]", "\\*", "a\\\\b", "a*", "*b", "/./"]
SEGMENTS = st.sampled_from((*PLAIN, *WILD))
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
LINES = st.lists(st.builds("".join, st.tuples(st.sampled_from(["", "!"]), PATHS)), max_size=3)
ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@ANY
@given(st.lists(PATHS, min_size=1, max_size=2), LINES, LINES, st.booleans())
def test_whatever_is_asked_for_lies_inside_and_is_not_left_out(
    forest, sources, ignored, exclusions, keeps_parents
):
    content = "\n".join(ignored).encode("utf-8", "surrogateescape")
    try:
        rules = IgnoreRules(parse_ignore_file(content, name=".dockerignore"))
        with opened_context(forest, *ignored) as tree:
            found = select_sources(
                tree,
                SourceQuery(
                    sources=tuple(sources),
                    exclusions=tuple(exclusions),
                    keeps_parents=keeps_parents,
                ),
            )
            digest_selection(tree, found)
    except (BuildSourceNotFoundError, PathPatternError, IgnoreFileError):
        return
    for source in found.sources:
        targets = [file.target for file in source.files]
        assert len(set(targets)) == len(targets)
        for file in source.files:
            path = forest / os.fsdecode(file.path)
            assert os.path.realpath(path.parent) == str(path.parent)
            assert path.is_symlink() == bool(file.link)
            if not path.is_dir() or path.is_symlink():
                assert not rules.is_ignored(os.fsdecode(file.path))
            assert b".." not in file.target.split(b"/")
            parent = file.target.rpartition(b"/")[0]
            assert not parent or targets.index(parent) < targets.index(file.target)


@ANY
@given(LINES)
def test_a_walk_finds_everything_that_is_not_left_out(forest, ignored):
    content = "\n".join(ignored).encode("utf-8", "surrogateescape")
    try:
        rules = IgnoreRules(parse_ignore_file(content, name=".dockerignore"))
    except (PathPatternError, IgnoreFileError):
        return
    expected = set()
    for directory, names, files in os.walk(forest):
        inside = os.path.relpath(directory, forest)
        for name in (*names, *files):
            path = os.path.normpath(os.path.join(inside, name))
            is_directory = os.path.isdir(forest / path) and not os.path.islink(forest / path)
            if not is_directory and not rules.is_ignored(path):
                expected.add(os.fsencode(path))
    with opened_context(forest, *ignored) as tree:
        found = select_sources(tree, SourceQuery(sources=(".",)))
    assert {file.path for file in found.files() if file.kind != "directory"} == expected


def test_directories_that_are_swapped_for_links_lead_nowhere(tmp_path):
    """Somebody exchanges a directory and a link to the outside as fast as they can."""
    write_files(tmp_path, "context/d/file = inside", "outside/file = secret")
    context = tmp_path / "context"
    (context / "l").symlink_to("../outside")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            (context / "d").rename(context / "x")
            (context / "l").rename(context / "d")
            (context / "d").rename(context / "l")
            (context / "x").rename(context / "d")

    swapping = threading.Thread(target=swap)
    swapping.start()
    contents = set()
    try:
        for number in range(60):
            layer = tmp_path / f"layer{number}"
            try:
                copy_context(context, layer, "/", "d")
            except (BuildSourceChangedError, BuildSourceNotFoundError, BuildCopyError):
                continue
            found = layer / "diff/file"
            if found.exists():
                contents.add(found.read_text())
    finally:
        stop.set()
        swapping.join()
    assert contents <= {"inside"}


def test_a_walk_ends_when_it_is_told_to(tmp_path):
    for number in range(50):
        write_files(tmp_path, f"{number}/file")
    stop = threading.Event()
    with opened_context(tmp_path) as tree:
        walk = tree.walk(stop)
        found = select_sources(walk, SourceQuery(sources=(".",)))
        stop.set()
        with pytest.raises(CancelledRead):
            digest_selection(walk, found)
        with pytest.raises(CancelledRead):
            select_sources(walk, SourceQuery(sources=(".",)))


def test_reading_a_large_file_ends_when_it_is_told_to(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    stop = threading.Event()
    real = os.readv
    reads = []

    def readv(descriptor, buffers):
        reads.append(descriptor)
        stop.set()
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    with opened_context(tmp_path) as tree:
        walk = tree.walk(stop)
        found = select_sources(walk, SourceQuery(sources=("large",)))
        with pytest.raises(CancelledRead):
            digest_selection(walk, found)
    assert len(reads) == 1


def test_a_full_disk_leaves_nothing_of_the_layer(tmp_path, monkeypatch):
    write_files(tmp_path, "context/a", "context/b", "context/c")
    real = os.write
    layer = tmp_path / "layer"

    def write(descriptor, data):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(layer / "diff")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Exception, match="no space left on device: COPY"):
        copy_context(tmp_path / "context", layer, "/", ".")
    assert os.listdir(layer) == ["diff"]
    assert os.listdir(layer / "diff") == []


def test_names_of_every_kind_are_copied(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    names = ["new\nline", " space ", "-dash", "*", "\udcff\udcfe", "ü", "x" * 255, "\\", "\x1b[31m"]
    for name in names:
        (context / name).write_text("x")

    copied = copy_context(context, tmp_path / "layer", "/to/", ".")

    assert sorted(os.listdir(tmp_path / "layer/diff/to")) == sorted(names)
    assert copied.layer.entry_count == len(names) + 1
