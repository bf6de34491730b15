"""The kinds of errors that others are of."""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that the engine raises on purpose.

    Attributes:
        hint: What to do about it, one sentence, or empty.
        exit_code: What a command line that stops on this error exits with.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFoundError(EngineError):
    """What was asked for does not exist."""


class ConflictError(EngineError):
    """The request contradicts what is there now."""


class InvalidInputError(EngineError):
    """Something that a person or a file said does not make sense."""

    exit_code = 125


class RegistryError(EngineError):
    """A registry did not do what was asked of it.

    Attributes:
        registry: Its host and port, as in an image's name: `docker.io`, `localhost:5000`.
    """

    def __init__(self, registry: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.registry = registry


class HostError(EngineError):
    """The kernel, the file system or the set-up of the host refused."""


class ProcessError(EngineError):
    """One of our own processes, or the container's first one, failed."""
