"""Errors of what builds read."""

from __future__ import annotations

from engine.errors.kinds import ConflictError, EngineError, InvalidInputError, NotFoundError


class PathPatternError(InvalidInputError):
    """A pattern of paths is malformed; the text is Go's."""

    exit_code = 1

    def __init__(self, pattern: str, *, place: str = "") -> None:
        about = f"{place}: " if place else ""
        super().__init__(
            f"{about}syntax error in pattern: {pattern!r}",
            hint="`[` opens a class that `]` ends, and `\\` is followed by what it stands for",
        )
        self.pattern = pattern
        self.place = place


class IgnoreFileError(InvalidInputError):
    """A .dockerignore cannot be used; `file:line` says where."""

    exit_code = 1


class BuildSourceNotFoundError(NotFoundError):
    """What COPY or ADD is to copy is not there; the text is BuildKit's.

    Attributes:
        path: As the Dockerfile has it.
        ignored_by: `file:line` and the pattern that leaves it out of the context, or empty.
    """

    def __init__(self, path: str, *, where: str, ignored_by: str = "", leads_to: str = "") -> None:
        """Say what is missing.

        Args:
            path: As the Dockerfile has it.
            where: What was looked in: `the build context`, `stage build`.
            ignored_by: As the attribute.
            leads_to: Target of the link that is at the path; empty if there is none.
        """
        hint = f"A source is a path in {where}; links lead nowhere else"
        if ignored_by:
            hint = f"{ignored_by} leaves it out of the build context"
        target = f", where it is a link to {leads_to}" if leads_to else ""
        super().__init__(f'"{path}": not found in {where}{target}', hint=hint)
        self.path = path
        self.ignored_by = ignored_by


class BuildSourceChangedError(ConflictError):
    """A file became another while it was read: what was seen of it would be half of each."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} changed while it was read",
            hint="Build again when nothing writes there, or leave it out in .dockerignore",
        )
        self.path = path


class BuildCopyError(ConflictError):
    """Sources and destination of COPY or ADD do not fit each other."""


class BuildDownloadError(EngineError):
    """What ADD is to fetch cannot be had, or is not what it should be."""

    def __init__(self, address: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"failed to load {address}: {reason}", hint=hint)
        self.address = address
        self.reason = reason
