"""One instruction's text, divided: name, options, arguments, here-documents."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from engine.build.flags import Flags, checked_flags, read_flags
from engine.build.instructions import CommandLine, Definition, Origin
from engine.build.spans import Span, Word
from engine.build.words import SPACE, quoted_words

if TYPE_CHECKING:
    from engine.build.flags import FlagKind
    from engine.build.lines import Heredoc, InstructionLine
    from engine.errors import DockerfileError

_BLANKS = "\t\v\f\r "
_WORD = re.compile(f"[^{_BLANKS}]+")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SURROGATES = re.compile("[\ud800-\udfff]")


class Statement:
    """An instruction whose arguments are still text.

    Attributes:
        line: Where it stands.
        keyword: Its name as it was written.
        start: Where its arguments begin in the line's text.
        end: Where they end.
        heredocs: Its here-documents, for whoever found that it can have some.
    """

    def __init__(self, line: InstructionLine, start: int, *, escape: str) -> None:
        """Divide what stands in a line from `start` on."""
        text = line.text
        self.line = line
        self.escape = escape
        self.end = len(text.rstrip(SPACE))
        self.first = start + len(text[start:]) - len(text[start:].lstrip(SPACE))
        match = _WORD.match(text, self.first, self.end)
        keyword_end = match.end() if match else self.first
        self.keyword = line.word(self.first, keyword_end)
        self.flags, self.start = read_flags(line, keyword_end)
        self.start = min(self.start, self.end)
        self.heredocs: tuple[Heredoc, ...] = ()

    @property
    def name(self) -> str:
        """The instruction's name in capitals."""
        return self.keyword.text.upper()

    @property
    def rest(self) -> str:
        """The arguments as they were written."""
        return self.line.text[self.start : self.end]

    def origin(self) -> Origin:
        """How it was written."""
        span = self.line.span(self.first, self.end)
        if self.heredocs:
            span = Span(span.start, self.heredocs[-1].body_span.end)
        return Origin(
            keyword=self.keyword,
            span=span,
            text=self.line.text[self.first : self.end],
            flags=self.flags,
            comments=self.line.comments,
            blank_lines=self.line.blank_continuations,
        )

    def error(
        self, reason: str, *, expected: str, at: Word | None = None, offset: int | None = None
    ) -> DockerfileError:
        """What is wrong with a word, at an offset, or with the arguments altogether."""
        if at is not None:
            return self.line.source.error(at.span.start, reason, expected=expected)
        where = self.start if offset is None else offset
        return self.line.error(where, reason, expected=expected)

    def checked_flags(self, *kinds: FlagKind) -> Flags:
        """The options, held against those that the instruction has.

        Raises:
            DockerfileError: One is unknown, given twice, or has no right value.
        """
        return checked_flags(self.line, self.flags, kinds)

    def words(self) -> tuple[Word, ...]:
        """The arguments, divided at blanks; quotes mean nothing."""
        return tuple(
            self.line.word(match.start(), match.end())
            for match in _WORD.finditer(self.line.text, self.start, self.end)
        )

    def only_word(self) -> Word:
        """All of the arguments as one word.

        Raises:
            DockerfileError: There are none.
        """
        if self.start == self.end:
            raise self.error(f"{self.name} requires exactly one argument", expected="an argument")
        return self.line.word(self.start, self.end)

    def json_words(self, start: int | None = None) -> tuple[Word, ...] | None:
        """The arguments as a JSON array of texts; None when they are no JSON array.

        Raises:
            DockerfileError: They are an array of other things than texts.
        """
        first = self.start if start is None else start
        text = self.line.text[first : self.end]
        if not text.startswith("["):
            return None
        try:
            values: object = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise self.error(
                "when using JSON array syntax, arrays must be comprised of strings only",
                expected='an array of texts in double quotes, ["like", "this"]',
                offset=first,
            )
        places = _JSON_STRING.finditer(self.line.text, first, self.end)
        return tuple(
            Word(
                text=_SURROGATES.sub("\ufffd", value),
                span=self.line.span(match.start(), match.end()),
            )
            for value, match in zip(values, places, strict=True)
        )

    def json_or_words(self) -> tuple[Word, ...]:
        """A JSON array of texts, or words divided at blanks.

        Raises:
            DockerfileError: It is an array of other things than texts.
        """
        words = self.json_words()
        return self.words() if words is None else words

    def command_line(self, start: int | None = None) -> CommandLine:
        """The arguments as a command in exec form or shell form.

        Raises:
            DockerfileError: They are an array of other things than texts.
        """
        first = self.start if start is None else start
        words = self.json_words(first)
        if words is not None:
            return CommandLine(words=words, is_exec=True)
        text = (self.line.word(first, self.end),) if first < self.end else ()
        return CommandLine(
            words=text,
            is_exec=False,
            heredocs=self.heredocs,
            starts_like_json=self.line.text.startswith("[", first),
        )

    def definitions(self) -> tuple[Definition, ...]:
        """`name=value` or a name alone, quotes and variables kept."""
        return tuple(
            self._definition(start, end)
            for start, end in quoted_words(self.line.text, self.start, self.end, escape=self.escape)
        )

    def legacy_definition(self) -> Definition:
        """`name value`, where the value is all of the rest.

        Raises:
            DockerfileError: There is no value.
        """
        match = _WORD.match(self.line.text, self.start, self.end)
        name_end = match.end() if match else self.start
        following = _WORD.search(self.line.text, name_end, self.end)
        if following is None:
            raise self.error(
                f"{self.name} must have two arguments", expected=f"{self.name} NAME=VALUE"
            )
        return Definition(
            name=self.line.word(self.start, name_end),
            value=self.line.word(following.start(), self.end),
        )

    def _definition(self, start: int, end: int) -> Definition:
        equals = self.line.text.find("=", start, end)
        if equals < 0:
            return Definition(name=self.line.word(start, end), value=None)
        if equals == start:
            raise self.error(
                f"{self.name} names can not be blank", expected="a name before =", offset=start
            )
        return Definition(name=self.line.word(start, equals), value=self.line.word(equals + 1, end))


def _refuse_constant(name: str) -> float:
    """NaN and Infinity are JSON to Python alone."""
    raise ValueError(name)
