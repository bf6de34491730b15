"""Variables in the words of instructions that are about to run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from engine.build.instructions import AddInstruction, Definition, FilesInstruction
from engine.build.mounts import MountError, resolve_mount
from engine.build.spans import Position, Word
from engine.build.words import WordError, expand, expand_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.build.instructions import PairsInstruction
    from engine.build.lines import Heredoc
    from engine.build.mounts import MountFlag, RunMount
    from engine.build.spans import Source
    from engine.build.words import Expansion
    from engine.errors import DockerfileError

_Files = TypeVar("_Files", bound=FilesInstruction)


class Expander:
    """Gives words of a Dockerfile what they come to at one place of the build.

    Attributes:
        used: Names of variables that were asked for and had a value.
        unset: Names of variables that had none, where nothing was written for that case.
    """

    def __init__(self, source: Source, variables: Mapping[str, str], *, escape: str = "\\") -> None:
        """Begin with nothing asked for.

        Args:
            source: The file, for errors.
            variables: Those that are set at this place.
            escape: What escapes in the file's words.
        """
        self._source = source
        self._variables = variables
        self._escape = escape
        self.used: set[str] = set()
        self.unset: set[str] = set()

    def text(self, word: Word) -> str:
        """What a word comes to.

        Raises:
            DockerfileError: It is malformed, or needs a variable that has no value.
        """
        try:
            return self._noted(expand(word.text, self._variables, escape=self._escape)).text
        except WordError as error:
            raise self._error(word, error) from None

    def word(self, word: Word) -> Word:
        """A word that says what it comes to, where it was written.

        Raises:
            DockerfileError: It is malformed, or needs a variable that has no value.
        """
        return Word(text=self.text(word), span=word.span)

    def texts(self, word: Word) -> tuple[str, ...]:
        """What a word comes to, divided at spaces that were not quoted.

        Raises:
            DockerfileError: It is malformed, or needs a variable that has no value.
        """
        try:
            return self._noted(expand(word.text, self._variables, escape=self._escape)).words
        except WordError as error:
            raise self._error(word, error) from None

    def pairs(self, instruction: PairsInstruction) -> tuple[tuple[str, str], ...]:
        """Names and values of ENV or LABEL; all see the variables of before the instruction.

        Raises:
            DockerfileError: A word is malformed, a name comes to nothing.
        """
        return tuple(self._pair(definition) for definition in instruction.definitions)

    def files(self, instruction: _Files) -> _Files:
        """COPY or ADD with everything that the builder expands expanded.

        Raises:
            DockerfileError: A word is malformed, or needs a variable that has no value.
        """
        expanded = replace(
            instruction,
            sources=tuple(self.word(word) for word in instruction.sources),
            heredocs=tuple(self._heredoc(heredoc) for heredoc in instruction.heredocs),
            destination=self.word(instruction.destination),
            owner=self._optional(instruction.owner),
            mode=self._optional(instruction.mode),
        )
        if isinstance(expanded, AddInstruction):
            return replace(expanded, checksum=self._optional(expanded.checksum))
        return expanded

    def mount(self, flag: MountFlag) -> RunMount:
        """A mount of RUN whose values are what they come to.

        Raises:
            DockerfileError: A value is malformed, or none that the mount can have.
        """
        try:
            return resolve_mount(flag, self._mount_value)
        except WordError as error:
            raise self._source.error(
                flag.word.span.start, error.reason, expected=error.expected
            ) from None
        except MountError as error:
            raise self._source.error(
                flag.word.span.start, error.reason, expected=error.expected
            ) from None

    def _mount_value(self, text: str) -> str:
        return self._noted(expand(text, self._variables, escape=self._escape)).text

    def _pair(self, definition: Definition) -> tuple[str, str]:
        name = self.text(definition.name)
        if not name:
            raise self._source.error(
                definition.name.span.start, "names can not be blank", expected="a name"
            )
        return name, self.text(definition.value) if definition.value else ""

    def _optional(self, word: Word | None) -> Word | None:
        return None if word is None else self.word(word)

    def _heredoc(self, heredoc: Heredoc) -> Heredoc:
        if not heredoc.expands:
            return heredoc
        try:
            expansion = expand_text(heredoc.body, self._variables)
        except WordError as error:
            line = heredoc.body_span.start.line + heredoc.body[: error.offset].count("\n")
            raise self._source.error(
                Position(line, 1), error.reason, expected=error.expected
            ) from None
        return replace(heredoc, body=self._noted(expansion).text)

    def _noted(self, expansion: Expansion) -> Expansion:
        self.used |= expansion.used
        self.unset |= expansion.unset
        return expansion

    def _error(self, word: Word, error: WordError) -> DockerfileError:
        start = word.span.start
        if start.line == word.span.end.line:
            start = Position(start.line, start.column + error.offset)
        return self._source.error(start, error.reason, expected=error.expected)
