"""Keys as the bytes that an xterm sends for them.

The program's modes choose between the two forms of the cursor keys. Nothing that a program wrote
can change what a key sends: there are no downloaded keys and no negotiated protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.terminal.model import TerminalModes

ESCAPE = "\x1b"

# xterm's ctlseqs, "PC-Style Function Keys": a final letter, or a number before a tilde.
_LETTERS = {"up": "A", "down": "B", "right": "C", "left": "D", "home": "H", "end": "F"}
_FUNCTION_LETTERS = {"f1": "P", "f2": "Q", "f3": "R", "f4": "S"}
_NUMBERS = {
    "insert": 2, "delete": 3, "pageup": 5, "pagedown": 6,
    "f5": 15, "f6": 17, "f7": 18, "f8": 19, "f9": 20, "f10": 21, "f11": 23, "f12": 24,
    "f13": 25, "f14": 26, "f15": 28, "f16": 29, "f17": 31, "f18": 32, "f19": 33, "f20": 34,
}  # fmt: skip
_PLAIN = {
    "enter": "\r", "tab": "\t", "backspace": "\x7f", "escape": ESCAPE, "space": " ",
}  # fmt: skip
# What control makes of keys that are no letters, by Textual's names.
_CONTROL = {
    "space": "\x00", "at": "\x00", "@": "\x00", "left_square_bracket": ESCAPE, "backslash": "\x1c",
    "right_square_bracket": "\x1d", "circumflex_accent": "\x1e", "underscore": "\x1f",
    "slash": "\x1f", "minus": "\x1f", "question_mark": "\x7f", "backspace": "\x08", "h": "\x08",
    "2": "\x00", "3": ESCAPE, "4": "\x1c", "5": "\x1d", "6": "\x1e", "7": "\x1f", "8": "\x7f",
    "enter": "\r", "tab": "\t", "escape": ESCAPE,
}  # fmt: skip
_MODIFIERS = {"shift": 1, "alt": 2, "meta": 2, "ctrl": 4}


def encode_key(key: str, character: str | None, modes: TerminalModes) -> bytes:
    """Encode a key by Textual's name for it; empty for a key that a terminal does not send.

    Args:
        key: Such as `a`, `up`, `ctrl+c`, `alt+x`, `shift+f5`.
        character: What it types, if it types something.
        modes: What the program asked for.
    """
    *names, base = key.split("+") if key != "+" else [key]
    modifiers = 0
    for name in names:
        if name not in _MODIFIERS:
            return b""  # super, hyper: only newer protocols have them
        modifiers |= _MODIFIERS[name]
    if base in _LETTERS:
        letter = _LETTERS[base]
        if modifiers:
            return f"{ESCAPE}[1;{1 + modifiers}{letter}".encode()
        return f"{ESCAPE}{'O' if modes.has_application_cursor else '['}{letter}".encode()
    if base in _FUNCTION_LETTERS:
        letter = _FUNCTION_LETTERS[base]
        return (
            f"{ESCAPE}[1;{1 + modifiers}{letter}" if modifiers else f"{ESCAPE}O{letter}"
        ).encode()
    if base in _NUMBERS:
        number = _NUMBERS[base]
        return f"{ESCAPE}[{number}{f';{1 + modifiers}' if modifiers else ''}~".encode()
    if base == "tab" and modifiers & 1:
        return f"{ESCAPE}[Z".encode()
    if base == "backspace" and character == "\x08":
        return b"\x08"  # ctrl+h, or a keyboard whose backspace sends it
    text = _text_of(base, character, has_control=bool(modifiers & 4))
    if text and modifiers & 2:
        text = ESCAPE + text
    return text.encode("utf-8", "replace")


def _text_of(base: str, character: str | None, *, has_control: bool) -> str:
    if has_control:
        if len(base) == 1 and base.isascii() and base.isalpha():
            return chr(ord(base.lower()) & 0x1F)
        return _CONTROL.get(base, "")
    if base in _PLAIN:
        return _PLAIN[base]
    if character and character.isprintable():
        return character
    return base if len(base) == 1 and base.isprintable() else ""


def encode_paste(text: str, modes: TerminalModes) -> bytes:
    """Encode pasted text: lines end in CR, and nothing in it can end the brackets around it."""
    text = text.replace("\r\n", "\n").replace("\n", "\r")
    text = "".join(c for c in text if c in "\t\r" or (c >= " " and not "\x7f" <= c <= "\x9f"))
    if modes.has_bracketed_paste:
        text = f"{ESCAPE}[200~{text}{ESCAPE}[201~"
    return text.encode("utf-8", "replace")
