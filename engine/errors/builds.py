"""Errors about builds."""

from __future__ import annotations

from engine.errors.kinds import EngineError, InvalidInputError, NotFoundError


class BuildNotFoundError(NotFoundError):
    """There is no such build, or it has no such step."""

    def __init__(self, what: str) -> None:
        super().__init__(f"No such build: {what}", hint="Builds are known until the program ends")
        self.what = what


class BuildStepError(EngineError):
    """A step of a build failed; the build has ended.

    Attributes:
        step_text: The instruction.
        dockerfile: Its name.
        line: Where it begins, from 1.
        position: Of the step, in the build's progress.
        step_exit_code: Of the program that it ran; None if it ran none.
        failed_image_id: An image of what it has written, if that was to be kept; else empty.
    """

    def __init__(
        self,
        message: str,
        *,
        step_text: str,
        dockerfile: str,
        line: int,
        position: int = -1,
        step_exit_code: int | None = None,
        failed_image_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.step_text = step_text
        self.dockerfile = dockerfile
        self.line = line
        self.position = position
        self.step_exit_code = step_exit_code
        self.failed_image_id = failed_image_id


class DockerfileError(InvalidInputError):
    """A Dockerfile does not say what to build; `reason` is Docker's text where it has one.

    Attributes:
        name: The file's, as it was asked for.
        line: Counted from 1.
        column: Counted from 1, in characters.
        text: The line itself, without its end.
        expected: What would have been right there.
    """

    exit_code = 1

    def __init__(
        self, name: str, *, line: int, column: int, text: str, reason: str, expected: str
    ) -> None:
        super().__init__(
            f"{name}:{line}:{column}: {reason}",
            hint=f"Expected {expected}, in: {_around(text, column)}",
        )
        self.name = name
        self.line = line
        self.column = column
        self.text = text
        self.reason = reason
        self.expected = expected


def _around(text: str, column: int) -> str:
    """The part of a line that is worth showing."""
    widest = 120
    if len(text) <= widest:
        return text.strip()
    first = max(0, min(column - 1 - widest // 2, len(text) - widest))
    end = first + widest
    return ("…" if first else "") + text[first:end] + ("…" if end < len(text) else "")
