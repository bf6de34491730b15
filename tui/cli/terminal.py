"""A program in a container on our terminal, or between our pipes: `run`, `exec`, `attach`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli import output
from tui.terminal.detach import DEFAULT_DETACH_KEYS, DetachScanner, parse_detach_keys
from tui.terminal.relay import (
    RelayEnd,
    RelayReason,
    is_terminal,
    relay_pipes,
    relay_terminal,
    terminal_size,
)

if TYPE_CHECKING:
    from engine.api import Session

__all__ = ["RelayEnd", "RelayReason", "is_terminal", "relay_session", "terminal_size"]


async def relay_session(
    session: Session, *, has_input: bool = True, detach_keys: str = DEFAULT_DETACH_KEYS
) -> RelayEnd:
    """Carry our standard input to a program and its output to ours.

    With a terminal on both sides ours is in raw mode meanwhile, its size is the program's, the
    detach keys leave, and SIGTERM, SIGHUP, SIGINT and SIGQUIT leave as well. Without one the end
    of our input is the end of the program's, and signals are the caller's business.

    Args:
        has_input: Whether our standard input is for the program.
        detach_keys: In Docker's notation; empty for the default.

    Raises:
        InvalidInputError: The detach keys make no sense.
        BrokenPipeError: Nobody reads our output.
        EngineError: The connection was lost.
    """
    scanner = DetachScanner(parse_detach_keys(detach_keys))
    if not (has_input and session.has_terminal and is_terminal(0)):
        return await relay_pipes(session, has_input=has_input)
    end = await relay_terminal(session, scanner)
    if end.reason is RelayReason.DETACHED:
        output.write_message("read escape sequence")  # Docker's words
    return end
