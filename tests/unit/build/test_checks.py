"""Docker's build checks."""

import pytest

from engine.build.checks import check_dockerfile
from engine.build.parser import parse_dockerfile
from engine.build.warnings import CheckOptions
from engine.errors import DockerfileError
from engine.oci.documents import Platform
from engine.oci.platforms import host_platform


def warnings(text, **named):
    dockerfile = parse_dockerfile(text.encode(), name="Dockerfile")
    return check_dockerfile(dockerfile, **named)


def found(text, **named):
    return [(each.rule, each.span.start.line, each.text) for each in warnings(text, **named)]


CHECKS = {
    "FROM a\n\nENV a=1 \\\n\n b=2": ("NoEmptyContinuation", 4, "Empty continuation line"),
    'FROM a\nCmd ["x"]': (
        "ConsistentInstructionCasing",
        2,
        "Command 'Cmd' should match the case of the command majority (uppercase)",
    ),
    "from a\nuser 1\nWORKDIR /": (
        "ConsistentInstructionCasing",
        3,
        "Command 'WORKDIR' should match the case of the command majority (lowercase)",
    ),
    "FROM a as b": ("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match"),
    "from a AS b": ("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match"),
    "FROM a AS B": ("StageNameCasing", 1, "Stage name 'B' should be lowercase"),
    "FROM a AS scratch": (
        "ReservedStageName",
        1,
        'Stage name should not use the same name as reserved stage "scratch"',
    ),
    "FROM a AS b\nFROM a AS b": (
        "DuplicateStageName",
        2,
        'Duplicate stage name "b", stage names should be unique',
    ),
    "FROM a\nCMD x": (
        "JSONArgsRecommended",
        2,
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    "FROM a\nENTRYPOINT x": (
        "JSONArgsRecommended",
        2,
        "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS "
        "signals",
    ),
    "FROM a\nLABEL x y": (
        "LegacyKeyValueFormat",
        2,
        '"LABEL key=value" should be used instead of legacy "LABEL key value" format',
    ),
    "FROM a\nMAINTAINER x": (
        "MaintainerDeprecated",
        2,
        "Maintainer instruction is deprecated in favor of using label",
    ),
    'FROM a\nCMD ["x"]\nUSER 1\nCMD ["y"]': (
        "MultipleInstructionsDisallowed",
        2,
        "Multiple CMD instructions should not be used in the same stage because only the last one "
        "will be used",
    ),
    "FROM --platform=${TARGETPLATFORM} a": (
        "RedundantTargetPlatform",
        1,
        "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the "
        "default behavior",
    ),
    "FROM --platform=linux/arm64 a AS b": (
        "FromPlatformFlagConstDisallowed",
        1,
        'FROM --platform flag should not use constant value "linux/arm64"',
    ),
    "FROM a\nARG github_TOKEN": (
        "SecretsUsedInArgOrEnv",
        2,
        'Do not use ARG or ENV instructions for sensitive data (ARG "github_TOKEN")',
    ),
    "ARG tag=1\nFROM a:$tga": (
        "UndefinedArgInFrom",
        2,
        "FROM argument 'tga' is not declared (did you mean tag?)",
    ),
    "ARG tag\nFROM a:$tag": (
        "InvalidDefaultArgInFrom",
        2,
        "Default value for ARG a:$tag results in empty or invalid base image name",
    ),
    "FROM scratch\nENV PATH=$PAHT:/x": (
        "UndefinedVar",
        2,
        "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
    ),
    "FROM a\nWORKDIR x": (
        "WorkdirRelativePath",
        2,
        'Relative workdir "x" can have unexpected results if the base image changes',
    ),
    "FROM a\nEXPOSE 80/TcP": (
        "ExposeProtoCasing",
        2,
        "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
    ),
    "FROM a\nEXPOSE 127.0.0.1:80:80": (
        "ExposeInvalidFormat",
        2,
        "EXPOSE instruction should not define an IP address or host-port mapping, found "
        "'127.0.0.1:80:80'",
    ),
}


@pytest.mark.parametrize("text", CHECKS, ids=lambda text: f"{CHECKS[text][0]}: {text!r}")
def test_a_check_finds_what_it_is_for_and_nothing_else_is_found(text):
    rule, line, message = CHECKS[text]
    expected = [(rule, line, message)]
    if rule == "InvalidDefaultArgInFrom":
        # An argument without a value is one that is not there, to FROM.
        expected.append(("UndefinedArgInFrom", 2, "FROM argument 'tag' is not declared"))
    elif rule == "UndefinedArgInFrom":
        empty = "Default value for ARG a:$tga results in empty or invalid base image name"
        expected.append(("InvalidDefaultArgInFrom", 2, empty))

    assert sorted(found(text)) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS b\nRUN x\n\n# nothing\nRUN y",
        "from a as b\nrun x",
        'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x\nENTRYPOINT y',
        'FROM a AS b\nSHELL ["/bin/bash", "-c"]\nFROM b\nCMD x',
        "FROM --platform=$BUILDPLATFORM a",
        "FROM --platform=linux/arm64 a AS build_arm64",
        "FROM a\nARG PUBLIC_KEY\nENV keyboard=1",
        "ARG v=1\nFROM a:$v\nFROM b:$TARGETARCH",
        "FROM a\nWORKDIR /x\nWORKDIR y",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        "FROM a\nWORKDIR $x",
        "FROM a\nENV a=$never_known",
        "FROM scratch\nARG a\nENV b=$a c=${d:-$PATH}",
        "FROM scratch AS b\nENV x=1\nFROM b\nENV y=$x",
        "FROM a\nEXPOSE 80/tcp $x",
        'FROM a\nCMD ["x"]\nFROM b\nCMD ["y"]',
        'FROM a\nHEALTHCHECK CMD x\nCMD ["y"]',
        "# a comment\nFROM a AS b",
    ],
)
def test_what_is_as_it_should_be_is_not_warned_of(text):
    assert found(text) == []


def test_variables_of_a_base_image_are_known_when_it_is():
    text = "FROM a\nENV b=$LANG c=$LNG"
    assert found(text, base_environment=lambda stage: {"LANG": "C"}) == [
        ("UndefinedVar", 2, "Usage of undefined variable '$LNG' (did you mean $LANG?)")
    ]


def test_build_arguments_take_the_place_of_defaults():
    text = "ARG tag\nFROM a:$tag"
    assert [rule for rule, _line, _text in found(text, build_arguments={"tag": "1"})] == [
        "InvalidDefaultArgInFrom"
    ]


def test_files_that_are_ignored_are_not_to_be_copied():
    text = "FROM a\nCOPY tmp/x y /\nCOPY --from=a tmp /\nADD https://tmp/ tmp/$z tmp/z /"
    assert found(text, is_ignored=lambda path: path.startswith("tmp/")) == [
        (
            "CopyIgnoredFile",
            2,
            'Attempting to Copy file "tmp/x" that is excluded by .dockerignore',
        ),
        (
            "CopyIgnoredFile",
            4,
            'Attempting to Add file "tmp/z" that is excluded by .dockerignore',
        ),
    ]


@pytest.mark.parametrize(
    ("directive", "rules"),
    [
        ("skip=all", []),
        ("skip=JSONArgsRecommended", ["StageNameCasing"]),
        ("skip=JSONArgsRecommended,StageNameCasing;error=true", []),
        ("skip=jsonargsrecommended", ["StageNameCasing", "JSONArgsRecommended"]),
        (
            "experimental=InvalidDefinitionDescription",
            ["InvalidDefinitionDescription", "StageNameCasing", "JSONArgsRecommended"],
        ),
    ],
)
def test_the_check_directive_says_what_is_wanted(directive, rules):
    text = f"# check={directive}\n\n# comment\nFROM a AS B\nCMD x"
    assert [each.rule for each in warnings(text)] == rules


@pytest.mark.parametrize("directive", ["skip", "error=maybe", "sikp=all"])
def test_a_check_directive_that_means_nothing_is_refused(directive):
    with pytest.raises(DockerfileError) as caught:
        warnings(f"# check={directive}\nFROM a")

    assert (caught.value.line, caught.value.column) == (1, 9)


def test_options_of_the_caller_replace_those_of_the_file():
    assert warnings("# check=skip=all\nFROM a AS B", options=CheckOptions())


def test_a_thousand_stages_are_checked():
    text = "".join(f"FROM s{n} AS s{n + 1}\nENV a{n}=$a{n - 1}\nRUN x\n" for n in range(1000))
    named = {"base_environment": lambda stage: {"a-1": ""}}
    assert [rule for rule, _line, _text in found(text, **named)] == ["UndefinedVar"]


def test_an_image_of_another_platform_is_pointed_out():
    host, other = host_platform(), Platform(os="linux", architecture="s390x")

    text = "FROM a AS one\nFROM --platform=$BUILDPLATFORM b\nFROM one\n"
    platforms = {0: host, 1: other, 2: None}
    assert found(text, base_platform=lambda stage: platforms[stage.index]) == [
        (
            "InvalidBaseImagePlatform",
            2,
            f'Base image b was pulled with platform "linux/s390x", expected "{host}" for current '
            "build",
        )
    ]
