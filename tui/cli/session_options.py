"""Options of commands that connect us with a program in a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from tui.cli.options import Option
from tui.terminal.detach import parse_detach_keys

if TYPE_CHECKING:
    from tui.cli.options import Arguments

INTERACTIVE = Option("interactive", "i", "", "Keep its stdin open, and give it ours")
TERMINAL = Option("tty", "t", "", "Give it a terminal")
DETACH_KEYS = Option(
    "detach-keys", "", "KEYS", "What leaves it running, such as ctrl-a,d; ctrl-p,ctrl-q without it"
)


def detach_keys(arguments: Arguments) -> str:
    """The detach keys that were asked for, empty for the usual ones.

    Raises:
        InvalidInputError: They make no sense.
    """
    keys = arguments.text("detach-keys") or ""
    parse_detach_keys(keys)
    return keys


def check_terminal(*, has_input: bool, has_terminal: bool) -> None:
    """Refuse a terminal whose keys would come from something that is none.

    Raises:
        InvalidInputError: Our stdin is not a terminal; the text is Docker's.
    """
    if has_input and has_terminal and not os.isatty(0):
        raise InvalidInputError(
            "the input device is not a TTY", hint="Leave -t out to pipe something in"
        )
