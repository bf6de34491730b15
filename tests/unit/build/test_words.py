"""Quoting and variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.build.shell_patterns import ShellPattern
from engine.build.words import WordError, expand, expand_text, quoted_words, shell_words

VARIABLES = {
    "a": "1",
    "empty": "",
    "str": "foobarbaz",
    "path": "/usr/local/bin",
    "two": "x  y",
    "star": "a*c",
}

EXPANSIONS = {
    "plain": "plain",
    "$a": "1",
    "${a}": "1",
    "x$a-y": "x1-y",
    "$missing": "",
    "$ $. a$": "$ $. a$",
    "$1$12x$@$?": "x",
    "$$a": "a",
    "${missing-w}": "w",
    "${empty-w}": "",
    "${empty:-w}": "w",
    "${a:-w}": "1",
    "${a:+w}": "w",
    "${a+w}": "w",
    "${empty+w}": "w",
    "${empty:+w}": "",
    "${missing:+w}": "",
    "${a:?no}": "1",
    "${missing:-${a}-${b:-c}}": "1-c",
    "${missing:-'}'}": "}",
    '${missing:-"q $a"}': "q 1",
    "${str#f*o}": "obarbaz",
    "${str##*b}": "az",
    "${str%b*}": "foobar",
    "${str%%b*}": "foo",
    "${str%?}": "foobarba",
    "${str#x}": "foobarbaz",
    "${path##*/}": "bin",
    "${path%/*}": "/usr/local",
    "${path%%/*}": "",
    "${str/ba/BA}": "fooBArbaz",
    "${str//ba/BA}": "fooBArBAz",
    "${str/b*/X}": "fooX",
    "${path//\\//-}": "-usr-local-bin",
    "${star#a\\*}": "c",
    "${star/\\*/x}": "axc",
    "${missing#x}": "",
    "'$a'": "$a",
    "'a\\'": "a\\",
    '"a\\tb"': "a\\tb",
    '"a\\"b\\$a\\\\"': 'a"b$a\\',
    "a\\$a\\x": "a$ax",
    "x\\": "x",
    "\"x y\"z'$e'": "x yz$e",
    'g=\\"q': 'g="q',
    '""': "",
}


@pytest.mark.parametrize("word", EXPANSIONS)
def test_a_word_comes_to_what_a_shell_makes_of_it(word):
    assert expand(word, VARIABLES).text == EXPANSIONS[word]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${{x}", "bad substitution"),
        ("${", "missing '}'"),
        ("${a", "missing '}'"),
        ("${a:-b", "missing '}'"),
        ("${a/b}", "missing '/' in ${}"),
        ("${a:#b}", "unsupported modifier (:#)"),
        ("${a=b}", "unsupported modifier (=)"),
        ("${a#\\x}", "invalid escape '\\x'"),
        ("${missing?}", "missing: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${missing:?say it}", "missing: say it"),
        ("'a", "single-quote"),
        ('"a', "double-quote"),
        ('"${a"', "unsupported modifier"),
        ("${a:-" * 200 + "}" * 200, "substitutions within substitutions"),
    ],
)
def test_a_word_that_means_nothing_is_refused_with_what_was_expected(word, reason):
    with pytest.raises(WordError) as caught:
        expand(word, VARIABLES)

    assert reason in caught.value.reason
    assert caught.value.expected
    assert 0 <= caught.value.offset <= len(word)


def test_the_escape_is_what_the_directive_says():
    assert expand("C:\\dir`$a$a", VARIABLES, escape="`").text == "C:\\dir$a1"


def test_words_are_divided_at_spaces_that_are_not_quoted():
    assert expand('$two \'a b\'"c d" e\\ f $missing ""', VARIABLES).words == (
        "x",
        "y",
        "a bc d",
        "e f",
    )


def test_names_that_were_asked_for_are_told_apart():
    expansion = expand("$a ${missing:-$other} ${one+x} ${two#x} ${three#x} '$quoted'", VARIABLES)

    assert expansion.used == {"a", "two"}
    assert expansion.unset == {"other", "three"}


def test_quotes_stay_in_the_body_of_a_heredoc():
    assert expand_text("\"$a\" '$a' \\$a \\\\", VARIABLES).text == "\"1\" '1' $a \\"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cat <<EOF > /b", ["cat", "<<EOF", ">", "/b"]),
        ("echo '<<A' \"<< B\"", ["echo", "'<<A'", '"<< B"']),
        ("a\\ b c", ["a\\ b", "c"]),
        ("echo 'open", []),
    ],
)
def test_a_line_is_divided_as_a_shell_does(line, words):
    assert [word for _offset, word in shell_words(line)] == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a=1 b=2", ["a=1", "b=2"]),
        ("a='1 2' b=\"3 4\"", ["a='1 2'", 'b="3 4"']),
        ("a=1\\ 2 b", ["a=1\\ 2", "b"]),
        ("a=1\\", ["a=1"]),
        ("a='1\\", ["a='1\\"]),
        ('a="1 2', ['a="1 2']),
        ("a=\\\\", ["a=\\\\"]),
    ],
)
def test_definitions_keep_their_quotes(line, words):
    places = quoted_words(line, 0, len(line), escape="\\")
    assert [line[start:end] for start, end in places] == words


@given(st.text(alphabet="a$' \"\\{}:-+?#%/*bé", max_size=40))
def test_any_text_expands_or_is_refused_at_a_place_within_it(text):
    try:
        expansion = expand(text, VARIABLES)
    except WordError as error:
        refused_at = error.offset
    else:
        refused_at = 0
        # Dividing loses nothing but spaces.
        assert "".join(expansion.text.split()) == "".join("".join(expansion.words).split())

    assert 0 <= refused_at <= len(text)


@given(st.text(alphabet="ab c'\"$\\"))
def test_single_quotes_keep_everything_but_themselves(text):
    quoted = "'" + text.replace("'", "'\\''") + "'"
    assert expand(quoted, VARIABLES).text == text


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="ab\n", max_size=12))
def test_patterns_match_what_a_search_through_all_ends_finds(pattern, value):
    def matches(text):
        import re

        written = "".join({"*": ".*", "?": "."}.get(each, each) for each in pattern)
        return re.fullmatch(written, text, re.DOTALL) is not None

    starts = [value[end:] for end in range(len(value) + 1) if matches(value[:end])]
    ends = [value[:start] for start in range(len(value), -1, -1) if matches(value[start:])]
    compiled = ShellPattern(pattern)

    assert compiled.without_prefix(value, longest=False) == (starts or [value])[0]
    assert compiled.without_prefix(value, longest=True) == (starts or [value])[-1]
    assert compiled.without_suffix(value, longest=False) == (ends or [value])[0]
    assert compiled.without_suffix(value, longest=True) == (ends or [value])[-1]


def test_a_hostile_pattern_takes_no_time():
    value = "a" * 20_000
    assert expand("${v%" + "*a" * 40 + "b}", {"v": value}).text == value
    assert expand("${v//" + "*a" * 40 + "b/x}", {"v": value}).text == value
