"""The one place where text from outside becomes safe to draw.

Names, labels, commands, paths, log lines and error messages come from containers and images and
may hold anything. A terminal obeys escape sequences in what it is given, so every text passes
here before it is drawn: sequences are removed, other controls and the characters that reorder
text become U+FFFD, and the length is capped. Logs keep their colours: SGR sequences are parsed
into styles and are never passed on as they are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from rich.cells import cell_len
from rich.style import Style

from engine.late_dataclasses import dataclass

MAXIMUM_CHARACTERS = 4096
"""Longest text that is drawn; a line of 90,000 characters must not cost more than this one."""

# ECMA-48: CSI (7 and 8 bit), the string sequences OSC, DCS, SOS, PM, APC up to BEL or ST (or, when
# unfinished, to the end of the text: what follows was meant for the terminal), and the short ones.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$|(?=\x1b))"
    r"|\x1b[ -/]*[0-~]?"
)
_SELECT_GRAPHIC_RENDITION = re.compile(r"(?:\x1b\[|\x9b)([0-9;:]*)m")
# C0 except tab, DEL, C1, line and paragraph separators, bidirectional overrides and isolates
# (Unicode UAX 9), invisible joiners that glue cells together, tags, surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SUSPECT = re.compile(r"[^ -~]")


def clean(text: str, *, limit: int = MAXIMUM_CHARACTERS) -> str:
    """Make one line of text safe to draw.

    Tabs become spaces and a line break U+FFFD; split texts of several lines first. A text over
    the limit is cut and ends in an ellipsis.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if _SUSPECT.search(text) is None:
        return text
    text = _SEQUENCE.sub("", text)
    if "\t" in text:
        text = text.expandtabs(8)
    return _UNSAFE.sub(_REPLACEMENT, text)


def clean_lines(text: str, *, limit: int = MAXIMUM_CHARACTERS) -> tuple[str, ...]:
    """Make a text of several lines safe to draw, line by line."""
    return tuple(clean(line, limit=limit) for line in text.split("\n"))


@lru_cache(maxsize=4096)
def clean_glyph(text: str, cells: int) -> str:
    """Make what stands in one place of a terminal's screen exactly `cells` wide, and safe to draw.

    A base with marks that the layout would count as wider keeps only the base.
    """
    text = _UNSAFE.sub("", text)[:8]
    for candidate in (text, text[:1]):
        room = cells - cell_len(candidate)
        if candidate and 0 <= room < cells:
            return candidate + " " * room
    return _REPLACEMENT + " " * (cells - 1)


@dataclass(frozen=True, slots=True)
class StyledRun:
    """A piece of a line with the style that its SGR sequences gave it."""

    text: str
    style: Style


PLAIN = Style.null()


def clean_log_line(raw: bytes, *, limit: int = MAXIMUM_CHARACTERS) -> tuple[StyledRun, ...]:
    """Make a log line safe to draw and keep its colours.

    Every line begins with the default style: a container cannot colour its neighbours' lines.
    A carriage return overwrites, as it would in a terminal, so a progress bar shows its end.
    """
    text = raw[: limit * 4].decode("utf-8", "replace").rstrip("\r\n")
    if "\r" in text:
        text = text.rsplit("\r", 1)[1] or text.replace("\r", "")
    if "\x1b" not in text and "\x9b" not in text:
        return (StyledRun(clean(text, limit=limit), PLAIN),)
    runs: list[StyledRun] = []
    style = PLAIN
    room = limit
    position = 0
    for match in _SELECT_GRAPHIC_RENDITION.finditer(text):
        piece = clean(text[position : match.start()], limit=room)
        if piece:
            runs.append(StyledRun(piece, style))
            room -= len(piece)
        position = match.end()
        if room <= 1:
            return tuple(runs)
        style = _apply_graphic_rendition(style, match.group(1))
    piece = clean(text[position:], limit=room)
    if piece:
        runs.append(StyledRun(piece, style))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class _Rendition:
    color: str | None = None
    background: str | None = None
    bold: bool | None = None
    dim: bool | None = None
    italic: bool | None = None
    underline: bool | None = None
    reverse: bool | None = None
    strike: bool | None = None


_SWITCHES = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike"}
_SWITCHES_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",)}


@lru_cache(maxsize=2048)
def _apply_graphic_rendition(style: Style, parameters: str) -> Style:
    """Apply one SGR sequence (ECMA-48 8.3.117, with the 256 and true colours of xterm)."""
    rendition = _Rendition(
        color=style.color.name if style.color else None,
        background=style.bgcolor.name if style.bgcolor else None,
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        reverse=style.reverse,
        strike=style.strike,
    )
    codes = [int(part) if part else 0 for part in parameters[:64].replace(":", ";").split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            rendition = _Rendition()
        elif code in _SWITCHES:
            rendition = _with_switch(rendition, _SWITCHES[code], value=True)
        elif code in _SWITCHES_OFF:
            for name in _SWITCHES_OFF[code]:
                rendition = _with_switch(rendition, name, value=None)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            rendition = replace(rendition, color=_indexed(code - 30 if code < 90 else code - 82))
        elif 40 <= code <= 47 or 100 <= code <= 107:
            index = code - 40 if code < 100 else code - 92
            rendition = replace(rendition, background=_indexed(index))
        elif code == 39:
            rendition = replace(rendition, color=None)
        elif code == 49:
            rendition = replace(rendition, background=None)
        elif code in (38, 48):
            colour = _take_extended_colour(codes)
            if code == 38:
                rendition = replace(rendition, color=colour or rendition.color)
            else:
                rendition = replace(rendition, background=colour or rendition.background)
    return Style(
        color=rendition.color,
        bgcolor=rendition.background,
        bold=rendition.bold,
        dim=rendition.dim,
        italic=rendition.italic,
        underline=rendition.underline,
        reverse=rendition.reverse,
        strike=rendition.strike,
    )


def _with_switch(rendition: _Rendition, name: str, *, value: bool | None) -> _Rendition:
    match name:
        case "bold":
            return replace(rendition, bold=value)
        case "dim":
            return replace(rendition, dim=value)
        case "italic":
            return replace(rendition, italic=value)
        case "underline":
            return replace(rendition, underline=value)
        case "reverse":
            return replace(rendition, reverse=value)
        case _:
            return replace(rendition, strike=value)


def _indexed(index: int) -> str:
    return f"color({index})"


def _take_extended_colour(codes: list[int]) -> str | None:
    """Take the arguments of 38 or 48 off the list; None when they make no colour."""
    if len(codes) >= 2 and codes[0] == 5:
        index = codes[1]
        del codes[:2]
        return _indexed(index) if 0 <= index <= 255 else None
    if len(codes) >= 4 and codes[0] == 2:
        red, green, blue = codes[1:4]
        del codes[:4]
        if max(red, green, blue) <= 255:
            return f"#{red:02x}{green:02x}{blue:02x}"
        return None
    codes.clear()
    return None
