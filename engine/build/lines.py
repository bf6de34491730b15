"""The lines of a Dockerfile: parser directives, comments, continuation, here-documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.build.spans import LogicalLine, Position, Source, Span, Word
from engine.build.words import SPACE, WordError, expand, shell_words
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE_BYTES = 65_535
"""Docker's builder refuses longer ones; lines that continue each other may be longer together."""

_BYTE_ORDER_MARK = "\ufeff"
_LEADING_SPACE = re.compile(f"[{SPACE}]*")
_DIRECTIVE = re.compile(r"#[\t\n\f\r ]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.*)")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """`# name=value` at the top of the file.

    Attributes:
        name: `syntax`, `escape` or `check`.
        value: As it was written.
    """

    name: str
    value: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document.

    Attributes:
        name: The word that ends it, without quotes.
        body: The lines before that one; tabs at their beginnings are gone when `strips_tabs`.
        raw_body: As they were written.
        expands: Variables in the body are replaced: nothing of the name was quoted.
        strips_tabs: It was written `<<-`.
        descriptor: The number before `<<`, 0 without one.
        span: Of the word on the instruction's own line.
        body_span: Of the body and the line that ends it.
    """

    name: str
    body: str
    raw_body: str
    expands: bool
    strips_tabs: bool
    descriptor: int
    span: Span
    body_span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class HeredocWord:
    """`<<NAME`, whose body is still to come."""

    name: str
    expands: bool
    strips_tabs: bool
    descriptor: int


class InstructionLine(LogicalLine):
    """One instruction, without what its here-documents say.

    Attributes:
        comments: What the comments directly above say.
        blank_continuations: Numbers of blank lines between lines that continue each other.
    """

    def __init__(
        self,
        source: Source,
        pieces: list[tuple[int, int, str]],
        *,
        comments: tuple[str, ...] = (),
        blank_continuations: tuple[int, ...] = (),
    ) -> None:
        super().__init__(source, pieces)
        self.comments = comments
        self.blank_continuations = blank_continuations


def heredoc_word(text: str) -> HeredocWord | None:
    """What a word of a shell says as the beginning of a here-document; None when it is none."""
    match = _HEREDOC.fullmatch(text)
    if match is None:
        return None
    descriptor, dash, quoted = match.groups()
    try:
        names = expand(quoted, _Itself()).words
    except WordError:
        return None
    if len(names) != 1:
        return None
    return HeredocWord(
        name=names[0],
        expands=names[0] == quoted,
        strips_tabs=bool(dash),
        descriptor=int(descriptor or "0"),
    )


class _Itself(Mapping[str, str]):
    """Every variable stands for its own name, as in `<<$END`."""

    def __getitem__(self, name: str) -> str:
        return f"${name}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class LineReader:
    """Reads instructions one after the other.

    Attributes:
        directives: Those that were read; complete with the first instruction.
        escape: What continues a line, and escapes in words.
    """

    def __init__(self, data: bytes, *, name: str, escape: str = "\\") -> None:
        """Read.

        Raises:
            DockerfileError: A line is too long.
        """
        text = data.decode("utf-8", "surrogateescape").removeprefix(_BYTE_ORDER_MARK)
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        self.source = Source(name, lines)
        self.escape = escape
        self.directives: tuple[Directive, ...] = ()
        self._next = 0
        self._takes_directives = True
        for number, line in enumerate(lines, 1):
            if len(line) * 4 > LONGEST_LINE_BYTES:
                size = len(line.encode("utf-8", "surrogateescape"))
                if size > LONGEST_LINE_BYTES:
                    raise self.source.error(
                        Position(number, 1),
                        f"dockerfile line greater than max allowed size of {LONGEST_LINE_BYTES}",
                        expected=f"{size} bytes divided over lines that end with {escape}",
                    )

    @property
    def last_line(self) -> int:
        """The number of the line that was read last."""
        return self._next

    def instructions(self) -> Iterator[InstructionLine]:
        """Every instruction; whoever takes one reads its here-documents before the next.

        Raises:
            DockerfileError: A parser directive is wrong.
        """
        comments: list[str] = []
        while (piece := self._piece(is_first=True)) is not None:
            number, column, text = piece
            if text.startswith("#"):
                if self._takes_directives:
                    self._take_directive(number, column, text)
                comment = text[1:].strip(SPACE)
                comments = [*comments, comment] if comment else []
                continue
            self._takes_directives = False
            text, continues = self._without_continuation(text)
            if not text and not continues:
                comments = []
                continue
            pieces = [(number, column, text)]
            blank: list[int] = []
            while continues and (piece := self._piece(is_first=False)) is not None:
                number, column, text = piece
                content = text.lstrip(SPACE)
                if content.startswith("#"):
                    continue
                if not content:
                    blank.append(number)
                    continue
                text, continues = self._without_continuation(text)
                pieces.append((number, column, text))
            line = InstructionLine(
                self.source,
                pieces,
                comments=tuple(comments),
                blank_continuations=tuple(blank),
            )
            comments = []
            if line.text.strip(SPACE):
                yield line

    def heredoc(self, line: LogicalLine, start: int, end: int, word: HeredocWord) -> Heredoc:
        """Read the body of a here-document whose word is at those offsets of a line.

        Raises:
            DockerfileError: It does not end.
        """
        lines = self.source.lines
        first = self._next
        while self._next < len(lines):
            text = lines[self._next].rstrip("\r")
            self._next += 1
            if (text.lstrip("\t") if word.strips_tabs else text) == word.name:
                break
        else:
            raise line.error(
                start, "unterminated heredoc", expected=f"a line that is {word.name} and no more"
            )
        body = [f"{text}\n" for text in lines[first : self._next - 1]]
        raw = "".join(body)
        return Heredoc(
            name=word.name,
            body="".join(text.lstrip("\t") for text in body) if word.strips_tabs else raw,
            raw_body=raw,
            expands=word.expands,
            strips_tabs=word.strips_tabs,
            descriptor=word.descriptor,
            span=line.span(start, end),
            body_span=Span(
                Position(first + 1, 1), Position(self._next, len(lines[self._next - 1]) + 1)
            ),
        )

    def _piece(self, *, is_first: bool) -> tuple[int, int, str] | None:
        if self._next == len(self.source.lines):
            return None
        text = self.source.lines[self._next].rstrip("\r")
        self._next += 1
        column = 1
        if is_first:
            match = _LEADING_SPACE.match(text)
            indentation = match.end() if match else 0
            column += indentation
            text = text[indentation:]
        return self._next, column, text

    def _without_continuation(self, text: str) -> tuple[str, bool]:
        stripped = text.rstrip(" \t")
        if not stripped.endswith(self.escape) or stripped.endswith(self.escape * 2):
            return text, False
        return stripped[:-1], True

    def _take_directive(self, number: int, column: int, text: str) -> None:
        match = _DIRECTIVE.fullmatch(text)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES or not match[2].strip():
            self._takes_directives = False
            return
        start = Position(number, column + match.start(2))
        value = match[2].rstrip("\t\n\f\r ")
        if any(each.name == name for each in self.directives):
            raise self.source.error(
                Position(number, column),
                f"only one {name} parser directive can be used",
                expected="one of them to be removed",
            )
        if name == "escape" and value not in ("\\", "`"):
            raise self.source.error(
                start,
                f"invalid escape token '{value}' does not match ` or \\",
                expected="` or \\",
            )
        if name == "escape":
            self.escape = value
        word = Word(text=value, span=Span(start, Position(number, start.column + len(value))))
        self.directives = (*self.directives, Directive(name=name, value=word))


def heredoc_words(text: str, start: int) -> list[tuple[int, int, HeredocWord]]:
    """The here-documents that an instruction's line begins.

    Args:
        text: The line.
        start: Where its arguments begin.

    Returns:
        Offsets of the word, and what it says.
    """
    if "<<" not in text:
        return []
    found: list[tuple[int, int, HeredocWord]] = []
    for offset, word in shell_words(text[start:]):
        if (begun := heredoc_word(word)) is not None:
            found.append((start + offset, start + offset + len(word), begun))
    return found
