import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.build.ignore import IgnoreRules, parse_exclusions, parse_ignore_file
from engine.errors import IgnoreFileError, PathPatternError


def rules(*lines):
    return IgnoreRules(parse_ignore_file("\n".join(lines).encode(), name=".dockerignore"))


def texts(content):
    return [
        ("!" if pattern.is_exception else "") + pattern.text
        for pattern in parse_ignore_file(content, name=".dockerignore")
    ]


def test_comments_begin_in_the_first_column():
    assert texts(b"#one\n #two\n\n  \nthree # four") == ["#two", "three # four"]


def test_lines_are_trimmed_cleaned_and_relative():
    assert texts(b"\xef\xbb\xbfa/../b/\r\n /abs \n! /no \n./\n/\n") == ["b", "abs", "!no", ".", "/"]


def test_a_lone_exclamation_mark_is_refused_with_its_line():
    with pytest.raises(IgnoreFileError, match=r"x\.dockerignore:2: illegal exclusion"):
        parse_ignore_file(b"a\n!\n", name="x.dockerignore")


def test_a_malformed_pattern_is_refused_with_its_line():
    with pytest.raises(PathPatternError, match=r"^\.dockerignore:2: syntax error in pattern"):
        rules("a", "[b")


def test_a_line_without_end_is_refused():
    with pytest.raises(IgnoreFileError, match=r":1: the line is longer"):
        parse_ignore_file(b"a" * 70_000, name=".dockerignore")


@pytest.mark.parametrize(
    ("lines", "ignored", "kept"),
    [
        (["sub", "!sub/deep"], ["sub", "sub/a"], ["sub/deep", "sub/deep/x", "other"]),
        (["*", "!sub/a.txt"], ["sub", "sub/b.txt", "x"], ["sub/a.txt"]),
        (["*.md", "!README.md"], ["a.md"], ["README.md", "sub/a.md"]),
        (["**/*.md"], ["a.md", "x/y/z.md"], ["a.mdx"]),
        (["docs/**"], ["docs/a", "docs/a/b"], ["docs"]),
        (["!a", "a"], ["a", "a/b"], ["b"]),
        (["a", "!a", "a/c"], ["a/c"], ["a", "a/b"]),
        (["A"], ["A"], ["a"]),
        ([".*"], [".git", ".git/HEAD"], ["a/.git"]),
        (["a/b"], ["a/b", "a/b/c"], ["a", "ab", "x/a/b"]),
        (["**/node_modules"], ["node_modules/x", "a/node_modules"], ["node_modules2"]),
        (["*/temp*"], ["a/temporary", "a/temp/b"], ["temp", "a/b/temp"]),
    ],
)
def test_the_last_pattern_that_matches_decides(lines, ignored, kept):
    made = rules(*lines)

    assert [path for path in ignored if not made.is_ignored(path)] == []
    assert [path for path in kept if made.is_ignored(path)] == []


def test_the_pattern_that_decides_is_named():
    decided = rules("*.txt", "# why", "secret/*", "!secret/public").deciding_pattern("secret/a/b")

    assert decided is not None
    assert (decided.text, decided.place) == ("secret/*", ".dockerignore:3")


def test_an_exception_for_a_directory_that_is_kept_takes_nothing_back_below_it():
    assert rules("b/a", "!b").is_ignored("b/a")


def test_excluded_values_follow_the_same_rules():
    made = IgnoreRules(parse_exclusions(["*.txt", "!keep.txt"]))

    assert made.is_ignored("a.txt")
    assert not made.is_ignored("keep.txt")


def test_a_walk_turns_away_only_where_nothing_can_be_wanted():
    made = rules("a", "b", "!b/c/*.txt", "**/d")

    assert not made.root.enter("a").may_hold
    assert made.root.enter("b").is_ignored
    assert made.root.enter("b").may_hold
    assert not made.root.enter("b").enter("x").may_hold
    assert made.root.enter("b").enter("c").may_hold
    assert made.root.enter("e").may_hold
    assert not made.root.enter("e").enter("d").may_hold


NAMES = st.sampled_from(["a", "b", "ab", ".c"])
PATTERNS = st.lists(
    st.builds(
        lambda mark, names: mark + "/".join(names),
        st.sampled_from(["", "!"]),
        st.lists(
            st.sampled_from(["a", "b", "*", "**", "a*", "?", "[^a]", ".c"]), min_size=1, max_size=3
        ),
    ),
    max_size=5,
)


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=4))
def test_a_walk_finds_what_a_look_at_the_whole_path_finds(lines, names):
    made = rules(*lines)
    scope = made.root
    for name in names[:-1]:
        scope = scope.enter(name)

    assert scope.leaves_out(names[-1]) is made.is_ignored("/".join(names))
    if not scope.may_hold:
        assert made.is_ignored("/".join(names))


@given(st.binary(max_size=200))
def test_no_content_of_the_file_is_an_accident(content):
    with contextlib.suppress(IgnoreFileError, PathPatternError):
        IgnoreRules(parse_ignore_file(content, name=".dockerignore")).is_ignored("a/b")
