"""Dockerfiles of every kind of nonsense: each is read or refused, with a place within the file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.build.checks import check_dockerfile
from engine.build.expansion import Expander
from engine.build.instructions import (
    AddInstruction,
    CopyInstruction,
    EnvInstruction,
    LabelInstruction,
    OnbuildInstruction,
    RunInstruction,
    WorkdirInstruction,
)
from engine.build.parser import parse_dockerfile, parse_trigger
from engine.build.spans import Source
from engine.errors import DockerfileError
from tests import dockerfile_cases

SEEDS = sorted((Path(__file__).parents[2] / "data/dockerfiles").glob("*.Dockerfile"))
EVERYTHING = [
    *(path.read_bytes() for path in SEEDS),
    *(dockerfile_cases.load(name).dockerfile for name in dockerfile_cases.names()),
]
FRAGMENTS = [line for data in EVERYTHING for line in data.splitlines(keepends=True)]
TOKENS = [
    b"\\", b"`", b"\n", b"\r\n", b" ", b"\t", b"#", b'"', b"'", b"$", b"${", b"}", b"<<", b"<<-",
    b"--", b"=", b"[", b"]", b",", b"/", b"EOF", b"FROM a\n", b"ONBUILD ", b"\0", b"\xff",
]  # fmt: skip


def go_over(data):
    """Do with a file all that a build does before anything runs."""
    lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    try:
        dockerfile = parse_dockerfile(data, name="fuzzed")
        for warning in check_dockerfile(dockerfile):
            assert 1 <= warning.span.start.line <= len(lines)
            assert warning.text
        source = Source(dockerfile.name, list(dockerfile.lines))
        for stage in dockerfile.stages:
            expander = Expander(source, {"a": "1", "v": "aba"}, escape=dockerfile.escape)
            for instruction in stage.instructions:
                expand(expander, instruction)
    except DockerfileError as error:
        refused = error
    else:
        return dockerfile
    assert 1 <= refused.line <= len(lines)
    assert 1 <= refused.column <= len(lines[refused.line - 1]) + 1
    assert lines[refused.line - 1].startswith(refused.text)
    assert refused.reason
    assert refused.expected
    return None


def expand(expander, instruction):
    if isinstance(instruction, CopyInstruction | AddInstruction):
        expander.files(instruction)
    elif isinstance(instruction, EnvInstruction | LabelInstruction):
        expander.pairs(instruction)
    elif isinstance(instruction, WorkdirInstruction):
        expander.word(instruction.path)
    elif isinstance(instruction, RunInstruction):
        for mount in instruction.mounts:
            expander.mount(mount)
    elif isinstance(instruction, OnbuildInstruction):
        # What the configuration will hold says the same again.
        again = parse_trigger(instruction.expression, name="trigger")
        assert again.name == instruction.trigger.name


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_file_of_the_corpus_is_read_or_refused(path):
    go_over(path.read_bytes())


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_each_beginning_of_a_file_is_read_or_refused(path):
    data = path.read_bytes()
    for end in range(0, len(data), max(1, len(data) // 60)):
        go_over(data[:end])


@settings(deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_lines_in_any_order_are_read_or_refused(lines):
    go_over(b"".join(lines))


@settings(deadline=None)
@given(
    st.sampled_from(EVERYTHING),
    st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 12),
            st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)),
        ),
        max_size=6,
    ),
)
def test_what_was_changed_anywhere_is_read_or_refused(data, changes):
    for place, removed, added in changes:
        start = int(place * len(data))
        data = data[:start] + added + data[start + removed :]
    go_over(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    go_over(b"FROM a\nRUN " + data)
    go_over(data)


def test_words_stand_where_they_say():
    for name in dockerfile_cases.names():
        dockerfile = go_over(dockerfile_cases.load(name).dockerfile)
        for stage in dockerfile.stages if dockerfile else ():
            for instruction in (stage.base, *stage.instructions):
                keyword = instruction.origin.keyword
                assert written(dockerfile, keyword) == keyword.text
                if isinstance(instruction, CopyInstruction):
                    for source in instruction.sources:
                        shown = written(dockerfile, source)
                        assert source.text in (shown, shown.strip('"').replace("\\u0064", "d"))


def written(dockerfile, word):
    line = dockerfile.lines[word.span.start.line - 1]
    return line[word.span.start.column - 1 : word.span.end.column - 1]
