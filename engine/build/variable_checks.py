"""Checks of variables: which are used and have never been given a value."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from engine.build.created_by import go_quoted
from engine.build.expansion import Expander
from engine.build.instructions import (
    AddInstruction,
    ArgInstruction,
    CopyInstruction,
    EnvInstruction,
    ExposeInstruction,
    LabelInstruction,
    RunInstruction,
    StopSignalInstruction,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from engine.build.spans import Source
from engine.build.warnings import CheckWarning
from engine.build.words import WordError, expand
from engine.errors import DockerfileError, InvalidReferenceError
from engine.oci.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from engine.build.instructions import BuildInstruction, Dockerfile, Stage
    from engine.build.spans import Word

_PREDEFINED = {
    "BUILDARCH": "amd64", "BUILDOS": "linux", "BUILDOSVERSION": "", "BUILDPLATFORM": "linux/amd64",
    "BUILDVARIANT": "", "TARGETARCH": "amd64", "TARGETOS": "linux", "TARGETOSVERSION": "",
    "TARGETPLATFORM": "linux/amd64", "TARGETSTAGE": "default", "TARGETVARIANT": "",
}  # fmt: skip
"""Arguments that FROM has without an ARG, as some build would have them."""

_TARGET_PLATFORM = ("$TARGETPLATFORM", "${TARGETPLATFORM}")


def from_warnings(
    dockerfile: Dockerfile,
    *,
    build_arguments: Mapping[str, str] | None,
    platform_arguments: Mapping[str, str] | None,
) -> Iterator[CheckWarning]:
    """What is wrong with images and platforms of FROM."""
    predefined = {**_PREDEFINED, **(platform_arguments or {})}
    defaults = _global_arguments(dockerfile, predefined, {})
    given = _global_arguments(dockerfile, predefined, build_arguments or {})
    for stage in dockerfile.stages:
        base = stage.base
        for word in (base.image, base.platform):
            if word is not None:
                yield from _undeclared_warnings(word, given, escape=dockerfile.escape)
        if not _names_an_image(base.image, defaults, escape=dockerfile.escape):
            yield CheckWarning(
                rule="InvalidDefaultArgInFrom",
                text=f"Default value for ARG {base.image.text} results in empty or invalid base "
                "image name",
                span=base.image.span,
            )
        if base.platform is not None:
            yield from _platform_warnings(stage, base.platform)


def _global_arguments(
    dockerfile: Dockerfile, predefined: Mapping[str, str], build_arguments: Mapping[str, str]
) -> dict[str, str]:
    """What FROM sees; those without a value are not in it."""
    arguments = dict(predefined)
    for instruction in dockerfile.arguments:
        for definition in instruction.definitions:
            name = definition.name.text
            if name in build_arguments:
                arguments[name] = build_arguments[name]
            elif definition.value is not None:
                try:
                    value = expand(definition.value.text, arguments, escape=dockerfile.escape)
                except WordError:
                    # The build says what is wrong with it.
                    continue
                arguments[name] = value.text
    return arguments


def _undeclared_warnings(
    word: Word, arguments: Mapping[str, str], *, escape: str
) -> Iterator[CheckWarning]:
    try:
        unset = expand(word.text, arguments, escape=escape).unset
    except WordError:
        return
    for name in sorted(unset):
        yield CheckWarning(
            rule="UndefinedArgInFrom",
            text=f"FROM argument '{name}' is not declared{_guess(name, arguments)}",
            span=word.span,
        )


def _names_an_image(word: Word, arguments: Mapping[str, str], *, escape: str) -> bool:
    try:
        parse_reference(expand(word.text, arguments, escape=escape).text)
    except InvalidReferenceError:
        return False
    except WordError:
        # The build says what is wrong with it.
        return True
    return True


def _platform_warnings(stage: Stage, platform: Word) -> Iterator[CheckWarning]:
    if platform.text in _TARGET_PLATFORM:
        yield CheckWarning(
            rule="RedundantTargetPlatform",
            text=f"Setting platform to predefined {platform.text} in FROM is redundant as this is "
            "the default behavior",
            span=platform.span,
        )
    elif "$" not in platform.text and not any(
        part in stage.name for part in platform.text.split("/") if part
    ):
        yield CheckWarning(
            rule="FromPlatformFlagConstDisallowed",
            text=f"FROM --platform flag should not use constant value {go_quoted(platform.text)}",
            span=platform.span,
        )


def variable_warnings(
    dockerfile: Dockerfile,
    *,
    build_arguments: Mapping[str, str] | None,
    base_environment: Callable[[Stage], Mapping[str, str] | None] | None,
) -> Iterator[CheckWarning]:
    """Which variables are used within stages and were given no value before."""
    source = Source(dockerfile.name, list(dockerfile.lines))
    global_arguments = _global_arguments(dockerfile, _PREDEFINED, build_arguments or {})
    known: dict[str, _StageVariables] = {}
    for stage in dockerfile.stages:
        image = stage.base.image.text
        below = known.get(image.lower())
        if below is not None:
            variables = below.copy()
        else:
            environment: Mapping[str, str] | None = None
            if image == "scratch":
                environment = {"PATH": ""}
            elif base_environment is not None:
                environment = base_environment(stage)
            variables = _StageVariables(dict(environment or {}), is_known=environment is not None)
        for instruction in stage.instructions:
            yield from variables.warnings(
                instruction,
                source,
                escape=dockerfile.escape,
                global_arguments=global_arguments,
                build_arguments=build_arguments or {},
            )
        if stage.name:
            known[stage.name] = variables


class _StageVariables:
    """What has a value, or was declared, at one place of a stage."""

    def __init__(self, values: dict[str, str], *, is_known: bool) -> None:
        self._values = values
        self._declared: set[str] = set()
        self._is_known = is_known

    def copy(self) -> _StageVariables:
        """As a stage begins that stands on this one."""
        copied = _StageVariables(dict(self._values), is_known=self._is_known)
        copied._declared = set(self._declared)
        return copied

    def warnings(
        self,
        instruction: BuildInstruction,
        source: Source,
        *,
        escape: str,
        global_arguments: Mapping[str, str],
        build_arguments: Mapping[str, str],
    ) -> Iterator[CheckWarning]:
        """Go over one instruction."""
        expander = Expander(source, self._values, escape=escape)
        try:
            _expand_all(expander, instruction)
            if isinstance(instruction, EnvInstruction):
                self._values.update(expander.pairs(instruction))
            elif isinstance(instruction, ArgInstruction):
                self._declare(instruction, expander, global_arguments, build_arguments)
        except DockerfileError:
            # The build says what is wrong with it.
            return
        if self._is_known:
            for name in sorted(expander.unset - self._declared):
                yield CheckWarning(
                    rule="UndefinedVar",
                    text=f"Usage of undefined variable '${name}'"
                    f"{_guess(name, self._values, sign='$')}",
                    span=instruction.span,
                )

    def _declare(
        self,
        instruction: ArgInstruction,
        expander: Expander,
        global_arguments: Mapping[str, str],
        build_arguments: Mapping[str, str],
    ) -> None:
        for definition in instruction.definitions:
            name = definition.name.text
            self._declared.add(name)
            value = build_arguments.get(name)
            if value is None and definition.value is not None:
                # Defaults see those that stand before them in the same instruction.
                value = expander.text(definition.value)
            elif value is None:
                value = global_arguments.get(name)
            if value is not None:
                self._values[name] = value


def _expand_all(expander: Expander, instruction: BuildInstruction) -> None:
    """Ask for everything that an instruction asks for."""
    if isinstance(instruction, EnvInstruction | LabelInstruction):
        expander.pairs(instruction)
    elif isinstance(instruction, CopyInstruction | AddInstruction):
        expander.files(instruction)
    elif isinstance(instruction, RunInstruction):
        for mount in instruction.mounts:
            expander.mount(mount)
    else:
        for word in _expanded_words(instruction):
            expander.text(word)


def _expanded_words(instruction: BuildInstruction) -> Iterable[Word]:
    if isinstance(instruction, WorkdirInstruction):
        return (instruction.path,)
    if isinstance(instruction, UserInstruction):
        return (instruction.user,)
    if isinstance(instruction, StopSignalInstruction):
        return (instruction.signal,)
    if isinstance(instruction, VolumeInstruction):
        return instruction.paths
    if isinstance(instruction, ExposeInstruction):
        return instruction.ports
    return ()


def _guess(name: str, known: Iterable[str], *, sign: str = "") -> str:
    names = {each.lower(): each for each in known if re.match(r"\w", each)}
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f" (did you mean {sign}{names[close[0]]}?)" if close else ""
