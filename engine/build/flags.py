"""The options of an instruction: `--name=value` between its name and its arguments."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from engine.build.spans import Span, Word
from engine.build.words import SPACE
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.build.spans import LogicalLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One option as it was written.

    Attributes:
        name: Without the dashes.
        value: What follows the equals sign, without quotes; None without an equals sign.
        span: Of all of it.
    """

    name: str
    value: str | None
    span: Span

    @property
    def word(self) -> Word:
        """The value, where the option stands."""
        return Word(text=self.value or "", span=self.span)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagKind:
    """An option that an instruction has.

    Attributes:
        is_switch: It is true or false; true also without a value.
        repeats: It may be given more than once.
    """

    name: str
    is_switch: bool = False
    repeats: bool = False


class Flags:
    """The options of one instruction, known to be right."""

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self._flags = flags

    def values(self, name: str) -> tuple[Word, ...]:
        """Every value of an option, in order."""
        return tuple(flag.word for flag in self._flags if flag.name == name)

    def value(self, name: str) -> Word | None:
        """The value of an option; None when it was not given or is empty."""
        return next((word for word in self.values(name) if word.text), None)

    def switch(self, name: str) -> bool | None:
        """Whether an option is on; None when it was not given."""
        for flag in self._flags:
            if flag.name == name:
                return flag.value is None or flag.value.lower() == "true"
        return None


def read_flags(line: LogicalLine, start: int) -> tuple[tuple[Flag, ...], int]:
    """Read options.

    Args:
        line: The instruction.
        start: Where its options would begin.

    Returns:
        The options, and where the arguments begin.
    """
    text = line.text
    flags: list[Flag] = []
    position = _after_spaces(text, start)
    while text.startswith("--", position):
        end, word = _unquoted(text, position)
        if word == "--":
            return tuple(flags), _after_spaces(text, end)
        name, equals, value = word[2:].partition("=")
        flags.append(
            Flag(name=name, value=value if equals else None, span=line.span(position, end))
        )
        position = _after_spaces(text, end)
    return tuple(flags), position


def checked_flags(line: LogicalLine, flags: tuple[Flag, ...], kinds: tuple[FlagKind, ...]) -> Flags:
    """Hold options against those that there are.

    Raises:
        DockerfileError: One is unknown, given twice, or has no right value.
    """
    known = {kind.name: kind for kind in kinds}
    seen: set[str] = set()
    for flag in flags:
        start = flag.span.start
        kind = known.get(flag.name)
        if kind is None:
            close = difflib.get_close_matches(flag.name, known, n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            raise line.source.error(
                start,
                f"unknown flag: --{flag.name}{guess}",
                expected=" or ".join(f"--{name}" for name in known) or "no flag",
            )
        if flag.name in seen and not kind.repeats:
            raise line.source.error(
                start, f"duplicate flag specified: --{flag.name}", expected="it once"
            )
        seen.add(flag.name)
        if kind.is_switch:
            if flag.value is not None and flag.value.lower() not in ("true", "false"):
                raise line.source.error(
                    start,
                    f"expecting boolean value for flag --{flag.name}, not: {flag.value}",
                    expected=f"--{flag.name}, --{flag.name}=true or --{flag.name}=false",
                )
        elif flag.value is None:
            raise line.source.error(
                start,
                f"missing a value on flag: --{flag.name}",
                expected=f"--{flag.name}=VALUE",
            )
    return Flags(flags)


def _after_spaces(text: str, position: int) -> int:
    while position < len(text) and text[position] in SPACE:
        position += 1
    return position


def _unquoted(text: str, position: int) -> tuple[int, str]:
    """Read one option; quotes and backslashes are removed, whatever the escape directive says."""
    characters: list[str] = []
    quote = ""
    while position < len(text):
        character = text[position]
        if not quote and character in SPACE:
            break
        position += 1
        if character == quote:
            quote = ""
        elif not quote and character in ("'", '"'):
            quote = character
        elif character == "\\":
            characters.append(text[position : position + 1])
            position += 1
        else:
            characters.append(character)
    return min(position, len(text)), "".join(characters)
