"""Options as Docker's command line has them: `-aq`, `-n5`, `--name=web`, `--name web`, `--`.

Everything behind the image of `run` belongs to the container, whatever it looks like: a command
that `stops_at_operand` reads no option after its first operand. Light on purpose: the modules
behind the standard library's parser cost more than a container takes to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsageError(InvalidInputError):
    """The command line itself is wrong."""

    def __init__(self, message: str, *, command: str = "") -> None:
        super().__init__(message, hint=f"see `lamella {f'{command} ' if command else ''}--help`")


class Option(NamedTuple):
    """One option of a command.

    Attributes:
        name: Its long form without dashes; also its key in `Arguments`.
        short: Its one-letter form, or empty.
        value: What its value is called in the help; empty for a switch.
        summary: What it does.
        is_repeated: It may be given more than once, and all values count.
        is_hidden: The help does not list it: it is only known to be refused with a reason.
    """

    name: str
    short: str
    value: str
    summary: str
    is_repeated: bool = False
    is_hidden: bool = False


GLOBAL_OPTIONS = (
    Option("root", "", "DIRECTORY", "Where images and containers are kept"),
    Option("run", "", "DIRECTORY", "Where sockets and locks are kept"),
)
PLATFORM = Option(
    "platform", "", "PLATFORM", "Of the image: linux/arm64, linux/arm/v7; this host's without it"
)
HELP_OPTION = Option("help", "", "", "Show this")


class Arguments:
    """What a command line said, checked against its options."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.operands: list[str] = []

    def add(self, name: str, value: str) -> None:
        """Take one more value of an option; a switch that is on has `true`."""
        self._values.setdefault(name, []).append(value)

    def is_on(self, name: str) -> bool:
        """Whether a switch was given (the last one counts)."""
        return self.text(name) == "true"

    def text(self, name: str) -> str | None:
        """The value of an option (the last one counts), None when it was not given."""
        values = self._values.get(name)
        return values[-1] if values else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Every value of an option, in order."""
        return tuple(self._values.get(name, ()))


def parse(
    words: Sequence[str],
    options: Sequence[Option],
    *,
    command: str,
    stops_at_operand: bool = False,
) -> Arguments:
    """Read a command line.

    Raises:
        UsageError: An unknown option, or a value that is missing or not wanted.
    """
    by_long = {option.name: option for option in (*options, *GLOBAL_OPTIONS, HELP_OPTION)}
    by_short = {option.short: option for option in options if option.short}
    arguments = Arguments()
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            arguments.operands += words[position:]
            break
        if not word.startswith("-") or word == "-":
            arguments.operands.append(word)
            if stops_at_operand:
                arguments.operands += words[position:]
                break
            continue
        if word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
            option = by_long.get(name)
            if option is None:
                raise UsageError(f"unknown option: --{name}", command=command)
            if not option.value:
                arguments.add(option.name, _switch(option, value if has_value else "true", command))
                continue
            if not has_value:
                value, position = _next_value(words, position, f"--{name}", command)
            arguments.add(option.name, value)
            continue
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            option = by_short.get(letter)
            if option is None:
                if letter == "h":
                    arguments.add("help", "true")
                    continue
                raise UsageError(f"unknown option: -{letter} in {word}", command=command)
            if not option.value:
                value = rest[1:] if rest.startswith("=") else "true"
                rest = "" if rest.startswith("=") else rest
                arguments.add(option.name, _switch(option, value, command))
                continue
            if rest:
                value, rest = rest.removeprefix("="), ""
            else:
                value, position = _next_value(words, position, f"-{letter}", command)
            arguments.add(option.name, value)
    return arguments


def _switch(option: Option, value: str, command: str) -> str:
    if value in ("true", "1"):
        return "true"
    if value in ("false", "0"):
        return "false"
    raise UsageError(f"--{option.name} is true or false, not {value!r}", command=command)


def _next_value(words: Sequence[str], position: int, name: str, command: str) -> tuple[str, int]:
    if position >= len(words):
        raise UsageError(f"option needs a value: {name}", command=command)
    return words[position], position + 1


def describe(options: Sequence[Option]) -> list[str]:
    """The option lines of a help text."""
    forms: list[tuple[str, str]] = []
    for option in (*options, *GLOBAL_OPTIONS, HELP_OPTION):
        if option.is_hidden:
            continue
        short = f"-{option.short}, " if option.short else "    "
        value = f" {option.value}" if option.value else ""
        forms.append((f"{short}--{option.name}{value}", option.summary))
    width = max(len(form) for form, _summary in forms)
    return [f"  {form:<{width}}  {summary}" for form, summary in forms]
