"""The patterns of `${name#pattern}` and its like: `*` and `?`, and nothing else.

A regular expression of the whole pattern could be made to take exponential time. So only what
stands between the stars is searched for, one part after the other.
"""

from __future__ import annotations

import re

from engine.late_dataclasses import dataclass

_ESCAPABLE = ("*", "?", "\\")
_FOR_THE_BRACES = ("}", "/")
"""Escaped because of the braces around the pattern; in it they mean themselves."""


class PatternError(ValueError):
    """A pattern that means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What stands between two stars, for texts as they are and for reversed ones."""

    forward: re.Pattern[str]
    backward: re.Pattern[str]

    @property
    def reversed(self) -> _Part:
        return _Part(forward=self.backward, backward=self.forward)


class ShellPattern:
    """A compiled pattern; brackets are no classes, they stand for themselves."""

    def __init__(self, pattern: str) -> None:
        """Compile.

        Raises:
            PatternError: It escapes what cannot be escaped.
        """
        parts: list[list[str]] = [[]]
        characters = iter(pattern)
        for character in characters:
            if character == "*":
                parts.append([])
            elif character == "?":
                parts[-1].append(".")
            elif character == "\\":
                escaped = next(characters, "")
                if escaped not in (*_ESCAPABLE, *_FOR_THE_BRACES):
                    raise PatternError(f"invalid escape '\\{escaped}'")
                parts[-1].append(re.escape(escaped))
            else:
                parts[-1].append(re.escape(character))
        self._parts = [
            _Part(
                forward=re.compile("".join(part), re.DOTALL),
                backward=re.compile("".join(reversed(part)), re.DOTALL),
            )
            for part in parts
        ]

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """The value without the shortest or longest beginning that matches."""
        end = _end_of_match(self._parts, value, 0, longest=longest)
        return value if end is None else value[end:]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """The value without the shortest or longest end that matches."""
        backwards = [part.reversed for part in reversed(self._parts)]
        end = _end_of_match(backwards, value[::-1], 0, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replaced(self, value: str, replacement: str, *, everywhere: bool) -> str:
        """The value with the first match, or every one, replaced: the longest at its place."""
        kept: list[str] = []
        position = 0
        last_end = -1
        while position <= len(value):
            first = self._parts[0].forward.search(value, position)
            if first is None:
                break
            start = first.start()
            end = _end_of_match(self._parts, value, start, longest=True)
            if end is None:
                # The rest of the pattern is not behind this place, so behind no later one.
                break
            kept.append(value[position:start])
            if not (start == end == last_end):
                kept.append(replacement)
            last_end = position = end
            if start == end:
                kept.append(value[end : end + 1])
                position += 1
            if not everywhere:
                break
        return "".join((*kept, value[position:]))


def _end_of_match(parts: list[_Part], value: str, start: int, *, longest: bool) -> int | None:
    """Where a match ends that begins at `start`; None when there is none."""
    match = parts[0].forward.match(value, start)
    for part in parts[1:-1]:
        if match is None:
            return None
        match = part.forward.search(value, match.end())
    if match is None or len(parts) == 1:
        return match.end() if match is not None else None
    behind = match.end()
    if not longest:
        last = parts[-1].forward.search(value, behind)
        return last.end() if last is not None else None
    last = parts[-1].backward.search(value[: behind - 1 if behind else None : -1])
    return len(value) - last.start() if last is not None else None
