"""Copying by OSC 52: the terminal at the person's end holds the clipboard, also over SSH.

There is no answer to the sequence, so nothing here claims that a copy arrived. tmux and screen
swallow it unless it is wrapped in their pass-through (tmux 3.3 wants `allow-passthrough on`; the
bare sequence is sent to tmux as well, which takes it itself with `set-clipboard on`).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAXIMUM_BYTES = 74_994
"""Longest text that terminals take: xterm's 100,000 bytes of sequence, in base64."""

_SCREEN_CHUNK_CHARACTERS = 250  # screen drops a device control string over 256 bytes


class ClipboardLimitError(ValueError):
    """The text is longer than what a terminal takes."""


def copy_sequence(text: str, environment: Mapping[str, str]) -> str:
    """Build the sequence that asks the terminal to take `text` into its clipboard.

    Raises:
        ClipboardLimitError: The text is over MAXIMUM_BYTES.
    """
    content = text.encode("utf-8", "replace")
    if len(content) > MAXIMUM_BYTES:
        raise ClipboardLimitError(f"{len(content)} bytes are too many for the terminal's clipboard")
    bare = f"\x1b]52;c;{base64.b64encode(content).decode('ascii')}\x07"
    if environment.get("TMUX"):
        return bare + "\x1bPtmux;" + bare.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if environment.get("TERM", "").startswith("screen"):
        return "".join(
            f"\x1bP{bare[start : start + _SCREEN_CHUNK_CHARACTERS]}\x1b\\"
            for start in range(0, len(bare), _SCREEN_CHUNK_CHARACTERS)
        )
    return bare
