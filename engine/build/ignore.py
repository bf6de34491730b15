"""What a build leaves out of its context: .dockerignore, by the rules of moby's patternmatcher.

The last pattern that matches a path, or a directory that it is in, decides. So what is in an
excluded directory may still be wanted, and a walk asks `IgnoreScope.may_hold` before it turns
away from one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.patterns import clean_path, compile_deep_match
from engine.errors import IgnoreFileError, PathPatternError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.build.patterns import PathMatcher

_BYTE_ORDER_MARK = "\ufeff"
_LONGEST_LINE_BYTES = 65_535
_WILDCARDS = frozenset("*?[\\")
_SPACES = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
"""What Go's unicode.IsSpace calls so; Python's own set has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnorePattern:
    """One line of a .dockerignore.

    Attributes:
        text: Clean, relative, without the `!`.
        is_exception: It takes back what an earlier pattern leaves out.
        place: Where it is written: `.dockerignore:3`, `--exclude`.
    """

    text: str
    is_exception: bool
    place: str


def parse_ignore_file(content: bytes, *, name: str) -> tuple[IgnorePattern, ...]:
    """Read a .dockerignore.

    Args:
        content: Of the file.
        name: What errors call it.

    Raises:
        IgnoreFileError: A line is too long, or only a `!`; it is named with its number.
        PathPatternError: A pattern is malformed.
    """
    patterns = []
    text = content.decode("utf-8", "surrogateescape").removeprefix(_BYTE_ORDER_MARK)
    for number, line in enumerate(text.split("\n"), 1):
        place = f"{name}:{number}"
        if len(line) > _LONGEST_LINE_BYTES:
            raise IgnoreFileError(
                f"{place}: the line is longer than {_LONGEST_LINE_BYTES:,} bytes",
                hint="A pattern for each line leaves out files, `#` begins a comment",
            )
        pattern = None if line.startswith("#") else _parse_line(line, place)
        if pattern is not None:
            patterns.append(pattern)
    return tuple(patterns)


def parse_exclusions(texts: Iterable[str]) -> tuple[IgnorePattern, ...]:
    """Read the values of `--exclude`, which follow the same rules.

    Raises:
        IgnoreFileError: A value is only a `!`.
        PathPatternError: A pattern is malformed.
    """
    found = (_parse_line(text, "--exclude") for text in texts)
    return tuple(pattern for pattern in found if pattern is not None)


def _parse_line(line: str, place: str) -> IgnorePattern | None:
    text = line.strip(_SPACES)
    is_exception = text.startswith("!")
    if is_exception:
        text = text[1:].strip(_SPACES)
        if not text:
            raise IgnoreFileError(
                f'{place}: illegal exclusion pattern: "!"',
                hint="`!PATTERN` takes back what an earlier pattern leaves out",
            )
    if not text:
        return None
    text = clean_path(text)
    if text.startswith("/") and len(text) > 1:
        text = text[1:]
    return IgnorePattern(text=text, is_exception=is_exception, place=place)


class _CompiledPattern:
    """A pattern that is ready to match.

    Attributes:
        names: The names that begin it and have no wildcard: what it matches lies below them.
    """

    __slots__ = ("is_exception", "matches", "names", "pattern")

    def __init__(self, pattern: IgnorePattern) -> None:
        self.pattern = pattern
        self.is_exception = pattern.is_exception
        try:
            self.matches: PathMatcher = compile_deep_match(pattern.text)
        except PathPatternError as error:
            raise PathPatternError(error.pattern, place=pattern.place) from None
        names: list[str] = []
        for name in pattern.text.split("/"):
            if not _WILDCARDS.isdisjoint(name):
                break
            names.append(name)
        self.names = tuple(names)

    def may_match_below(self, names: tuple[str, ...]) -> bool:
        shared = min(len(self.names), len(names))
        return self.names[:shared] == names[:shared]


class IgnoreRules:
    """Compiled patterns, in their order.

    Attributes:
        is_empty: There are none, and nothing is left out.

    Raises:
        PathPatternError: A pattern is malformed.
    """

    def __init__(self, patterns: Iterable[IgnorePattern]) -> None:
        self._patterns = tuple(_CompiledPattern(pattern) for pattern in patterns)
        self._exceptions = tuple(each for each in self._patterns if each.is_exception)
        self.is_empty = not self._patterns

    @property
    def root(self) -> IgnoreScope:
        """The scope of the top directory, which nothing leaves out."""
        return IgnoreScope(self, "", frozenset(), is_ignored=False)

    def deciding_pattern(self, path: str) -> IgnorePattern | None:
        """The pattern because of which a path is left out, or kept in spite of another."""
        decided, _ = self._look_from_top(path)
        return None if decided is None else decided.pattern

    def is_ignored(self, path: str) -> bool:
        """Whether a path (relative, clean) is left out."""
        decided, _ = self._look_from_top(path)
        return decided is not None and not decided.is_exception

    def scope_of(self, path: str) -> IgnoreScope:
        """The scope of a directory, by its path from the top; empty is the top."""
        scope = self.root
        if path:
            for name in path.split("/"):
                scope = scope.enter(name)
        return scope

    def _look_from_top(self, path: str) -> tuple[_CompiledPattern | None, frozenset[int]]:
        # Directory by directory, as a walk comes there: the pattern `!a` takes nothing back
        # below `a` where nothing leaves out `a` itself.
        decided, matched = None, frozenset[int]()
        end = 0
        while end >= 0:
            end = path.find("/", end + 1)
            decided, matched = self._look(path if end < 0 else path[:end], matched)
        return decided, matched

    def _look(
        self, path: str, inherited: frozenset[int]
    ) -> tuple[_CompiledPattern | None, frozenset[int]]:
        """The pattern that decides about a path, and all that match it or what it is in."""
        decided = None
        is_ignored = False
        matched = inherited
        for number, each in enumerate(self._patterns):
            if number in inherited:
                decided, is_ignored = each, not each.is_exception
            elif each.is_exception is is_ignored and each.matches(path):
                decided, is_ignored = each, not each.is_exception
                matched |= {number}
        return decided, matched

    def _may_except_below(self, path: str) -> bool:
        names = tuple(path.split("/"))
        return any(each.may_match_below(names) for each in self._exceptions)


class IgnoreScope:
    """What holds for one directory of a walk; its patterns are not matched again below it.

    Attributes:
        is_ignored: The directory itself is left out.
    """

    __slots__ = ("_matched", "_prefix", "_rules", "is_ignored")

    def __init__(
        self, rules: IgnoreRules, path: str, matched: frozenset[int], *, is_ignored: bool
    ) -> None:
        """For IgnoreRules and itself."""
        self._rules = rules
        self._prefix = path + "/" if path else ""
        self._matched = matched
        self.is_ignored = is_ignored

    def leaves_out(self, name: str) -> bool:
        """Whether something in the directory is left out."""
        decided, _ = self._rules._look(self._prefix + name, self._matched)
        return decided is not None and not decided.is_exception

    def enter(self, name: str) -> IgnoreScope:
        """The scope of a directory in this one."""
        path = self._prefix + name
        decided, matched = self._rules._look(path, self._matched)
        is_ignored = decided is not None and not decided.is_exception
        return IgnoreScope(self._rules, path, matched, is_ignored=is_ignored)

    @property
    def may_hold(self) -> bool:
        """Whether anything below can be wanted."""
        return not self.is_ignored or self._rules._may_except_below(self._prefix[:-1])
