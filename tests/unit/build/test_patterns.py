import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.build.patterns import clean_path, compile_deep_match, compile_match, has_wildcards
from engine.errors import PathPatternError

ALPHABET = "ab/*?[]^-\\."


def matches_as_go_does(pattern, name):
    """filepath.Match without regular expressions: a star is skipped one character at a time."""

    def one(pattern, name):
        """What is left of the name behind a chunk without stars, or None."""
        while pattern:
            if not name:
                return None
            if pattern[0] == "[":
                is_negated = pattern[1] == "^"
                pattern = pattern[2:] if is_negated else pattern[1:]
                found, count = False, 0
                while not (pattern[0] == "]" and count):
                    bounds = []
                    for _ in range(2):
                        if pattern[0] == "\\":
                            pattern = pattern[1:]
                        bounds.append(pattern[0])
                        pattern = pattern[1:]
                        if len(bounds) == 2 or pattern[0] != "-":
                            break
                        pattern = pattern[1:]
                    found = found or bounds[0] <= name[0] <= bounds[-1]
                    count += 1
                if found is is_negated:
                    return None
                pattern, name = pattern[1:], name[1:]
                continue
            if pattern[0] == "?":
                if name[0] == "/":
                    return None
            else:
                if pattern[0] == "\\":
                    pattern = pattern[1:]
                if pattern[0] != name[0]:
                    return None
            pattern, name = pattern[1:], name[1:]
        return name

    def chunk_of(pattern):
        position, is_in_class = 0, False
        while position < len(pattern):
            if pattern[position] == "\\":
                position += 1
            elif pattern[position] == "[":
                is_in_class = True
            elif pattern[position] == "]":
                is_in_class = False
            elif pattern[position] == "*" and not is_in_class:
                break
            position += 1
        return pattern[:position], pattern[position:]

    while pattern:
        has_star = pattern.startswith("*")
        chunk, pattern = chunk_of(pattern.lstrip("*"))
        if has_star and not chunk:
            return "/" not in name
        starts = [0]
        if has_star:
            while starts[-1] < len(name) and name[starts[-1]] != "/":
                starts.append(starts[-1] + 1)
        for start in starts:
            rest = one(chunk, name[start:])
            if rest is not None and (pattern or not rest):
                name = rest
                break
        else:
            return False
    return not name


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*b*c*d", "axbxcxd", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "aäb", True),
        ("a[^a]b", "aäb", True),
        ("a?b", "a/b", False),
        ("a[^x]b", "a/b", True),
        ("[\\]a]", "]", True),
        ("[\\-x]", "x", True),
        ("[x\\-z]", "-", True),
        ("[z-a]", "m", False),
        ("[^z-a]", "m", True),
        ("a*b", "a\nb", True),
        ("arr[[]0].txt", "arr[0].txt", True),
        ("a.c", "abc", False),
        ("", "", True),
    ],
)
def test_matching_is_that_of_go(pattern, name, is_match):
    assert compile_match(pattern)(name) is is_match
    assert matches_as_go_does(pattern, name) is is_match


@pytest.mark.parametrize(
    "pattern",
    ["[", "[a", "[a-", "a[", "[]a]", "[-]", "[x-]", "[-x]", "a\\", "[^", "[\\", "*[", "[a-\\"],
)
def test_a_malformed_pattern_is_refused_as_go_does(pattern):
    with pytest.raises(PathPatternError, match="syntax error in pattern"):
        compile_match(pattern)
    with pytest.raises(PathPatternError):
        compile_deep_match(pattern)


@given(st.text(ALPHABET, max_size=12), st.text("ab/.-]", max_size=12))
def test_every_pattern_matches_as_in_go(pattern, name):
    try:
        matcher = compile_match(pattern)
    except PathPatternError:
        return
    assert matcher(name) is matches_as_go_does(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("**/foo", "foo", True),
        ("**/foo", "a/b/foo", True),
        ("**/foo", "a/barfoo", False),
        ("**foo", "barfoo", True),
        ("docs/**", "docs/a/b", True),
        ("docs/**", "docs", False),
        ("docs**", "docs-old/a", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("**/*.md", "a/b/c.md", True),
        ("**/*.md", "c.md", True),
        ("**/*.md", "c.mdx", False),
        ("**/a/**", "x/a/y", True),
        ("**/a/**", "x/a", False),
        ("**/a/**/b", "a/b", True),
        ("**/a*/**/*b", "x/ay/z/q/cb", True),
        ("*.go", "a.go", True),
        ("*.go", "a/b.go", False),
        ("a\\*b", "a*b", True),
        ("a.b", "axb", False),
        ("a(b)|c{1}$+^", "a(b)|c{1}$+^", True),
        ("[a-c]x", "bx", True),
        ("a**b", "ab", True),
        ("a**b", "ax/b", True),
        ("a**b", "axb", False),
        ("**/x*/y", "xa/b/xc/y", True),
        ("x/**/[^a]/y", "x/b/y", True),
        ("a?c/**", "abc/x", True),
    ],
)
def test_two_stars_match_whole_names(pattern, path, is_match):
    assert compile_deep_match(pattern)(path) is is_match


def expression_of_moby(pattern):
    """The regular expression that moby writes, for patterns without classes."""
    written, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
            written += ".*" if position == len(pattern) else "(.*/)?"
            continue
        written += {"*": "[^/]*", "?": "[^/]", ".": "\\."}.get(pattern[position], pattern[position])
        position += 1
    return written


@given(st.text("ab/*?.", min_size=1, max_size=10), st.text("ab/.", max_size=10))
def test_every_deep_pattern_matches_as_the_expression_that_moby_writes(pattern, path):
    import re

    pattern, path = clean_path(pattern), clean_path(path)
    is_compared_as_text = pattern.startswith("**") and not has_wildcards(pattern[2:])
    expected = re.fullmatch(expression_of_moby(pattern), path, re.DOTALL) is not None
    if is_compared_as_text:
        suffix = pattern[2:]
        expected = path.endswith(suffix) or (suffix[:1] == "/" and path == suffix[1:])
    assert compile_deep_match(pattern)(path) is expected


@given(st.text(ALPHABET, max_size=12), st.text("ab/.-]", max_size=12))
def test_states_and_expressions_agree(pattern, path):
    from engine.build import patterns

    try:
        compile_match(pattern)
    except PathPatternError:
        return
    tokens = list(patterns._deep_tokens(pattern))
    if not patterns._may_commit(tokens):
        return
    by_expression = patterns._matcher_of(patterns._deep_expression(tokens))(path)
    assert patterns._StateMatcher(tokens)(path) is by_expression


def test_many_wildcards_take_no_more_time_than_few():
    path = "/".join(["a" * 200] * 8)
    for pattern in ("*a" * 60 + "b", "**/" * 40 + "b", "**/*a*a/" * 20 + "b", "a**" * 30 + "b"):
        assert not compile_deep_match(pattern)(path)
    assert not compile_match("*a" * 60 + "b")("a" * 4000)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "."),
        (".", "."),
        ("/", "/"),
        ("a//b/./c/", "a/b/c"),
        ("a/../b", "b"),
        ("../a", "../a"),
        ("/../a", "/a"),
        ("a/../..", ".."),
    ],
)
def test_paths_are_cleaned_as_in_go(path, cleaned):
    assert clean_path(path) == cleaned
