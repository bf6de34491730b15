"""What each instruction may say: from its text to its record.

The rules are those of BuildKit's frontend (frontend/dockerfile/docs/reference.md); reasons are its
texts, where it has one.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from engine.build.durations import nanoseconds
from engine.build.flags import FlagKind
from engine.build.instructions import (
    AddInstruction,
    ArgInstruction,
    CmdInstruction,
    CopyInstruction,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    FromInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    MaintainerInstruction,
    OnbuildInstruction,
    RunInstruction,
    ShellInstruction,
    StopSignalInstruction,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from engine.build.lines import heredoc_word
from engine.build.mounts import MountError, read_mount
from engine.build.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.build.flags import Flags
    from engine.build.instructions import BuildInstruction, Definition
    from engine.build.lines import Heredoc
    from engine.build.mounts import MountFlag
    from engine.build.spans import Word
    from engine.errors import DockerfileError

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
_SHORTEST_NANOSECONDS = 10**6
_LARGEST_RETRIES = 2**31 - 1
_FILES_FLAGS = (
    FlagKind(name="chown"),
    FlagKind(name="chmod"),
    FlagKind(name="link", is_switch=True),
    FlagKind(name="parents", is_switch=True),
    FlagKind(name="exclude", repeats=True),
)
_HEALTH_TIMES = ("interval", "timeout", "start-period", "start-interval")


def read_from(statement: Statement) -> FromInstruction:
    """Read FROM, which begins a stage.

    Raises:
        DockerfileError: It is malformed.
    """
    flags = statement.checked_flags(FlagKind(name="platform"))
    words = statement.words()
    form = "FROM IMAGE, or FROM IMAGE AS NAME"
    if len(words) not in (1, 3):
        raise statement.error("FROM requires either one or three arguments", expected=form)
    as_keyword, stage = words[1:] if len(words) > 1 else (None, None)
    if as_keyword is not None and as_keyword.text.lower() != "as":
        raise statement.error(
            "FROM requires either one or three arguments", expected=form, at=as_keyword
        )
    if stage is not None and not _STAGE_NAME.fullmatch(stage.text.lower()):
        raise statement.error(
            f'invalid name for build stage: "{stage.text}", name can\'t start with a number or '
            "contain symbols",
            expected="a letter, then letters, digits, dashes, dots and underscores",
            at=stage,
        )
    return FromInstruction(
        origin=statement.origin(),
        image=words[0],
        stage=stage,
        as_keyword=as_keyword,
        platform=flags.value("platform"),
    )


def read_instruction(statement: Statement) -> BuildInstruction:
    """Read any instruction that can stand within a stage.

    Raises:
        DockerfileError: It is unknown or malformed.
    """
    read = _READERS.get(statement.name)
    if read is None:
        known = ("FROM", *_READERS)
        close = difflib.get_close_matches(statement.name, known, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        raise statement.error(
            f"unknown instruction: {statement.keyword.text}{guess}",
            expected=close[0] if close else f"one of {', '.join(sorted(known))}",
            at=statement.keyword,
        )
    return read(statement)


def refused_trigger(statement: Statement) -> DockerfileError:
    """Say that an instruction cannot follow ONBUILD."""
    reason = f"{statement.name} isn't allowed as an ONBUILD trigger"
    if statement.name == "ONBUILD":
        reason = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
    return statement.error(reason, expected="another instruction", at=statement.keyword)


def is_refused_trigger(statement: Statement) -> bool:
    """Whether an instruction cannot follow ONBUILD."""
    return statement.name in ("FROM", "MAINTAINER", "ONBUILD")


def _read_arg(statement: Statement) -> ArgInstruction:
    statement.checked_flags()
    definitions = statement.definitions()
    if not definitions:
        raise _needs_argument(statement, "ARG NAME or ARG NAME=DEFAULT")
    return ArgInstruction(origin=statement.origin(), definitions=definitions)


def _pairs(statement: Statement) -> tuple[tuple[Definition, ...], bool]:
    """The definitions of ENV and LABEL, and whether they are in the old form."""
    statement.checked_flags()
    definitions = statement.definitions()
    if not definitions:
        raise _needs_argument(statement, f"{statement.name} NAME=VALUE")
    if definitions[0].value is None:
        return (statement.legacy_definition(),), True
    for definition in definitions:
        if definition.value is None:
            raise statement.error(
                f'Syntax error - can\'t find = in "{definition.name.text}". Must be of the form: '
                "name=value",
                expected="name=value, or quotes around a value that has spaces",
                at=definition.name,
            )
    return definitions, False


def _read_env(statement: Statement) -> EnvInstruction:
    definitions, is_legacy = _pairs(statement)
    return EnvInstruction(origin=statement.origin(), definitions=definitions, is_legacy=is_legacy)


def _read_label(statement: Statement) -> LabelInstruction:
    definitions, is_legacy = _pairs(statement)
    return LabelInstruction(origin=statement.origin(), definitions=definitions, is_legacy=is_legacy)


def _read_run(statement: Statement) -> RunInstruction:
    flags = statement.checked_flags(
        FlagKind(name="mount", repeats=True),
        FlagKind(name="network"),
        FlagKind(name="security"),
        FlagKind(name="device", repeats=True),
    )
    return RunInstruction(
        origin=statement.origin(),
        command=statement.command_line(),
        mounts=tuple(_mount(statement, word) for word in flags.values("mount")),
        network=_one_of(statement, flags, "network", _NETWORKS),
        security=_one_of(statement, flags, "security", _SECURITIES),
        devices=flags.values("device"),
    )


def _mount(statement: Statement, word: Word) -> MountFlag:
    try:
        return read_mount(word)
    except MountError as error:
        raise statement.error(error.reason, expected=error.expected, at=word) from None


def _one_of(statement: Statement, flags: Flags, name: str, values: tuple[str, ...]) -> str:
    """The value of an option that has but a few; the first is what it is without the option."""
    word = flags.value(name)
    if word is None:
        return values[0]
    if word.text not in values:
        raise statement.error(
            f'unsupported {name} mode "{word.text}"', expected=" or ".join(values), at=word
        )
    return word.text


def _read_cmd(statement: Statement) -> CmdInstruction:
    statement.checked_flags()
    return CmdInstruction(origin=statement.origin(), command=statement.command_line())


def _read_entrypoint(statement: Statement) -> EntrypointInstruction:
    statement.checked_flags()
    return EntrypointInstruction(origin=statement.origin(), command=statement.command_line())


def _read_shell(statement: Statement) -> ShellInstruction:
    statement.checked_flags()
    words = statement.json_words()
    if words is None and statement.rest:
        raise statement.error(
            f"SHELL requires the arguments to be in JSON form: {statement.rest}",
            expected='SHELL ["PROGRAM", "ARGUMENT"]',
        )
    if not words:
        raise _needs_argument(statement, 'SHELL ["PROGRAM", "ARGUMENT"]')
    return ShellInstruction(origin=statement.origin(), words=words)


def _read_copy(statement: Statement) -> CopyInstruction:
    flags = statement.checked_flags(FlagKind(name="from"), *_FILES_FLAGS)
    stage = flags.value("from")
    if stage is not None and re.search(r"\$.", stage.text):
        raise statement.error(
            "'--from' doesn't support variable expansion, define alias stage instead",
            expected="the name of a stage that is FROM that image",
            at=stage,
        )
    destination, written, sources, heredocs = _sources(statement)
    return CopyInstruction(
        origin=statement.origin(),
        sources=sources,
        heredocs=heredocs,
        written_sources=written,
        destination=destination,
        owner=flags.value("chown"),
        mode=flags.value("chmod"),
        is_link=flags.switch("link") or False,
        keeps_parents=flags.switch("parents") or False,
        excludes=flags.values("exclude"),
        source_stage=stage,
    )


def _read_add(statement: Statement) -> AddInstruction:
    flags = statement.checked_flags(
        *_FILES_FLAGS,
        FlagKind(name="checksum"),
        FlagKind(name="keep-git-dir", is_switch=True),
        FlagKind(name="unpack", is_switch=True),
    )
    destination, written, sources, heredocs = _sources(statement)
    return AddInstruction(
        origin=statement.origin(),
        sources=sources,
        heredocs=heredocs,
        written_sources=written,
        destination=destination,
        owner=flags.value("chown"),
        mode=flags.value("chmod"),
        is_link=flags.switch("link") or False,
        keeps_parents=flags.switch("parents") or False,
        excludes=flags.values("exclude"),
        checksum=flags.value("checksum"),
        keeps_git_directory=flags.switch("keep-git-dir") or False,
        unpacks=flags.switch("unpack"),
    )


def _sources(
    statement: Statement,
) -> tuple[Word, tuple[Word, ...], tuple[Word, ...], tuple[Heredoc, ...]]:
    """Destination, every source as it was written, those that are paths, those that are here."""
    words = statement.json_or_words()
    name = statement.name
    form = f"{name} SOURCE… DESTINATION"
    if not words:
        raise statement.error(f"{name} requires at least two arguments", expected=form)
    if len(words) == 1:
        raise statement.error(
            f"{name} requires at least two arguments, but only one was provided. Destination "
            "could not be determined",
            expected=form,
            at=words[0],
        )
    *sources, destination = words
    if heredoc_word(destination.text) is not None:
        raise statement.error(
            f"{name} cannot accept a heredoc as a destination",
            expected="a path behind the here-documents",
            at=destination,
        )
    # Of two with one name the later is taken, as in Docker.
    bodies = {heredoc.name: heredoc for heredoc in statement.heredocs}
    paths: list[Word] = []
    heredocs: list[Heredoc] = []
    for source in sources:
        begun = heredoc_word(source.text)
        if begun is None or begun.name not in bodies:
            paths.append(source)
        else:
            heredocs.append(bodies[begun.name])
    return destination, tuple(sources), tuple(paths), tuple(heredocs)


def _read_workdir(statement: Statement) -> WorkdirInstruction:
    statement.checked_flags()
    return WorkdirInstruction(origin=statement.origin(), path=statement.only_word())


def _read_user(statement: Statement) -> UserInstruction:
    statement.checked_flags()
    return UserInstruction(origin=statement.origin(), user=statement.only_word())


def _read_volume(statement: Statement) -> VolumeInstruction:
    statement.checked_flags()
    words = statement.json_or_words()
    if not words:
        raise _needs_argument(statement, "VOLUME PATH…")
    for word in words:
        if not word.text.strip():
            raise statement.error(
                "VOLUME specified can not be an empty string", expected="a path", at=word
            )
    return VolumeInstruction(origin=statement.origin(), paths=words)


def _read_expose(statement: Statement) -> ExposeInstruction:
    statement.checked_flags()
    words = statement.words()
    if not words:
        raise _needs_argument(statement, "EXPOSE PORT…")
    return ExposeInstruction(origin=statement.origin(), ports=words)


def _read_stop_signal(statement: Statement) -> StopSignalInstruction:
    statement.checked_flags()
    return StopSignalInstruction(origin=statement.origin(), signal=statement.only_word())


def _read_maintainer(statement: Statement) -> MaintainerInstruction:
    statement.checked_flags()
    return MaintainerInstruction(origin=statement.origin(), author=statement.only_word())


def _read_healthcheck(statement: Statement) -> HealthcheckInstruction:
    form = "HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE"
    words = statement.words()
    if not words:
        raise _needs_argument(statement, form)
    kind = words[0]
    following = statement.start + len(kind.text)
    has_more = len(words) > 1
    if kind.text.upper() == "NONE":
        if has_more:
            raise statement.error(
                "HEALTHCHECK NONE takes no arguments", expected="its end", at=words[1]
            )
        return HealthcheckInstruction(
            origin=statement.origin(),
            command=None,
            interval_nanoseconds=0,
            timeout_nanoseconds=0,
            start_period_nanoseconds=0,
            start_interval_nanoseconds=0,
            retries=0,
        )
    flags = statement.checked_flags(
        *(FlagKind(name=name) for name in _HEALTH_TIMES), FlagKind(name="retries")
    )
    if kind.text.upper() != "CMD":
        raise statement.error(
            f'Unknown type "{kind.text.upper()}" in HEALTHCHECK (try CMD)', expected=form, at=kind
        )
    text = statement.line.text
    following += len(text[following : statement.end]) - len(
        text[following : statement.end].lstrip()
    )
    command = statement.command_line(following)
    if not command.words:
        raise statement.error("Missing command after HEALTHCHECK CMD", expected=form, at=kind)
    interval, timeout, start_period, start_interval = (
        _health_time(statement, flags, name) for name in _HEALTH_TIMES
    )
    return HealthcheckInstruction(
        origin=statement.origin(),
        command=command,
        interval_nanoseconds=interval,
        timeout_nanoseconds=timeout,
        start_period_nanoseconds=start_period,
        start_interval_nanoseconds=start_interval,
        retries=_retries(statement, flags),
    )


def _health_time(statement: Statement, flags: Flags, name: str) -> int:
    word = flags.value(name)
    if word is None:
        return 0
    time = nanoseconds(word.text)
    if time is None:
        raise statement.error(
            f'time: invalid duration "{word.text}"', expected="a duration such as 1m30s", at=word
        )
    if time and time < _SHORTEST_NANOSECONDS:
        raise statement.error(
            f'Interval "{name}" cannot be less than 1ms', expected="1ms or more, or 0", at=word
        )
    return time


def _retries(statement: Statement, flags: Flags) -> int:
    word = flags.value("retries")
    if word is None:
        return 0
    expected = "a number of 0 or more"
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", word.text) or int(word.text) > _LARGEST_RETRIES:
        raise statement.error(f'invalid syntax: "{word.text}"', expected=expected, at=word)
    if int(word.text) < 0:
        raise statement.error(
            f"--retries cannot be negative ({word.text})", expected=expected, at=word
        )
    return int(word.text)


def _read_onbuild(statement: Statement) -> OnbuildInstruction:
    statement.checked_flags()
    if not statement.rest:
        raise _needs_argument(statement, "ONBUILD INSTRUCTION")
    inner = Statement(statement.line, statement.start, escape=statement.escape)
    if is_refused_trigger(inner):
        raise refused_trigger(inner)
    inner.heredocs = statement.heredocs
    # The configuration has what BuildKit writes there: each body ends with its name alone.
    bodies = "".join(f"\n{heredoc.raw_body}{heredoc.name}" for heredoc in statement.heredocs)
    return OnbuildInstruction(
        origin=statement.origin(),
        trigger=read_instruction(inner),
        expression=statement.rest + bodies,
    )


def _needs_argument(statement: Statement, form: str) -> DockerfileError:
    return statement.error(f"{statement.name} requires at least one argument", expected=form)


_READERS: dict[str, Callable[[Statement], BuildInstruction]] = {
    "ADD": _read_add,
    "ARG": _read_arg,
    "CMD": _read_cmd,
    "COPY": _read_copy,
    "ENTRYPOINT": _read_entrypoint,
    "ENV": _read_env,
    "EXPOSE": _read_expose,
    "HEALTHCHECK": _read_healthcheck,
    "LABEL": _read_label,
    "MAINTAINER": _read_maintainer,
    "ONBUILD": _read_onbuild,
    "RUN": _read_run,
    "SHELL": _read_shell,
    "STOPSIGNAL": _read_stop_signal,
    "USER": _read_user,
    "VOLUME": _read_volume,
    "WORKDIR": _read_workdir,
}
