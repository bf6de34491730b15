"""Frozen dataclasses as JSON, with nothing but the standard library.

The launcher and its children have no site-packages, so what they read and write passes here; the
engine reads the same documents with msgspec. Unknown fields are ignored and missing ones take
their default, so that a monitor from before an upgrade and an engine from after it understand
each other (records only ever gain fields).
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import TypeVar

RecordT = TypeVar("RecordT")

_hints: dict[type, dict[str, object]] = {}


def encode_record(record: object) -> bytes:
    """Return a record as compact JSON."""
    return json.dumps(_plain(record), separators=(",", ":")).encode()


def decode_record(kind: type[RecordT], document: bytes) -> RecordT:
    """Read a record of the given class.

    Raises:
        ValueError: It is not JSON, or does not fit the class.
    """
    return typing.cast("RecordT", _built(kind, json.loads(document)))


def learn_record(kind: object) -> None:
    """Look up the field types of a class and of those inside it, ahead of the first document.

    What is learnt before a fork costs the children nothing.
    """
    for inner in typing.get_args(kind):
        learn_record(inner)
    if isinstance(kind, type) and is_dataclass(kind) and kind not in _hints:
        _hints[kind] = typing.get_type_hints(kind)
        for inner in _hints[kind].values():
            learn_record(inner)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _built(kind: object, value: object) -> object:
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
        return None if value is None else _built(choices[0], value)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, found {type(value).__name__}")
        items = typing.get_args(kind)
        if len(items) == 2 and items[1] is Ellipsis:
            return tuple(_built(items[0], item) for item in value)
        return tuple(_built(item, part) for item, part in zip(items, value, strict=True))
    if isinstance(kind, type) and is_dataclass(kind):
        return _built_record(kind, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(kind, type) or type(value) is not kind:
        raise ValueError(f"expected {kind}, found {type(value).__name__}")
    return value


def _built_record(kind: type, value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object for {kind.__name__}")
    learn_record(kind)
    arguments: dict[str, object] = {}
    for field in fields(kind):
        if field.name in value:
            arguments[field.name] = _built(_hints[kind][field.name], value[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{kind.__name__} without {field.name}")
    return kind(**arguments)
