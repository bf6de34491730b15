"""What a registry wants to be shown: `WWW-Authenticate`, read strictly (RFC 9110, 11.6.1).

A header may hold several challenges, and a challenge several parameters, all parted by commas;
a scheme is a word that no `=` follows.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SPACE = re.compile(r"[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*)"')
_ESCAPED = re.compile(r"\\(.)")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_LONGEST_HEADER = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to show who one is.

    Attributes:
        scheme: Lower case: `bearer`, `basic`.
        parameters: By name in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read every challenge of some headers; what is malformed ends its header. Raises nothing."""
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _LONGEST_HEADER:
            found += _parse_header(header)
    return tuple(found)


def _parse_header(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = _after_commas(text, 0)
    while position < len(text):
        scheme = _TOKEN.match(text, position)
        if scheme is None:
            return found
        position = scheme.end()
        parameters: dict[str, str] = {}
        if position < len(text) and text[position] not in " \t,":
            return found  # `=` or worse right behind it: no scheme.
        position = _skip(text, position)
        lone = _TOKEN68.match(text, position)
        if lone is not None and _parameter(text, position) is None and text[position - 1] in " \t":
            position = lone.end()
        while (parameter := _parameter(text, position)) is not None:
            name, value, position = parameter
            if name in parameters:
                return found
            parameters[name] = value
            position = _skip(text, position)
            if position < len(text) and text[position] != ",":
                return found
            after = _after_commas(text, position)
            if _parameter(text, after) is None:
                break
            position = after
        found.append(Challenge(scheme=scheme.group().lower(), parameters=parameters))
        position = _skip(text, position)
        if position < len(text) and text[position] != ",":
            return found
        position = _after_commas(text, position)
    return found


def _parameter(text: str, position: int) -> tuple[str, str, int] | None:
    """`name=value` at a position, and where it ends; None if there is none."""
    name = _TOKEN.match(text, position)
    if name is None:
        return None
    equals = _skip(text, name.end())
    if not text.startswith("=", equals):
        return None
    start = _skip(text, equals + 1)
    quoted = _QUOTED.match(text, start)
    if quoted is not None:
        return name.group().lower(), _ESCAPED.sub(r"\1", quoted.group(1)), quoted.end()
    plain = _TOKEN.match(text, start)
    if plain is None:
        return None
    return name.group().lower(), plain.group(), plain.end()


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _after_commas(text: str, position: int) -> int:
    position = _skip(text, position)
    while text.startswith(",", position):
        position = _skip(text, position + 1)
    return position
