import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.build.selection import SourceQuery, digest_selection, select_sources
from engine.errors import BuildCopyError, BuildSourceNotFoundError
from engine.linux.capabilities import set_process_capabilities
from engine.types import FileKind
from tests.unit.build.trees import opened_context, write_files


def selected(directory, *sources, ignored=(), **options):
    with opened_context(directory, *ignored) as tree:
        found = select_sources(tree, SourceQuery(sources=sources, **options))
    return [
        (source.name.decode(), [file.target.decode() for file in source.files])
        for source in found.sources
    ]


def digest_of(directory, *sources, **options):
    with opened_context(directory) as tree:
        found = select_sources(tree, SourceQuery(sources=sources, **options))
        digest_selection(tree, found)
    return found.digest()


def test_a_file_is_itself(tmp_path):
    write_files(tmp_path, "a/b.txt", "c")

    assert selected(tmp_path, "a/b.txt", "/c", "./a/../c") == [
        ("b.txt", [""]),
        ("c", [""]),
        ("c", [""]),
    ]


def test_a_directory_gives_what_is_in_it_parents_first(tmp_path):
    write_files(tmp_path, "d/z", "d/a/x", "d/a.txt", "d/empty/", "other")

    assert selected(tmp_path, "d") == [("d", ["a", "a/x", "a.txt", "empty", "z"])]
    assert selected(tmp_path, ".")[0][1] == [
        "d", "d/a", "d/a/x", "d/a.txt", "d/empty", "d/z", "other",
    ]  # fmt: skip


def test_nothing_leads_out_of_the_context(tmp_path):
    (tmp_path / "context").mkdir()
    write_files(
        tmp_path,
        "secret",
        "context/secret = mine",
        "context/up -> ../secret",
        "context/out -> ../../etc/passwd",
        "context/absolute -> /secret",
    )
    with opened_context(tmp_path / "context") as tree:
        for source in ("../secret", "../../secret", "up", "absolute"):
            found = select_sources(tree, SourceQuery(sources=(source,)))
            digest_selection(tree, found)
            assert found.sources[0].files[0].path == b"secret"
            assert found.sources[0].files[0].size_bytes == len("mine")
        with pytest.raises(BuildSourceNotFoundError) as caught:
            select_sources(tree, SourceQuery(sources=("out",)))
    assert str(caught.value) == (
        '"out": not found in the build context, where it is a link to ../../etc/passwd'
    )


def test_links_that_are_named_are_followed_and_keep_their_names(tmp_path):
    write_files(tmp_path, "d/real", "l -> d/real", "m -> n", "n -> d", "d/inner -> real")

    assert selected(tmp_path, "l") == [("l", [""])]
    assert selected(tmp_path, "m") == [("m", ["inner", "real"])]
    assert selected(tmp_path, "m/inner") == [("inner", [""])]
    assert selected(tmp_path, "?") == [
        ("d", ["inner", "real"]),
        ("l", [""]),
        ("m", ["inner", "real"]),
        ("n", ["inner", "real"]),
    ]


def test_links_in_a_circle_are_not_there(tmp_path):
    write_files(tmp_path, "a -> b", "b -> a", "c -> c/d")

    for source in ("a", "c"):
        with pytest.raises(BuildSourceNotFoundError):
            selected(tmp_path, source)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[a]*", ["a.txt"]),
        ("*/x", ["x", "x"]),
        ("d1/*", ["x", "y"]),
        ("d[12]/[^e]", ["x", "y", "x"]),
        ("nothing*", []),
        ("a.txt/*", []),
    ],
)
def test_wildcards_stop_at_slashes(tmp_path, pattern, names):
    write_files(tmp_path, "a.txt", "b.txt", "c.md", "d1/x", "d1/y", "d2/x", "d2/e/x")

    assert [name for name, _ in selected(tmp_path, pattern)] == names


def test_a_wildcard_without_a_match_is_a_warning(tmp_path):
    with opened_context(tmp_path) as tree:
        found = select_sources(tree, SourceQuery(sources=("*.txt",)))

    assert found.sources == []
    assert found.warnings == ['no file matches "*.txt" in the build context']


def test_a_class_of_a_wildcard_may_match_a_slash_as_in_go(tmp_path):
    write_files(tmp_path, "a/b")

    assert selected(tmp_path, "a[^x]b") == [("b", [""])]


def test_brackets_name_odd_files(tmp_path):
    write_files(tmp_path, "arr[0].txt")

    assert selected(tmp_path, "arr[[]0].txt") == [("arr[0].txt", [""])]


def test_what_is_ignored_is_not_there(tmp_path):
    write_files(tmp_path, "a.log", "b.txt", "sub/c.log", "sub/d.txt", "gone/e")

    ignored = ("*.log", "gone")
    assert selected(tmp_path, ".", ignored=ignored)[0][1] == [
        "b.txt", "sub", "sub/c.log", "sub/d.txt",
    ]  # fmt: skip
    with pytest.raises(BuildSourceNotFoundError) as caught:
        selected(tmp_path, "a.log", ignored=ignored)
    assert caught.value.hint == ".dockerignore:1 (*.log) leaves it out of the build context"
    with pytest.raises(BuildSourceNotFoundError):
        selected(tmp_path, "gone", ignored=ignored)
    with pytest.raises(BuildSourceNotFoundError):
        selected(tmp_path, "gone/e", ignored=ignored)


def test_directories_of_exceptions_are_there(tmp_path):
    write_files(tmp_path, "a/b/keep", "a/b/drop", "a/c/drop", "x")

    ignored = ("*", "!a/b/keep")
    assert selected(tmp_path, ".", ignored=ignored)[0][1] == ["a", "a/b", "a/b/keep"]
    assert selected(tmp_path, "a", ignored=ignored)[0][1] == ["b", "b/keep"]
    with pytest.raises(BuildSourceNotFoundError):
        selected(tmp_path, "a/c", ignored=ignored)


def test_exclusions_count_from_the_source(tmp_path):
    write_files(tmp_path, "d/a.txt", "d/b.md", "d/sub/a.txt", "d/sub/c.md")

    assert selected(tmp_path, "d", exclusions=("*.txt",))[0][1] == [
        "b.md", "sub", "sub/a.txt", "sub/c.md",
    ]  # fmt: skip
    assert selected(tmp_path, "d", exclusions=("**/*.txt",))[0][1] == ["b.md", "sub", "sub/c.md"]
    assert selected(tmp_path, "d", exclusions=("sub", "!sub/c.md"))[0][1] == [
        "a.txt", "b.md", "sub", "sub/c.md",
    ]  # fmt: skip
    assert selected(tmp_path, "d/*", exclusions=("*.md",)) == [
        ("a.txt", [""]),
        ("sub", ["a.txt"]),
    ]


def test_parents_are_kept_from_the_pivot_on(tmp_path):
    write_files(tmp_path, "x/a.txt", "x/y/b.txt", "x/y/c.md", "z/b.txt")

    def parents(*sources, **options):
        return [files for _, files in selected(tmp_path, *sources, keeps_parents=True, **options)]

    assert parents("x/a.txt", "z") == [["x", "x/a.txt"], ["z", "z/b.txt"]]
    assert parents("x/./y/*.txt") == [["y", "y/b.txt"]]
    assert parents("**/b.txt") == [["x", "x/y", "x/y/b.txt", "z", "z/b.txt"]]
    assert parents("x", exclusions=("x/y",)) == [["x", "x/a.txt"]]
    assert parents("*.none") == []
    with pytest.raises(BuildSourceNotFoundError):
        parents("x/none")


def test_a_digest_changes_with_what_shows_and_with_nothing_else(tmp_path):
    write_files(tmp_path, "d/a = one", "d/sub/b = two")
    before = digest_of(tmp_path, "d")

    os.utime(tmp_path / "d/a", (1, 1))
    (tmp_path / "d").chmod(0o700)
    (tmp_path / "d").rename(tmp_path / "renamed")
    assert digest_of(tmp_path, "renamed") == before

    (tmp_path / "d").mkdir()
    (tmp_path / "renamed/a").chmod(0o755)
    changed = {before, digest_of(tmp_path, "renamed")}
    (tmp_path / "renamed/a").chmod(0o644)
    assert digest_of(tmp_path, "renamed") == before
    (tmp_path / "renamed/a").write_text("eno")
    changed.add(digest_of(tmp_path, "renamed"))
    (tmp_path / "renamed/a").write_text("one")
    (tmp_path / "renamed/a").rename(tmp_path / "renamed/c")
    changed.add(digest_of(tmp_path, "renamed"))
    (tmp_path / "renamed/c").rename(tmp_path / "renamed/a")
    (tmp_path / "renamed/sub").chmod(0o700)
    changed.add(digest_of(tmp_path, "renamed"))
    (tmp_path / "renamed/sub").chmod(0o755)
    (tmp_path / "renamed/e").mkdir()
    changed.add(digest_of(tmp_path, "renamed"))
    (tmp_path / "renamed/e").rmdir()
    (tmp_path / "renamed/a").unlink()
    (tmp_path / "renamed/a").symlink_to("one")
    changed.add(digest_of(tmp_path, "renamed"))
    assert len(changed) == 7


def test_hard_links_in_a_tree_belong_together(tmp_path):
    write_files(tmp_path, "d/a", "e/a = d/a", "e/b = d/a")
    os.link(tmp_path / "d/a", tmp_path / "d/b")

    assert digest_of(tmp_path, "d") != digest_of(tmp_path, "e")
    with opened_context(tmp_path) as tree:
        first, second = select_sources(tree, SourceQuery(sources=("d",))).sources[0].files
    assert first.shared_as == second.shared_as != b""


def test_pipes_are_copied_and_sockets_are_not(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with opened_context(tmp_path) as tree:
            found = select_sources(tree, SourceQuery(sources=(".",)))
            digest_selection(tree, found)
            assert tree.socket_count == 1
    assert [(file.target, file.kind) for file in found.files()] == [(b"pipe", FileKind.FIFO)]


def test_nothing_is_read_that_nobody_asks_for(tmp_path, monkeypatch):
    write_files(tmp_path, "wanted/a", "other/b", "wanted.txt")
    listed = []
    real = os.listdir
    monkeypatch.setattr(
        os,
        "listdir",
        lambda path: listed.append(os.readlink(path)) or real(path),
    )

    selected(tmp_path, "wanted", "wanted.txt")
    assert listed == [os.fsencode(tmp_path / "wanted")]
    listed.clear()
    selected(tmp_path, "w*/a")
    assert listed == [os.fsencode(tmp_path), os.fsencode(tmp_path / "wanted")]
    listed.clear()
    selected(tmp_path, "wanted/*", keeps_parents=True)
    assert listed == [os.fsencode(tmp_path), os.fsencode(tmp_path / "wanted")]


def test_directories_may_be_deeper_than_a_path_is_long(tmp_path):
    depth, name = 60, "n" * 200
    current = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=current)
        following = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)

    with opened_context(tmp_path, "none", f"!{name}/none") as tree:
        found = select_sources(tree, SourceQuery(sources=(".",)))
        digest_selection(tree, found)
    assert len(list(found.files())) == depth + 1
    with opened_context(tmp_path, "*", "!**/file") as tree:
        assert len(list(select_sources(tree, SourceQuery(sources=(".",))).files())) == depth + 1


def test_what_may_not_be_read_is_named(tmp_path):
    write_files(tmp_path, "a")
    (tmp_path / "a").chmod(0)

    # Root may read it by its capabilities alone, which each thread has for itself.
    with (
        ThreadPoolExecutor(1, "", set_process_capabilities, (frozenset(),)) as powerless,
        pytest.raises(BuildCopyError, match="a: permission denied"),
    ):
        powerless.submit(digest_of, tmp_path, "a").result()
