"""Dockerfile instructions that change an image's config, for `commit --change`.

Forms and texts are those of Docker's builder (buildkit frontend/dockerfile/parser/line_parsers.go,
moby builder/dockerfile/evaluator.go).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from engine.errors import InvalidInputError
from engine.oci.documents import ConfigSection, Empty, HealthCheckDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_LARGEST_PORT = 65_535
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_SHORTEST_NANOSECONDS = 10**6
_REFUSED_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")


def apply_changes(section: ConfigSection, changes: Iterable[str]) -> ConfigSection:
    """Return a config with Dockerfile instructions applied, in their order.

    Raises:
        InvalidInputError: One is no instruction, not one that changes a config, or malformed.
    """
    for change in changes:
        for line in _lines(change):
            section = _apply(section, line)
    return section


def _lines(change: str) -> list[str]:
    """The instructions of a text: one a line, a backslash goes on with the next line."""
    joined = re.sub(r"\\[ \t]*\n", "", change)
    lines = [line.strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _apply(section: ConfigSection, line: str) -> ConfigSection:
    word, _, rest = line.partition(" ")
    name, rest = word.upper(), rest.strip()
    action = _INSTRUCTIONS.get(name)
    if action is None:
        raise InvalidInputError(
            f"{word.lower()} is not a valid change command",
            hint=f"Use one of {', '.join(_INSTRUCTIONS)}",
        )
    if not rest:
        raise _malformed(name, "it needs an argument")
    return action(section, rest)


def _malformed(name: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"invalid change: {name}: {reason}", hint="Write it as in a Dockerfile: `ENV NAME=value`"
    )


def _json_words(text: str) -> tuple[str, ...] | None:
    """The exec form, a JSON list of texts; None for anything else, as Docker has it."""
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError:
        return None


def _command(text: str) -> tuple[str, ...]:
    words = _json_words(text)
    return (*_SHELL, text) if words is None else words


def _set_command(section: ConfigSection, text: str) -> ConfigSection:
    return replace(section, cmd=_command(text))


def _set_entrypoint(section: ConfigSection, text: str) -> ConfigSection:
    # Docker's builder clears the command that the image had with its old entrypoint; a commit
    # takes the container's own along, and so the command stays.
    return replace(section, entrypoint=_command(text))


def _words(name: str, text: str) -> list[str]:
    """Split as a Dockerfile does: blanks part words, quotes and backslashes keep them together."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError as error:
        raise _malformed(name, f"{str(error).lower()} in {text!r}") from None


def _pairs(name: str, text: str) -> list[tuple[str, str]]:
    """`NAME=value …`, or the old form `NAME value`, where the rest of the line is the value."""
    first, _, rest = text.partition(" ")
    if "=" not in first:
        if not rest.strip():
            raise _malformed(name, f"{name} must have two arguments")
        return [(first, rest.strip())]
    pairs = []
    for word in _words(name, text):
        key, has_value, value = word.partition("=")
        if not has_value:
            raise _malformed(
                name, f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not key:
            raise _malformed(name, f"{name} names can not be blank")
        pairs.append((key, value))
    return pairs


def _set_environment(section: ConfigSection, text: str) -> ConfigSection:
    variables = dict(entry.partition("=")[::2] for entry in section.env or ())
    variables |= _pairs("ENV", text)
    return replace(section, env=tuple(f"{name}={value}" for name, value in variables.items()))


def _set_labels(section: ConfigSection, text: str) -> ConfigSection:
    return replace(section, labels={**(section.labels or {}), **dict(_pairs("LABEL", text))})


def _expose(section: ConfigSection, text: str) -> ConfigSection:
    ports = dict(section.exposed_ports or {})
    for word in text.split():
        match = _PORT.fullmatch(word)
        if match is None:
            raise _malformed("EXPOSE", f"invalid containerPort: {word}")
        start, end = int(match[1]), int(match[2] or match[1])
        if not 1 <= start <= end <= _LARGEST_PORT:
            raise _malformed("EXPOSE", f"invalid range format for --expose: {word}")
        protocol = (match[3] or "tcp").lower()
        ports |= {f"{port}/{protocol}": Empty() for port in range(start, end + 1)}
    return replace(section, exposed_ports=ports)


def _add_trigger(section: ConfigSection, text: str) -> ConfigSection:
    trigger = text.partition(" ")[0].upper()
    if trigger == "ONBUILD":
        raise _malformed("ONBUILD", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _REFUSED_TRIGGERS:
        raise _malformed("ONBUILD", f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(section, on_build=(*(section.on_build or ()), text))


def _set_user(section: ConfigSection, text: str) -> ConfigSection:
    words = _words("USER", text)
    if len(words) != 1:
        raise _malformed("USER", "USER requires exactly one argument")
    return replace(section, user=words[0])


def _add_volumes(section: ConfigSection, text: str) -> ConfigSection:
    paths = _json_words(text) or tuple(_words("VOLUME", text))
    if not all(path.strip() for path in paths):
        raise _malformed("VOLUME", "VOLUME specified can not be an empty string")
    return replace(
        section, volumes={**(section.volumes or {}), **{path: Empty() for path in paths}}
    )


def _set_directory(section: ConfigSection, text: str) -> ConfigSection:
    words = _words("WORKDIR", text)
    if len(words) != 1:
        raise _malformed("WORKDIR", "WORKDIR requires exactly one argument")
    return replace(
        section,
        working_dir=posixpath.normpath(posixpath.join("/", section.working_dir or "", words[0])),
    )


def _set_stop_signal(section: ConfigSection, text: str) -> ConfigSection:
    from engine.runtime.isolation import parse_signal

    parse_signal(text, option="STOPSIGNAL")
    return replace(section, stop_signal=text)


def _set_health_check(section: ConfigSection, text: str) -> ConfigSection:
    numbers = {"--interval": 0, "--timeout": 0, "--start-period": 0, "--start-interval": 0}
    retries = 0
    rest = text
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.strip()
        key, _, value = option.partition("=")
        if key == "--retries":
            if not value.isdigit():
                raise _malformed("HEALTHCHECK", f"--retries must be a number, not {value!r}")
            retries = int(value)
        elif key in numbers:
            numbers[key] = _nanoseconds(key, value)
        else:
            raise _malformed("HEALTHCHECK", f"Unknown flag: {key.removeprefix('--')}")
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE":
        if command:
            raise _malformed("HEALTHCHECK", "HEALTHCHECK NONE takes no arguments")
        return replace(section, healthcheck=HealthCheckDocument(test=("NONE",)))
    if kind.upper() != "CMD":
        raise _malformed("HEALTHCHECK", f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    if not command:
        raise _malformed("HEALTHCHECK", "Missing command after HEALTHCHECK CMD")
    words = _json_words(command)
    test = ("CMD-SHELL", command) if words is None else ("CMD", *words)
    document = HealthCheckDocument(
        test=test,
        interval=numbers["--interval"],
        timeout=numbers["--timeout"],
        start_period=numbers["--start-period"],
        start_interval=numbers["--start-interval"],
        retries=retries,
    )
    return replace(section, healthcheck=document)


def _nanoseconds(option: str, text: str) -> int:
    if re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        total = sum(float(number) * _NANOSECONDS[unit] for number, unit in _DURATION.findall(text))
        if total == 0 or total >= _SHORTEST_NANOSECONDS:
            return int(total)
    raise _malformed("HEALTHCHECK", f"{option} is no duration such as 30s or 1m30s: {text!r}")


_INSTRUCTIONS: dict[str, Callable[[ConfigSection, str], ConfigSection]] = {
    "CMD": _set_command,
    "ENTRYPOINT": _set_entrypoint,
    "ENV": _set_environment,
    "EXPOSE": _expose,
    "HEALTHCHECK": _set_health_check,
    "LABEL": _set_labels,
    "ONBUILD": _add_trigger,
    "STOPSIGNAL": _set_stop_signal,
    "USER": _set_user,
    "VOLUME": _add_volumes,
    "WORKDIR": _set_directory,
}
