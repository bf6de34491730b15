"""Sessions: a connection to a program in a container, with or without a terminal."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.types.identity import OutputStream


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSize:
    """The size of a terminal in characters."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A program to run in a container that runs; None means: as the container has it."""

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    """`NAME=value`; added to the container's, the last one wins."""
    working_directory: str | None = None
    user: str | None = None
    has_terminal: bool = False
    is_stdin_open: bool = False
    is_privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutput:
    """Bytes as the program wrote them; a terminal's are all of stdout.

    Attributes:
        is_replay: They were written before this session began.
    """

    stream: OutputStream
    data: bytes
    is_replay: bool = False
