"""What a program switches on in a real terminal, to be switched off when it is left."""

from __future__ import annotations

import re

# Private modes that a program may leave behind, with what switches each back.
_RESTORING = {
    1: "l", 7: "h", 25: "h", 9: "l", 1000: "l", 1001: "l", 1002: "l", 1003: "l", 1004: "l",
    1005: "l", 1006: "l", 1015: "l", 1016: "l", 2004: "l", 2026: "l",
    # The alternate screen last: it brings back the cursor that was there before.
    47: "l", 1047: "l", 1049: "l",
}  # fmt: skip
_CHANGE = re.compile(
    rb"\x1b(?:\[\?(?P<modes>[0-9;]{1,64})(?P<value>[hl])"
    rb"|(?P<keypad>[=>])"
    rb"|\[(?P<region>[0-9;]{0,16})r"
    rb"|(?P<reset>c|\[!p))"
)
_LONGEST_CHANGE = 70


class ModeTracker:
    """Follows what a program switches on, so that it can be switched off when it is left."""

    def __init__(self) -> None:
        self._left: dict[int, None] = {}
        self._has_keypad = False
        self._has_region = False
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Look at output on its way to the terminal."""
        data = self._tail + data
        seen = 0
        for match in _CHANGE.finditer(data):
            seen = match.end()
            if match["modes"] is not None:
                self._take_modes(match["modes"], match["value"].decode())
            elif match["keypad"] is not None:
                self._has_keypad = match["keypad"] == b"="
            elif match["region"] is not None:
                self._has_region = bool(match["region"])
            else:
                self._left.clear()
                self._has_keypad = self._has_region = False
        self._tail = data[max(seen, len(data) - _LONGEST_CHANGE) :]

    def _take_modes(self, numbers: bytes, value: str) -> None:
        for number in numbers.split(b";"):
            mode = int(number or b"0")
            if mode not in _RESTORING:
                continue
            self._left.pop(mode, None)
            if value != _RESTORING[mode]:
                self._left[mode] = None

    @property
    def has_left(self) -> bool:
        """Whether something is switched on that a shell does not expect."""
        return bool(self._left) or self._has_keypad or self._has_region

    def restoring_sequence(self) -> bytes:
        """Build what brings the terminal back to where a shell expects it."""
        pieces = ["\x1b[0m\x1b(B\x0f"]
        if self._has_region:
            pieces.append("\x1b7\x1b[r\x1b8")
        if self._has_keypad:
            pieces.append("\x1b>")
        pieces += [
            f"\x1b[?{mode}{value}" for mode, value in _RESTORING.items() if mode in self._left
        ]
        return "".join(pieces).encode()
