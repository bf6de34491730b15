"""From text to instructions."""

import pytest

from engine.build.instructions import (
    AddInstruction,
    CmdInstruction,
    CopyInstruction,
    EnvInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    OnbuildInstruction,
    RunInstruction,
)
from engine.build.parser import parse_dockerfile, parse_trigger
from engine.errors import DockerfileError


def parse(text):
    data = text if isinstance(text, bytes) else text.encode()
    return parse_dockerfile(data, name="Dockerfile")


def inside(text):
    """The instructions of a stage that holds this."""
    return parse(f"FROM scratch\n{text}").stages[0].instructions


def only(text):
    (instruction,) = inside(text)
    return instruction


def texts(words):
    return [word.text for word in words]


def pairs(instruction):
    return [
        (each.name.text, each.value.text if each.value else None)
        for each in instruction.definitions
    ]


def test_stages_have_bases_names_and_instructions():
    dockerfile = parse("ARG v=1\nFROM --platform=linux/arm64 a:$v AS Build\nRUN x\nFROM build\n")

    (argument,) = dockerfile.arguments
    assert pairs(argument) == [("v", "1")]
    first, second = dockerfile.stages
    assert (first.name, first.base.image.text, first.base.platform.text) == (
        "build", "a:$v", "linux/arm64",
    )  # fmt: skip
    assert len(first.instructions) == 1
    assert (second.index, second.name, second.base.image.text) == (1, "", "build")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing():
    clean = "# escape=`\nFROM a\nRUN b `\n  c\n"
    dressed = b"\xef\xbb\xbf" + clean.replace("\n", "\r\n").encode()

    assert parse(dressed) == parse(clean)


@pytest.mark.parametrize(
    ("top", "escape"),
    [
        ("# escape=`\n", "`"),
        ("#escape = `  \n", "`"),
        ("# syntax=docker/dockerfile:1\n# ESCAPE=`\n", "`"),
        ("# foo=bar\n# escape=`\n", "\\"),
        ("# comment\n# escape=`\n", "\\"),
        ("\n# escape=`\n", "\\"),
    ],
)
def test_directives_stand_before_everything_else(top, escape):
    assert parse(top + "FROM a").escape == escape


def test_what_a_check_directive_says_is_kept():
    dockerfile = parse("# check=skip=JSONArgsRecommended;error=true\nFROM a")
    assert dockerfile.directive("check") == "skip=JSONArgsRecommended;error=true"
    assert dockerfile.directive("syntax") == ""


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\ \t\nb", "ab"),
        ("RUN a \\\n# comment\n  # and one\nb", "a b"),
        ("RUN a \\\n\n\nb", "a b"),
        ("RUN a # b \\\n c", "a # b  c"),
        ("RUN foo\\\\\n", "foo\\\\"),
        ("RUN a \\", "a"),
        ("  \trUn   a  ", "a"),
        ("\\\nRUN a", "a"),
    ],
)
def test_lines_continue_each_other(text, command):
    assert only(text).command.arguments == (command,)


def test_blank_lines_within_an_instruction_are_remembered():
    assert only("ENV a=1 \\\n\n # c\n b=2").origin.blank_lines == (3,)


@pytest.mark.parametrize(
    ("text", "is_exec", "words"),
    [
        ('CMD ["a", "b c"]', True, ("a", "b c")),
        ('CMD ["\\u0000\\u00e9"]', True, ("\0é",)),
        ("CMD ['a','b']", False, ("['a','b']",)),
        ('CMD ["a"] # c', False, ('["a"] # c',)),
        ('CMD ["a",]', False, ('["a",]',)),
        ("CMD [NaN]", False, ("[NaN]",)),
        ("CMD " + "[" * 50_000, False, ("[" * 50_000,)),
        ("CMD []", True, ()),
        ("CMD", False, ()),
        ("CMD  a  'b'  ", False, ("a  'b'",)),
    ],
)
def test_exec_form_is_json_and_everything_else_a_shell(text, is_exec, words):
    command = only(text).command
    assert (command.is_exec, command.arguments) == (is_exec, words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ENV a=1 b='2 3' c=\"d\\\n e\"", [("a", "1"), ("b", "'2 3'"), ("c", '"d e"')]),
        ("ENV a  b=c  d ", [("a", "b=c  d")]),
        ("ENV a=", [("a", "")]),
        ("ENV a=b=c", [("a", "b=c")]),
        ("LABEL h i j", [("h", "i j")]),
        ("LABEL \"a b\"='$HOME'", [('"a b"', "'$HOME'")]),
        ('ARG a b=1 c="x y"', [("a", None), ("b", "1"), ("c", '"x y"')]),
    ],
)
def test_definitions(text, expected):
    assert pairs(only(text)) == expected


def test_the_old_form_of_env_and_label_is_told():
    env, label = inside("ENV a b\nLABEL a=b")
    assert isinstance(env, EnvInstruction)
    assert isinstance(label, LabelInstruction)
    assert (env.is_legacy, label.is_legacy) == (True, False)


def test_copy_has_flags_sources_and_a_destination():
    copy = only("COPY --from=0 --chown=1:2 --chmod=u=rwX --link --exclude=*.a --exclude=b x y /d/")

    assert isinstance(copy, CopyInstruction)
    assert texts(copy.sources) == ["x", "y"]
    assert copy.destination.text == "/d/"
    assert copy.source_stage.text == "0"
    assert (copy.owner.text, copy.mode.text) == ("1:2", "u=rwX")
    assert (copy.is_link, copy.keeps_parents) == (True, False)
    assert texts(copy.excludes) == ["*.a", "b"]


def test_add_has_flags_of_its_own():
    add = only('ADD --unpack=false --checksum=sha256:00 --keep-git-dir ["a b", "c"]')

    assert isinstance(add, AddInstruction)
    assert texts(add.sources) == ["a b"]
    assert (add.unpacks, add.keeps_git_directory) == (False, True)
    assert add.checksum.text == "sha256:00"


def test_two_dashes_end_the_flags():
    copy = only("COPY --link -- --weird /x")
    assert texts(copy.sources) == ["--weird"]
    assert copy.is_link


def test_quotes_in_a_flag_are_removed():
    run = only('RUN --mount="type=cache,target=/a b" --network=none x')

    assert isinstance(run, RunInstruction)
    (mount,) = run.mounts
    assert [(field.key, field.value) for field in mount.fields] == [
        ("type", "cache"),
        ("target", "/a b"),
    ]
    assert (run.network, run.security) == ("none", "sandbox")
    assert run.command.arguments == ("x",)


def test_heredocs_of_a_copy_become_files():
    copy = only("COPY <<EOF a <<'E2' <<-\"E3\" /d/\n$x\n# data\nEOF\n  two\nE2\n\tthree\n\tE3\n")

    assert [(each.name, each.body, each.expands) for each in copy.heredocs] == [
        ("EOF", "$x\n# data\n", True),
        ("E2", "  two\n", False),
        ("E3", "three\n", False),
    ]
    assert texts(copy.sources) == ["a"]
    assert texts(copy.written_sources) == ["<<EOF", "a", "<<'E2'", '<<-"E3"']


def test_heredocs_of_a_run_follow_its_text():
    run, after = inside("RUN cat <<EOF > /b\n  x \\\n\n#y\nEOF\nCMD z")

    assert run.command.arguments == ("cat <<EOF > /b",)
    (heredoc,) = run.command.heredocs
    assert heredoc.body == "  x \\\n\n#y\n"
    assert (run.span.start.line, run.span.end.line) == (2, 6)
    assert isinstance(after, CmdInstruction)
    assert after.span.start.line == 7


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo '<<EOF'",
        "RUN echo $((1<<2))",
        "RUN cat <<<word",
        'RUN ["cat", "<<EOF"]',
        "CMD cat <<EOF",
        "RUN echo << EOF",
        'RUN echo "open <<EOF',
    ],
)
def test_what_only_looks_like_a_heredoc_begins_none(text):
    assert only(text).command.heredocs == ()


def test_a_heredoc_can_follow_onbuild():
    onbuild = only("onbuild  RUN <<-EOF\n\ta\nEOF\n")

    assert isinstance(onbuild, OnbuildInstruction)
    assert onbuild.expression == "RUN <<-EOF\n\ta\nEOF"
    again = parse_trigger(onbuild.expression, name="image a")
    assert isinstance(again, RunInstruction)
    assert again.command.heredocs[0].body == "a\n"


def test_health_checks_have_times_in_nanoseconds():
    check = only("HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3  cmd  true  x")

    assert isinstance(check, HealthcheckInstruction)
    assert check.command.arguments == ("true  x",)
    assert check.interval_nanoseconds == 90 * 10**9
    assert (check.timeout_nanoseconds, check.start_period_nanoseconds) == (1_500_000_000, 0)
    assert check.retries == 3
    assert only("HEALTHCHECK NONE").command is None
    assert only('HEALTHCHECK CMD ["a", "b"]').command.is_exec


def test_every_token_knows_where_it_stands():
    copy = only("  COPY --chown=a \\\n   # comment\n   é.txt \\\n  /d")

    assert (copy.origin.keyword.span.start.line, copy.origin.keyword.span.start.column) == (2, 3)
    flag = copy.origin.flags[0].span
    assert (flag.start.column, flag.end.column) == (8, 17)
    source = copy.sources[0].span
    assert (source.start.line, source.start.column, source.end.column) == (4, 4, 9)
    assert (copy.destination.span.start.line, copy.destination.span.start.column) == (5, 3)


def test_bytes_that_are_no_text_are_kept():
    dockerfile = parse(b"FROM a\nRUN echo \xff\xfe\n")
    (command,) = dockerfile.stages[0].instructions[0].command.arguments
    assert command.encode("utf-8", "surrogateescape") == b"echo \xff\xfe"


def test_comments_above_an_instruction_belong_to_it():
    dockerfile = parse("# one\n#\n# app builds\nFROM a AS app\n# x y\nARG x\n# z\n\nARG z")
    assert dockerfile.stages[0].base.origin.comments == ("app builds",)
    described, apart = dockerfile.stages[0].instructions
    assert described.origin.comments == ("x y",)
    assert apart.origin.comments == ()


REFUSED = {
    "": (1, 1, "file with no instructions"),
    "# only a comment\n": (1, 1, "file with no instructions"),
    "ARG a=1\n": (1, 1, "no stages"),
    "RUN a": (1, 1, "no build stage"),
    "FORM a": (1, 1, "unknown instruction: FORM (did you mean FROM?)"),
    "FROM a\nRUN x\n  COPPY a b": (3, 3, "unknown instruction: COPPY"),
    "FROM": (1, 5, "one or three"),
    "FROM a b": (1, 6, "one or three"),
    "FROM a is b": (1, 8, "one or three"),
    "FROM a AS 1b": (1, 11, "invalid name for build stage"),
    "# escape=x\nFROM a": (1, 10, "invalid escape token"),
    "# escape=`\n# escape=`\nFROM a": (2, 1, "only one escape"),
    "FROM a\nENV a": (2, 5, "must have two arguments"),
    "FROM a\nENV": (2, 4, "at least one argument"),
    "FROM a\nENV a=1 b": (2, 9, "can't find ="),
    "FROM a\nENV =1": (2, 5, "can not be blank"),
    "FROM a\nARG": (2, 4, "at least one argument"),
    "FROM a\nCOPY a": (2, 6, "Destination could not be determined"),
    "FROM a\nCOPY --chown a /b": (2, 6, "missing a value on flag: --chown"),
    "FROM a\nCOPY --link= a /b": (2, 6, "boolean"),
    "FROM a\nCOPY --LINK a /b": (2, 6, "unknown flag: --LINK"),
    "FROM a\nCOPY --link --link a /b": (2, 13, "duplicate flag"),
    "FROM a\nCOPY --from=$x a /b": (2, 6, "variable expansion"),
    "FROM a\nCOPY a <<EOF\nEOF": (2, 8, "heredoc as a destination"),
    "FROM a\nRUN cat <<EOF\nx": (2, 9, "unterminated heredoc"),
    "FROM a\nRUN ['a', 1]\nRUN [1]": (3, 5, "strings only"),
    "FROM a\nRUN --mount=type=nfs,target=/a x": (2, 5, "unsupported mount type"),
    "FROM a\nRUN --mount=tpye=bind x": (2, 5, "did you mean type?"),
    "FROM a\nRUN --mount=target=/ x": (2, 5, "invalid mount target"),
    "FROM a\nRUN --mount=from=$a,target=/b x": (2, 5, "variable expansion"),
    "FROM a\nRUN --network=lan x": (2, 5, "unsupported network mode"),
    "FROM a\nSHELL a": (2, 7, "JSON form"),
    "FROM a\nSHELL []": (2, 7, "at least one argument"),
    "FROM a\nWORKDIR": (2, 8, "exactly one argument"),
    'FROM a\nVOLUME ["a", " "]': (2, 14, "empty string"),
    "FROM a\nEXPOSE": (2, 7, "at least one argument"),
    "FROM a\nHEALTHCHECK true": (2, 13, "Unknown type"),
    "FROM a\nHEALTHCHECK CMD": (2, 13, "Missing command"),
    "FROM a\nHEALTHCHECK NONE x": (2, 18, "takes no arguments"),
    "FROM a\nHEALTHCHECK --interval=5 CMD a": (2, 13, "invalid duration"),
    "FROM a\nHEALTHCHECK --timeout=5us CMD a": (2, 13, "less than 1ms"),
    "FROM a\nHEALTHCHECK --retries=-1 CMD a": (2, 13, "cannot be negative"),
    "FROM a\nONBUILD": (2, 8, "at least one argument"),
    "FROM a\nONBUILD FROM b": (2, 9, "isn't allowed"),
    "FROM a\nONBUILD ONBUILD RUN b": (2, 9, "Chaining"),
    "FROM a\nONBUILD RUM b": (2, 9, "unknown instruction"),
    "FROM a\nRUN " + "x" * 70_000: (2, 1, "greater than max allowed size"),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_is_refused_says_where_and_why_and_what_was_expected(text):
    line, column, reason = REFUSED[text]

    with pytest.raises(DockerfileError) as caught:
        parse(text)

    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert reason in error.reason
    assert error.message.startswith(f"Dockerfile:{line}:{column}: ")
    assert error.text == (text.split("\n")[line - 1] if text else "")
    assert error.expected
    assert error.hint.startswith(f"Expected {error.expected}")
    assert len(error.hint) < 500


@pytest.mark.parametrize(
    "expression", ["", "FROM a", "MAINTAINER a", "ONBUILD RUN a", "RUN a\nRUN b", "WHAT a"]
)
def test_an_image_cannot_trigger_everything(expression):
    with pytest.raises(DockerfileError, match=r"^trigger 1 of a:"):
        parse_trigger(expression, name="trigger 1 of a")


def test_a_thousand_stages_are_read():
    text = "".join(
        f"FROM s{n} AS s{n + 1}\nRUN true\nCOPY --from=s{n} /a /b\n" for n in range(1000)
    )
    assert len(parse(text).stages) == 1000


def test_a_megabyte_of_lines_that_continue_each_other_is_read():
    line = "x=" + "y" * 1000
    text = "ENV " + " \\\n".join(f"a{n}{line}" for n in range(1000))
    assert len(only(text).definitions) == 1000
    assert len(only(text.replace("ENV", "RUN")).command.arguments[0]) > 1_000_000
