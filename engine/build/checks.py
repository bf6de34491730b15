"""Docker's build checks: what a Dockerfile may say and better would not.

Names and texts are BuildKit's (frontend/dockerfile/linter/ruleset.go). What they mean is at
https://docs.docker.com/reference/build-checks/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.build.created_by import go_quoted
from engine.build.instructions import (
    AddInstruction,
    ArgInstruction,
    CmdInstruction,
    CopyInstruction,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    MaintainerInstruction,
    OnbuildInstruction,
    ShellInstruction,
    WorkdirInstruction,
)
from engine.build.spans import Position, Span
from engine.build.variable_checks import from_warnings, variable_warnings
from engine.build.warnings import CheckOptions, CheckWarning, parse_check_options
from engine.oci.platforms import host_platform, platform_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from engine.build.instructions import Dockerfile, Instruction, Stage
    from engine.oci.documents import Platform

_LONGEST_SHOWN_NAME = 300
_DOCKER_FRONTEND = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?([:@]|$)")
_RESERVED_STAGE_NAMES = ("context", "scratch")
_SECRET_NAME = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_PUBLIC_NAME = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)
_CONSTANT = re.compile(r"[^$]*")
_DESCRIPTION = (
    "Comment for build stage or argument should follow the format: `# <arg/stage name> "
    "<description>`. If this is not intended to be a description comment, add an empty line or "
    "comment between the instruction and the comment."
)


def check_dockerfile(
    dockerfile: Dockerfile,
    *,
    options: CheckOptions | None = None,
    build_arguments: Mapping[str, str] | None = None,
    platform_arguments: Mapping[str, str] | None = None,
    base_environment: Callable[[Stage], Mapping[str, str] | None] | None = None,
    base_platform: Callable[[Stage], Platform | None] | None = None,
    is_ignored: Callable[[str], bool] | None = None,
) -> tuple[CheckWarning, ...]:
    """Say what is worth a warning, in the order of the file.

    Args:
        dockerfile: The file.
        options: Instead of what its `# check=` says.
        build_arguments: Of this build.
        platform_arguments: The predefined ones, TARGETPLATFORM and its like.
        base_environment: The variables that the image has on which a stage stands; None where that
            is not known, and then nothing is said of undefined variables there.
        base_platform: What the image runs on on which a stage stands; None where that is another
            stage, or not known.
        is_ignored: Whether .dockerignore leaves a path of the context out.

    Raises:
        DockerfileError: `# check=` cannot be read.
    """
    wanted = parse_check_options(dockerfile) if options is None else options
    found = [
        *_frontend_warnings(dockerfile),
        *_blank_line_warnings(dockerfile),
        *_casing_warnings(dockerfile),
        *_stage_name_warnings(dockerfile),
        *from_warnings(
            dockerfile, build_arguments=build_arguments, platform_arguments=platform_arguments
        ),
        *_definition_warnings(dockerfile),
        *_stage_warnings(dockerfile),
        *variable_warnings(
            dockerfile, build_arguments=build_arguments, base_environment=base_environment
        ),
    ]
    if base_platform is not None:
        found += _base_platform_warnings(dockerfile, base_platform)
    if is_ignored is not None:
        found += _ignored_file_warnings(dockerfile, is_ignored)
    kept = {warning: None for warning in found if wanted.has(warning.rule)}
    return tuple(sorted(kept, key=_place))


def _place(warning: CheckWarning) -> tuple[int, int]:
    return warning.span.start.line, warning.span.start.column


def _instructions(dockerfile: Dockerfile) -> Iterator[Instruction]:
    yield from dockerfile.arguments
    for stage in dockerfile.stages:
        yield stage.base
        yield from stage.instructions


def _frontend_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    """Of `# syntax=` when it names another frontend than Docker's own; no rule of Docker's."""
    for directive in dockerfile.directives:
        word = directive.value
        if directive.name == "syntax" and not _DOCKER_FRONTEND.match(word.text):
            yield CheckWarning(
                rule="",
                text=f"# syntax={word.text[:_LONGEST_SHOWN_NAME]} is not used: a Dockerfile is "
                "always read as Docker's own frontend reads it",
                span=word.span,
            )


def _blank_line_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    for instruction in _instructions(dockerfile):
        for line in instruction.origin.blank_lines[:1]:
            yield CheckWarning(
                rule="NoEmptyContinuation",
                text="Empty continuation line",
                span=Span(Position(line, 1), Position(line, 1)),
            )


def _casing_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    keywords = [instruction.origin.keyword for instruction in _instructions(dockerfile)]
    small = sum(keyword.text.islower() for keyword in keywords)
    large = sum(keyword.text.isupper() for keyword in keywords)
    is_small = small > large
    for keyword in keywords:
        if not (keyword.text.islower() if is_small else keyword.text.isupper()):
            yield CheckWarning(
                rule="ConsistentInstructionCasing",
                text=f"Command '{keyword.text}' should match the case of the command majority "
                f"({'lowercase' if is_small else 'uppercase'})",
                span=keyword.span,
            )


def _stage_name_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    seen: set[str] = set()
    for stage in dockerfile.stages:
        word, as_keyword = stage.base.stage, stage.base.as_keyword
        if word is None or as_keyword is None:
            continue
        keyword = stage.base.origin.keyword.text
        if as_keyword.text != (
            as_keyword.text.lower() if keyword.islower() else as_keyword.text.upper()
        ):
            yield CheckWarning(
                rule="FromAsCasing",
                text=f"'{as_keyword.text}' and '{keyword}' keywords' casing do not match",
                span=as_keyword.span,
            )
        if word.text != stage.name:
            yield CheckWarning(
                rule="StageNameCasing",
                text=f"Stage name '{word.text}' should be lowercase",
                span=word.span,
            )
        if stage.name in _RESERVED_STAGE_NAMES:
            yield CheckWarning(
                rule="ReservedStageName",
                text="Stage name should not use the same name as reserved stage "
                f"{go_quoted(stage.name)}",
                span=word.span,
            )
        if stage.name in seen:
            yield CheckWarning(
                rule="DuplicateStageName",
                text=f"Duplicate stage name {go_quoted(stage.name)}, stage names should be unique",
                span=word.span,
            )
        seen.add(stage.name)


def _definition_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    """What is wrong with the names that ARG, ENV and LABEL define, and with their descriptions."""
    for instruction in _instructions(dockerfile):
        if isinstance(instruction, EnvInstruction | LabelInstruction) and instruction.is_legacy:
            name = instruction.name
            yield CheckWarning(
                rule="LegacyKeyValueFormat",
                text=f'"{name} key=value" should be used instead of legacy "{name} key value" '
                "format",
                span=instruction.span,
            )
        if isinstance(instruction, ArgInstruction | EnvInstruction):
            for definition in instruction.definitions:
                secret = definition.name.text
                if _SECRET_NAME.search(secret) and not _PUBLIC_NAME.search(secret):
                    yield CheckWarning(
                        rule="SecretsUsedInArgOrEnv",
                        text="Do not use ARG or ENV instructions for sensitive data "
                        f"({instruction.name} {go_quoted(secret)})",
                        span=definition.name.span,
                    )
        if isinstance(instruction, ArgInstruction):
            names = [definition.name.text for definition in instruction.definitions]
            yield from _description_warnings(instruction, names)
    for stage in dockerfile.stages:
        if stage.base.stage is not None:
            yield from _description_warnings(stage.base, [stage.base.stage.text])


def _description_warnings(instruction: Instruction, names: list[str]) -> Iterator[CheckWarning]:
    comments = instruction.origin.comments
    described = (comment.startswith(f"{name} ") for comment in comments for name in names)
    if comments and not any(described):
        yield CheckWarning(
            rule="InvalidDefinitionDescription", text=_DESCRIPTION, span=instruction.span
        )


def _stage_warnings(dockerfile: Dockerfile) -> Iterator[CheckWarning]:
    """What depends on the instructions before, also on those of the stage below."""
    has_shell: dict[int, bool] = {}
    has_directory: dict[int, bool] = {}
    numbers: dict[str, int] = {}
    for stage in dockerfile.stages:
        below = numbers.get(stage.base.image.text.lower())
        shell = below is not None and has_shell[below]
        directory = below is not None and has_directory[below]
        last: dict[str, Instruction] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, ShellInstruction):
                shell = True
            elif isinstance(instruction, WorkdirInstruction):
                path = instruction.path.text
                if not directory and re.match(r"[\"']?[^/$\"']", path):
                    yield CheckWarning(
                        rule="WorkdirRelativePath",
                        text=f"Relative workdir {go_quoted(path)} can have unexpected results if "
                        "the base image changes",
                        span=instruction.path.span,
                    )
                directory = directory or not re.match(r"[\"']?[^/$\"']", path)
            elif isinstance(instruction, CmdInstruction | EntrypointInstruction):
                if not instruction.command.is_exec and not shell:
                    yield CheckWarning(
                        rule="JSONArgsRecommended",
                        text=f"JSON arguments recommended for {instruction.name} to prevent "
                        "unintended behavior related to OS signals",
                        span=instruction.span,
                    )
                yield from _repeated_warnings(instruction, last)
            elif isinstance(instruction, HealthcheckInstruction):
                yield from _repeated_warnings(instruction, last)
            else:
                yield from _single_warnings(instruction)
        has_shell[stage.index] = shell
        has_directory[stage.index] = directory
        if stage.name:
            numbers[stage.name] = stage.index


def _repeated_warnings(
    instruction: Instruction, last: dict[str, Instruction]
) -> Iterator[CheckWarning]:
    name = instruction.name
    if (earlier := last.get(name)) is not None:
        yield CheckWarning(
            rule="MultipleInstructionsDisallowed",
            text=f"Multiple {name} instructions should not be used in the same stage because only "
            "the last one will be used",
            span=earlier.span,
        )
    last[name] = instruction


def _single_warnings(instruction: Instruction) -> Iterator[CheckWarning]:
    """What an instruction says, whatever stands around it."""
    if isinstance(instruction, MaintainerInstruction):
        yield CheckWarning(
            rule="MaintainerDeprecated",
            text="Maintainer instruction is deprecated in favor of using label",
            span=instruction.span,
        )
    elif isinstance(instruction, ExposeInstruction):
        for port in instruction.ports:
            if not _CONSTANT.fullmatch(port.text):
                continue
            number, _slash, protocol = port.text.partition("/")
            if protocol != protocol.lower():
                yield CheckWarning(
                    rule="ExposeProtoCasing",
                    text=f"Defined protocol '{port.text}' in EXPOSE instruction should be "
                    "lowercase",
                    span=port.span,
                )
            if ":" in number:
                yield CheckWarning(
                    rule="ExposeInvalidFormat",
                    text="EXPOSE instruction should not define an IP address or host-port mapping, "
                    f"found '{port.text}'",
                    span=port.span,
                )
    elif isinstance(instruction, OnbuildInstruction):
        yield from _single_warnings(instruction.trigger)


def _base_platform_warnings(
    dockerfile: Dockerfile, base_platform: Callable[[Stage], Platform | None]
) -> Iterator[CheckWarning]:
    host = host_platform()
    for stage in dockerfile.stages:
        platform = base_platform(stage)
        if platform is not None and platform_rank(platform, host) is None:
            image = stage.base.image
            yield CheckWarning(
                rule="InvalidBaseImagePlatform",
                text=f"Base image {image.text} was pulled with platform "
                f"{go_quoted(str(platform))}, expected {go_quoted(str(host))} for current build",
                span=image.span,
            )


def _ignored_file_warnings(
    dockerfile: Dockerfile, is_ignored: Callable[[str], bool]
) -> Iterator[CheckWarning]:
    for instruction in _instructions(dockerfile):
        if isinstance(instruction, CopyInstruction):
            if instruction.source_stage is not None:
                continue
        elif not isinstance(instruction, AddInstruction):
            continue
        for source in instruction.sources:
            path = source.text.lstrip("/")
            # A pattern may match files that are left out and others; only names are held against.
            if not _CONSTANT.fullmatch(path) or "://" in path or not path.strip("./"):
                continue
            if is_ignored(path):
                yield CheckWarning(
                    rule="CopyIgnoredFile",
                    text=f"Attempting to {instruction.name.capitalize()} file "
                    f"{go_quoted(source.text)} that is excluded by .dockerignore",
                    span=source.span,
                )
