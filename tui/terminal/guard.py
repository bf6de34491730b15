"""Takes out of a program's output what no terminal of ours may act on, before it is emulated.

Sequences that carry a text (OSC, DCS, SOS, PM, APC) can set the clipboard, notify, download keys
and fonts, or make the terminal answer with bytes that the program chose. None of them reaches the
emulator. Of one kind, the window title, the text is kept for who wants to show it. A CSI sequence
that is longer than any real one goes as well, so that nothing here or behind holds more than a few
hundred characters of an unfinished sequence.
"""

from __future__ import annotations

import re

from tui.sanitise import clean

MAXIMUM_CSI_CHARACTERS = 256
MAXIMUM_TITLE_CHARACTERS = 120
_MAXIMUM_TEXT_CHARACTERS = 1024
"""So much of a text is looked at: what it is for stands in its first characters."""

_DROPPED = re.compile(
    r"(?P<osc>\x1b\]|\x9d)"
    r"|(?P<text>\x1b[PX^_]|[\x90\x98\x9e\x9f])"
    rf"|(?P<csi>(?:\x1b\[|\x9b)[ -?]{{{MAXIMUM_CSI_CHARACTERS},}})"
)
# ECMA-48: a text ends with ST; OSC in practice also with BEL. CAN and SUB abort, and an ESC that
# begins no ST aborts and begins the next sequence (xterm, tmux).
_ENDS = {
    "osc": re.compile(r"(?P<end>\x07|\x1b\\|\x9c)|[\x18\x1a]|(?P<escape>\x1b(?=[^\\]))"),
    "text": re.compile(r"(?P<end>\x1b\\|\x9c)|[\x18\x1a]|(?P<escape>\x1b(?=[^\\]))"),
    "csi": re.compile(r"[@-~\x18\x1a]|(?P<escape>\x1b)"),
}
_UNFINISHED = re.compile(
    rf"(?:\x1b[ -/]{{0,4}}|(?:\x1b\[|\x9b)[ -?]{{0,{MAXIMUM_CSI_CHARACTERS - 1}}})\Z"
)


class SequenceGuard:
    """Filters a stream of text; sequences may be cut anywhere between two calls."""

    def __init__(self) -> None:
        self._held = ""
        self._dropping: str | None = None
        self._text = ""
        self.title = ""
        """The newest title: one clean line."""

    def filter(self, text: str) -> str:
        """Return what may be emulated; an unfinished sequence is kept for the next call."""
        text, self._held = self._held + text, ""
        kept: list[str] = []
        position = 0
        while position < len(text):
            if self._dropping is not None:
                position = self._drop(text, position)
                continue
            match = _DROPPED.search(text, position)
            if match is None:
                kept.append(self._hold_unfinished(text[position:]))
                break
            kept.append(text[position : match.start()])
            self._dropping, self._text = match.lastgroup, ""
            position = match.end()
        return "".join(kept)

    def _hold_unfinished(self, text: str) -> str:
        # Only the end is looked at: a search from the front would try every escape in the text.
        window = max(0, len(text) - MAXIMUM_CSI_CHARACTERS - 2)
        match = _UNFINISHED.search(text, window)
        if match is None:
            return text
        self._held = match.group()
        return text[: match.start()]

    def _drop(self, text: str, position: int) -> int:
        kind = self._dropping or "text"
        match = _ENDS[kind].search(text, position)
        end = len(text) if match is None else match.start()
        if match is None and text.endswith("\x1b") and kind != "csi":
            end -= 1  # what follows says whether it ends the text
            self._held = "\x1b"
        room = _MAXIMUM_TEXT_CHARACTERS - len(self._text)
        self._text += text[position : min(end, position + room)]
        if match is None:
            return len(text)
        if kind == "osc" and match.lastgroup == "end":
            self._take_title()
        self._dropping = None
        return match.start() if match.lastgroup == "escape" else match.end()

    def _take_title(self) -> None:
        number, _, title = self._text.partition(";")
        if number in ("0", "2"):
            self.title = clean(title, limit=MAXIMUM_TITLE_CHARACTERS)
