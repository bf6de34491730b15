"""Patterns of paths: those of Go's filepath.Match, and those of .dockerignore with `**` as well.

Paths and patterns are text as `os.fsdecode` gives it, with `/` between names. A pattern becomes a
regular expression whose parts commit to the first place where they match, so that matching takes
time in proportion to the path however many wildcards somebody writes. The few patterns for which
the first place may be the wrong one are matched state by state instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from engine.errors import PathPatternError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SPECIAL = frozenset("*?[\\")
_NEVER = r"(?!)"
_ANYTHING = r"[\s\S]"


class PathMatcher(Protocol):
    """Says whether a whole path matches."""

    def __call__(self, path: str, /) -> bool:
        """Match a path that is relative and clean."""


class _Token(NamedTuple):
    """One part of a pattern.

    Attributes:
        kind: `one` character, a `star` within a name, or `deep`: any number of whole names.
        expression: Matches the one character.
        may_be_slash: The one character may be a `/`, in a class.
    """

    kind: str
    expression: str = ""
    may_be_slash: bool = False


_STAR = _Token("star")
_DEEP = _Token("deep")
_SLASH = _Token("one", "/")


def has_wildcards(text: str) -> bool:
    """Whether a pattern can match anything but itself; an escaped character counts for nothing."""
    position = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] in _SPECIAL:
            return True
        position += 1
    return False


def clean_path(path: str) -> str:
    """The shortest path with the same meaning, as Go's filepath.Clean has it: `.` for nothing."""
    is_absolute = path.startswith("/")
    names: list[str] = []
    for name in path.split("/"):
        if name in {"", "."}:
            continue
        if name != "..":
            names.append(name)
        elif names and names[-1] != "..":
            names.pop()
        elif not is_absolute:
            names.append(name)
    return ("/" if is_absolute else "") + "/".join(names) or "."


def compile_match(pattern: str) -> PathMatcher:
    """A matcher with the rules of Go's filepath.Match: `*`, `?`, classes, and no `**`.

    Raises:
        PathPatternError: It is malformed.
    """
    tokens = list(_tokens(pattern))
    return _matcher_of("".join(_within_names(tokens, is_last=True)))


def compile_deep_match(pattern: str) -> PathMatcher:
    """A matcher with the rules of moby's patternmatcher, which knows `**` as well.

    Args:
        pattern: Clean, and without the `!` that inverts it.

    Raises:
        PathPatternError: It is malformed, by the rules of filepath.Match.
    """
    # For its errors: `**` is two stars to it.
    compile_match(pattern)
    if not has_wildcards(pattern) and "\\" not in pattern:
        return pattern.__eq__
    simple = _simple_deep_match(pattern)
    if simple is not None:
        return simple
    tokens = list(_deep_tokens(pattern))
    if _may_commit(tokens):
        return _matcher_of(_deep_expression(tokens))
    return _StateMatcher(tokens)


def _matcher_of(expression: str) -> PathMatcher:
    fullmatch = re.compile(expression, re.DOTALL).fullmatch
    return lambda path: fullmatch(path) is not None


# --- reading ----------------------------------------------------------------------------------


def _tokens(pattern: str) -> Iterator[_Token]:
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            yield _STAR
        elif character == "?":
            yield _Token("one", "[^/]")
        elif character == "[":
            token, position = _read_class(pattern, position)
            yield token
        else:
            if character == "\\":
                if position == len(pattern):
                    raise PathPatternError(pattern)
                character = pattern[position]
                position += 1
            yield _SLASH if character == "/" else _Token("one", re.escape(character))


def _read_class(pattern: str, position: int) -> tuple[_Token, int]:
    """A class from behind its `[`, and the place behind its `]`."""
    is_negated = pattern[position : position + 1] == "^"
    position += is_negated
    ranges: list[tuple[str, str]] = []
    while not (pattern[position : position + 1] == "]" and ranges):
        low, position = _read_class_character(pattern, position)
        high = low
        if pattern[position] == "-":
            high, position = _read_class_character(pattern, position + 1)
        ranges.append((low, high))
    written = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    may_be_slash = any(low <= "/" <= high for low, high in ranges) is not is_negated
    if not written:
        expression = _ANYTHING if is_negated else _NEVER
    else:
        expression = f"[{'^' if is_negated else ''}{written}]"
    return _Token("one", expression, may_be_slash), position + 1


def _read_class_character(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if character in {"", "-", "]"}:
        raise PathPatternError(pattern)
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    # A class is never the end of a pattern: its `]` is still to come.
    if position + 1 >= len(pattern):
        raise PathPatternError(pattern)
    return character, position + 1


def _deep_tokens(pattern: str) -> Iterator[_Token]:
    """As `_tokens`, with `**` and a `/` behind it as one."""
    start = position = 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            yield from _tokens(pattern[start:position])
            yield _DEEP
            position += 3 if pattern.startswith("/", position + 2) else 2
            start = position
        elif pattern[position] == "[":
            _, position = _read_class(pattern, position + 1)
        else:
            position += 2 if pattern[position] == "\\" else 1
    yield from _tokens(pattern[start:])


# --- writing ----------------------------------------------------------------------------------


def _within_names(tokens: Sequence[_Token], *, is_last: bool) -> Iterator[str]:
    """The expression of tokens without `**`.

    What follows a star is found at the first place where it is, and stays there, as in Go; only
    what follows the last star of a pattern must reach the end.
    """
    chunks: list[list[str]] = [[]]
    for token in tokens:
        if token is _STAR:
            chunks.append([])
        else:
            chunks[-1].append(token.expression)
    yield "".join(chunks[0])
    for number, chunk in enumerate(chunks[1:], 1):
        if number == len(chunks) - 1 and is_last:
            yield "[^/]*?" + "".join(chunk)
        elif chunk:  # stars in a row are one
            yield f"(?>[^/]*?{''.join(chunk)})"


def _simple_deep_match(pattern: str) -> PathMatcher | None:
    """The two plain forms that moby compares as text: `**` before or behind all the rest."""
    if pattern.startswith("**"):
        suffix = pattern[2:]
        if has_wildcards(suffix) or "\\" in suffix:
            return None
        if suffix.startswith("/"):
            return lambda path: path.endswith(suffix) or path == suffix[1:]
        return lambda path: path.endswith(suffix)
    if pattern.endswith("**"):
        prefix = pattern[:-2]
        if has_wildcards(prefix) or "\\" in prefix:
            return None
        return lambda path: path.startswith(prefix)
    return None


def _may_commit(tokens: Sequence[_Token]) -> bool:
    """Whether the first place where a part matches is never the wrong one.

    That needs whole names before each `**`, and no class that crosses into the next name.
    """
    return not any(
        token.may_be_slash or (token is _DEEP and number and tokens[number - 1] is not _SLASH)
        for number, token in enumerate(tokens)
    )


def _deep_expression(tokens: Sequence[_Token]) -> str:
    blocks: list[list[_Token]] = [[]]
    for token in tokens:
        if token is _DEEP:
            blocks.append([])
        else:
            blocks[-1].append(token)
    is_only = len(blocks) == 1
    parts = list(_within_names(blocks[0], is_last=is_only))
    for number, block in enumerate(blocks[1:], 1):
        is_last = number == len(blocks) - 1
        if is_last and not block:
            parts.append(".*")
            continue
        inner = "".join(_within_names(block, is_last=is_last))
        whole_names = "(?:[^/]*/)*?" + inner
        parts.append(whole_names if is_last else f"(?>{whole_names})")
    return "".join(parts)


class _StateMatcher:
    """Follows every way through a pattern at once: slow, and never slower than that."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tuple(tokens)
        self._tests: tuple[Callable[[str], object], ...] = tuple(
            re.compile(token.expression or _ANYTHING, re.DOTALL).fullmatch for token in tokens
        )

    def __call__(self, path: str, /) -> bool:
        states = self._reach({0})
        for character in path:
            states = self._reach(self._step(states, character))
            if not states:
                return False
        return len(self._tokens) in states or self._ends_deep(states)

    def _step(self, states: set[int], character: str) -> set[int]:
        following = set()
        for state in states:
            # Negative: inside of the names that a `**` takes; it may be left behind a `/` only.
            token_number = state if state >= 0 else -state - 1
            if token_number == len(self._tokens):
                continue
            token = self._tokens[token_number]
            if token is _STAR:
                if character != "/":
                    following.add(token_number)
            elif token is _DEEP:
                following.add(-token_number - 1)
                if character == "/":
                    following.add(token_number + 1)
            elif self._tests[token_number](character):
                following.add(token_number + 1)
        return following

    def _reach(self, states: set[int]) -> set[int]:
        """Add what is reached without a character: stars and `**` may stand for nothing."""
        pending = list(states)
        while pending:
            state = pending.pop()
            is_passed = 0 <= state < len(self._tokens) and self._tokens[state] in {_STAR, _DEEP}
            if is_passed and state + 1 not in states:
                states.add(state + 1)
                pending.append(state + 1)
        return states

    def _ends_deep(self, states: set[int]) -> bool:
        """A `**` at the end takes what is left, whole names or not."""
        last = len(self._tokens) - 1
        return last >= 0 and self._tokens[last] is _DEEP and -last - 1 in states
