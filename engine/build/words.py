"""Quoting and variables, as in the words of a shell, after the rules of Docker's builder.

The grammar is the shell's parameter expansion (POSIX.1-2017, Shell Command Language, 2.6.2), with
bash's `${name/pattern/replacement}`. Quotes are removed and variables replaced in one pass; no
command is ever run.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.build.shell_patterns import PatternError, ShellPattern
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEEPEST = 100
"""Braces within braces: more of them than anybody writes, and fewer than the stack bears."""

_SPECIAL_NAMES = "@*#?-$!0"
_NAME = re.compile(r"[^\W\d]\w*|\d+")
SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's unicode.IsSpace calls a space; Python's str.isspace knows more of them."""

_SPACES = re.compile(f"[{SPACE}]+")


class WordError(ValueError):
    """A word that cannot be read.

    Attributes:
        offset: The character of the word at which that shows.
        reason: What is wrong, as Docker's builder says it.
        expected: What would have been right.
    """

    def __init__(self, offset: int, reason: str, *, expected: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What a word came to.

    Attributes:
        text: Without quotes, variables replaced.
        words: The same, divided at every space that was not quoted.
        used: Names of variables that were asked for and had a value.
        unset: Names of variables that had none, where nothing was written for that case.
    """

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    unset: frozenset[str]


def expand(word: str, variables: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """Remove quotes and replace variables.

    Args:
        word: As it was written.
        variables: Those that are set.
        escape: The character that takes the next one's meaning away.

    Raises:
        WordError: A quote or brace is not closed, or a substitution means nothing.
    """
    return _Scanner(word, variables, escape=escape).expansion()


def expand_text(text: str, variables: Mapping[str, str]) -> Expansion:
    """Replace variables and leave quotes, as in the body of a here-document.

    Raises:
        WordError: A brace is not closed, or a substitution means nothing.
    """
    return _Scanner(text, variables, escape="\\", has_quotes=False).expansion()


def shell_words(line: str) -> list[tuple[int, str]]:
    """Divide at spaces that are not quoted; quotes and variables stay as they are.

    Returns:
        Offset and text of each word; nothing when a quote is not closed.
    """
    words: list[tuple[int, str]] = []
    start = -1
    position = 0
    while position < len(line):
        match = _SHELL_PIECE.match(line, position)
        if match is None:
            return []
        is_space = match.lastgroup == "space"
        if is_space and start >= 0:
            words.append((start, line[start:position]))
            start = -1
        elif not is_space and start < 0:
            start = position
        position = match.end()
    if start >= 0:
        words.append((start, line[start:]))
    return words


_SHELL_PIECE = re.compile(
    rf"(?P<space>[{SPACE}]+)"
    rf"|[^{SPACE}'\"\\]+"
    r"|'[^']*'"
    r'|"(?:[^"\\]|\\.)*"'
    r"|\\(?:.|$)",
    re.DOTALL,
)


def quoted_words(text: str, start: int, end: int, *, escape: str) -> list[tuple[int, int]]:
    """Divide at spaces that are neither quoted nor escaped; an escape at the end is dropped.

    A quote that is not closed reaches to the end: expanding the word will tell.

    Returns:
        Where each word begins and ends.
    """
    words: list[tuple[int, int]] = []
    begun = -1
    position = start
    piece = _quoted_piece(escape)
    while position < end and (match := piece.match(text, position, end)) is not None:
        if match.lastgroup == "space":
            if begun >= 0:
                words.append((begun, position))
            begun = -1
        elif begun < 0:
            begun = position
        position = match.end()
    if begun >= 0:
        if _ends_with_escape(text[begun:end], escape):
            end -= 1
        if begun < end:
            words.append((begun, end))
    return words


@lru_cache(maxsize=2)
def _quoted_piece(escape: str) -> re.Pattern[str]:
    escape = re.escape(escape)
    return re.compile(
        rf"(?P<space>[{SPACE}]+)"
        rf"|[^{SPACE}'\"{escape}]+"
        r"|'[^']*(?:'|$)"
        rf'|"(?:[^"{escape}]|{escape}.)*(?:"|{escape}?$)'
        rf"|{escape}(?:.|$)",
        re.DOTALL,
    )


def _ends_with_escape(word: str, escape: str) -> bool:
    """Whether the last character escapes one that is not there."""
    quote = ""
    position = 0
    while position < len(word):
        character = word[position]
        if character == escape and quote != "'":
            if position + 1 == len(word):
                return True
            position += 1
        elif character == quote:
            quote = ""
        elif not quote and character in ("'", '"'):
            quote = character
        position += 1
    return False


@lru_cache(maxsize=64)
def _plain(escape: str, stop: str, *, has_quotes: bool) -> re.Pattern[str]:
    """Characters that mean nothing but themselves."""
    quotes = "'\"" if has_quotes else ""
    return re.compile(f"[^{re.escape(escape + stop + quotes)}$]+")


class _Scanner:
    """One pass over a word."""

    def __init__(
        self, text: str, variables: Mapping[str, str], *, escape: str, has_quotes: bool = True
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._has_quotes = has_quotes
        self._position = 0
        self._depth = 0
        self._used: set[str] = set()
        self._unset: set[str] = set()

    def expansion(self) -> Expansion:
        pieces = self._pieces_until("", keeps_escapes=False)
        return Expansion(
            text="".join(text for text, _divides in pieces),
            words=_divided(pieces),
            used=frozenset(self._used),
            unset=frozenset(self._unset),
        )

    def _pieces_until(self, stop: str, *, keeps_escapes: bool) -> list[tuple[str, bool]]:
        """Read to the character `stop`, or to the end when it is empty.

        Returns:
            Texts, and whether spaces in them divide words.
        """
        start = self._position
        plain = _plain(self._escape, stop, has_quotes=self._has_quotes)
        pieces: list[tuple[str, bool]] = []
        while self._position < len(self._text):
            if match := plain.match(self._text, self._position):
                self._position = match.end()
                pieces.append((match.group(), True))
                continue
            character = self._text[self._position]
            if character == stop:
                self._position += 1
                return pieces
            if character == "$":
                pieces.append((self._variable(), True))
            elif character == self._escape:
                pieces.append((self._escaped(keeps_escapes=keeps_escapes), False))
            elif character == "'":
                pieces.append((self._single_quoted(), False))
            else:
                pieces.append((self._double_quoted(keeps_escapes=keeps_escapes), False))
        if stop:
            raise WordError(
                start,
                f"syntax error: missing {stop!r}" + (" in ${}" if stop == "/" else ""),
                expected=f"{stop} after this",
            )
        return pieces

    def _text_until(self, stop: str, *, keeps_escapes: bool) -> str:
        pieces = self._pieces_until(stop, keeps_escapes=keeps_escapes)
        return "".join(text for text, _divides in pieces)

    def _escaped(self, *, keeps_escapes: bool) -> str:
        """An escape and what follows it; at the end of the word it is dropped."""
        follows = self._text[self._position + 1 : self._position + 2]
        self._position += 1 + len(follows)
        return self._escape + follows if keeps_escapes else follows

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            raise WordError(
                self._position,
                "unexpected end of statement while looking for matching single-quote",
                expected="a second ' on this instruction",
            )
        quoted = self._text[self._position + 1 : end]
        self._position = end + 1
        return quoted

    def _double_quoted(self, *, keeps_escapes: bool) -> str:
        start = self._position
        self._position += 1
        plain = _plain(self._escape, '"', has_quotes=False)
        texts: list[str] = []
        while self._position < len(self._text):
            if match := plain.match(self._text, self._position):
                self._position = match.end()
                texts.append(match.group())
                continue
            character = self._text[self._position]
            if character == '"':
                self._position += 1
                return "".join(texts)
            if character == "$":
                texts.append(self._variable())
                continue
            follows = self._text[self._position + 1 : self._position + 2]
            if follows and follows in f'"${self._escape}':
                texts.append(self._escaped(keeps_escapes=keeps_escapes))
            else:
                # What need not be escaped keeps its escape, between double quotes.
                texts.append(character)
                self._position += 1
        raise WordError(
            start,
            "unexpected end of statement while looking for matching double-quote",
            expected='a second " on this instruction',
        )

    def _name(self) -> str:
        if match := _NAME.match(self._text, self._position):
            self._position = match.end()
            return match.group()
        character = self._text[self._position : self._position + 1]
        if character and character in _SPECIAL_NAMES:
            self._position += 1
            return character
        return ""

    def _value(self, name: str, *, has_substitute: bool = False) -> str | None:
        value = self._variables.get(name)
        if value is not None:
            self._used.add(name)
        elif not has_substitute:
            self._unset.add(name)
        return value

    def _variable(self) -> str:
        """What stands at a dollar sign: a variable, or the sign itself."""
        start = self._position
        self._position += 1
        if not self._text.startswith("{", self._position):
            name = self._name()
            return (self._value(name) or "") if name else "$"
        if self._depth == _DEEPEST:
            raise WordError(
                start,
                "syntax error: substitutions within substitutions",
                expected=f"at most {_DEEPEST} of them",
            )
        self._depth += 1
        self._position += 1
        value = self._braced(start)
        self._depth -= 1
        return value

    def _braced(self, start: int) -> str:
        follows = self._text[self._position : self._position + 1]
        if not follows:
            raise WordError(start, "syntax error: missing '}'", expected="} after the name")
        if follows in "{}:":
            raise WordError(
                start, "syntax error: bad substitution", expected="a name after ${, as in ${name}"
            )
        name = self._name()
        operator = self._text[self._position : self._position + 1]
        self._position += 1
        if operator == "}":
            return self._value(name) or ""
        if operator == "/":
            return self._replacement(name, start)
        ignores_empty = operator == ":"
        if ignores_empty:
            operator = self._text[self._position : self._position + 1]
            self._position += 1
        if operator in ("-", "+", "?"):
            word = self._text_until("}", keeps_escapes=False)
            return self._conditional(name, operator, word, start, ignores_empty=ignores_empty)
        if operator in ("#", "%") and not ignores_empty:
            return self._trimmed(name, operator, start)
        if not operator:
            raise WordError(start, "syntax error: missing '}'", expected="} after the name")
        modifier = f":{operator}" if ignores_empty else operator
        raise WordError(
            start,
            f"unsupported modifier ({modifier}) in substitution",
            expected="one of :- - :+ + :? ? # ## % %% / //",
        )

    def _conditional(
        self, name: str, operator: str, word: str, start: int, *, ignores_empty: bool
    ) -> str:
        """`${name-word}`, `${name+word}` and `${name?word}`, with or without a colon."""
        value = self._value(name, has_substitute=True)
        has_value = bool(value) if ignores_empty else value is not None
        if operator == "+":
            return word if has_value else ""
        if value is not None and has_value:
            return value
        if operator == "-":
            return word
        what = "unset" if value is None else "empty"
        raise WordError(
            start,
            f"{name}: {word or f'is not allowed to be {what}'}",
            expected=f"a value of {name}, from ARG, ENV or --build-arg {name}=VALUE",
        )

    def _trimmed(self, name: str, operator: str, start: int) -> str:
        """`${name#pattern}` and `${name%pattern}`; doubled the longest match is removed."""
        pattern = self._text_until("}", keeps_escapes=True)
        longest = pattern.startswith(operator)
        compiled = _compiled(pattern[1:] if longest else pattern, start)
        value = self._value(name) or ""
        if operator == "#":
            return compiled.without_prefix(value, longest=longest)
        return compiled.without_suffix(value, longest=longest)

    def _replacement(self, name: str, start: int) -> str:
        """`${name/pattern/replacement}`; with two slashes at first every match is replaced."""
        everywhere = self._text.startswith("/", self._position)
        self._position += everywhere
        pattern = self._text_until("/", keeps_escapes=True)
        replacement = self._text_until("}", keeps_escapes=True)
        compiled = _compiled(pattern, start)
        return compiled.replaced(self._value(name) or "", replacement, everywhere=everywhere)


def _compiled(pattern: str, offset: int) -> ShellPattern:
    try:
        return ShellPattern(pattern)
    except PatternError as error:
        raise WordError(
            offset,
            f"invalid pattern ({pattern}) in substitution: {error}",
            expected=r"\ only before * ? \ } /",
        ) from None


def _divided(pieces: list[tuple[str, bool]]) -> tuple[str, ...]:
    words: list[str] = []
    word: list[str] = []
    for text, divides in pieces:
        if not divides:
            word.append(text)
            continue
        first, *others = _SPACES.split(text)
        word.append(first)
        for other in others:
            words.append("".join(word))
            word = [other]
    words.append("".join(word))
    return tuple(each for each in words if each)
