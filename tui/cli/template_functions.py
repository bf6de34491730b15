"""What templates can do with values: Docker's functions, and those of Go that people use."""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tui.cli.documents import Document


class LabelMap(dict[str, "Document"]):
    """A map whose keys people chose: asking for one that is not there is no mistake."""


def shown(value: Document) -> str:
    """Write a value as Go's fmt does with %v."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case dict():
            pairs = " ".join(f"{key}:{shown(item)}" for key, item in sorted(value.items()))
            return f"map[{pairs}]"
        case list():
            return f"[{' '.join(shown(item) for item in value)}]"
        case _:
            return str(value)


def is_true(value: Document) -> bool:
    """Whether `if` takes a value for true: not zero, not empty, not nothing."""
    return bool(value)


def _json(value: Document) -> str:
    return json.dumps(value, separators=(",", ":"))


def _join(values: Document, separator: Document = "") -> str:
    return str(separator).join(shown(item) for item in _list(values))


def _split(text: Document, separator: Document) -> Document:
    return list(str(text).split(str(separator)) if separator else str(text))


def _index(value: Document, *keys: Document) -> Document:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(str(key), "" if isinstance(value, LabelMap) else None)
        elif isinstance(value, (list, str)) and isinstance(key, int):
            value = value[key]
        else:
            raise TypeError(f"{shown(value)} has no {shown(key)}")
    return value


def _length(value: Document) -> int:
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise TypeError(f"{shown(value)} has no length")


def _list(value: Document) -> list[Document]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} is no list")
    return value


def _and(*values: Document) -> Document:
    return next((value for value in values if not is_true(value)), values[-1])


def _or(*values: Document) -> Document:
    return next((value for value in values if is_true(value)), values[-1])


def _equal(first: Document, *others: Document) -> bool:
    return any(first == other for other in others)


def _compare(check: Callable[[float | str, float | str], bool]) -> Callable[..., Document]:
    def compare(first: Document, second: Document) -> bool:
        is_number = isinstance(first, (int, float)) and isinstance(second, (int, float))
        if is_number or (isinstance(first, str) and isinstance(second, str)):
            return check(first, second)  # type: ignore[arg-type]  # narrowed together above
        raise TypeError(f"{shown(first)} and {shown(second)} have no order")

    return compare


def _truncate(text: Document, width: Document) -> str:
    if not isinstance(width, int):
        raise TypeError("the width is no number")
    return str(text)[:width]


def _pad(text: Document, before: Document, after: Document) -> str:
    if not isinstance(before, int) or not isinstance(after, int):
        raise TypeError("the widths are no numbers")
    return " " * before + str(text) + " " * after if text else str(text)


_VERB = re.compile(r"%(?P<form>[-+ 0]*\d*(?:\.\d+)?)(?P<verb>[vsdqtf%])")


def _printf(form: Document, *values: Document) -> str:
    rest = list(values)

    def fill(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "df" and isinstance(value, (int, float)):
            return f"%{match['form']}{verb}" % value
        text = json.dumps(value) if verb == "q" else shown(value)
        return f"%{match['form']}s" % text

    return _VERB.sub(fill, str(form))


FUNCTIONS: Mapping[str, Callable[..., Document]] = {
    "json": _json,
    "join": _join,
    "split": _split,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": lambda text: str(text).title(),
    "truncate": _truncate,
    "pad": _pad,
    "index": _index,
    "len": _length,
    "print": lambda *values: "".join(shown(value) for value in values),
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
    "printf": _printf,
    "and": _and,
    "or": _or,
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": operator.ne,
    "lt": _compare(operator.lt),
    "le": _compare(operator.le),
    "gt": _compare(operator.gt),
    "ge": _compare(operator.ge),
}
