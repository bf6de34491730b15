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
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RecordT = TypeVar("RecordT")
_Reader: TypeAlias = "Callable[[object], object]"


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field of a record is read."""

    name: str
    read: _Reader
    is_required: bool


_fields_of: dict[type, tuple[_Field, ...]] = {}
_names_of: dict[type, tuple[str, ...]] = {}


class RecordDocument(Generic[RecordT]):
    """A record as JSON that is read when it is first wanted.

    To read one makes a fork write to a megabyte of pages that it shares until then, so a monitor
    that is asked for nothing keeps its records as they came.
    """

    __slots__ = ("_document", "_kind", "_record")

    def __init__(self, kind: type[RecordT], document: bytes) -> None:
        self._kind = kind
        self._document = document
        self._record: RecordT | None = None

    @classmethod
    def of(cls, record: RecordT) -> RecordDocument[RecordT]:
        """One that is read already."""
        document = cls(type(record), b"")
        document.replace(record)
        return document

    @property
    def record(self) -> RecordT:
        """The record.

        Raises:
            ValueError: As `decode_record`.
        """
        if self._record is None:
            self._record = decode_record(self._kind, self._document)
        return self._record

    @property
    def document(self) -> bytes:
        """The record as JSON."""
        if not self._document and self._record is not None:
            self._document = encode_record(self._record)
        return self._document

    def receive(self, document: bytes) -> None:
        """Have another record from now on, which comes as JSON."""
        self._record = None
        self._document = document

    def replace(self, record: RecordT) -> None:
        """Have another record from now on."""
        self._record = record
        self._document = b""


def encode_record(record: object) -> bytes:
    """Return a record as compact JSON."""
    return json.dumps(_plain(record), separators=(",", ":")).encode()


def decode_record(kind: type[RecordT], document: bytes) -> RecordT:
    """Read a record of the given class.

    Raises:
        ValueError: It is not JSON, or does not fit the class.
    """
    return typing.cast("RecordT", _read_record(kind, json.loads(document)))


def learn_record(kind: type) -> None:
    """Look up how a class, and those inside it, are read, ahead of the first document.

    What is learnt before a fork costs the children nothing.
    """
    if kind in _fields_of:
        return
    hints = typing.get_type_hints(kind)
    _names_of[kind] = tuple(field.name for field in fields(kind))
    _fields_of[kind] = tuple(
        _Field(
            field.name,
            _reader(hints[field.name]),
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    )


def _plain(value: object) -> object:
    kind = type(value)
    if kind is tuple or kind is list:
        return [_plain(item) for item in typing.cast("Iterable[object]", value)]
    names = _names_of.get(kind)
    if names is None:
        if not is_dataclass(kind):
            return value
        learn_record(kind)
        names = _names_of[kind]
    return {name: _plain(getattr(value, name)) for name in names}


def _reader(hint: object) -> _Reader:
    """The function that reads what a type hint stands for."""
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        (choice,) = (inner for inner in typing.get_args(hint) if inner is not type(None))
        read = _reader(choice)
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        items = typing.get_args(hint)
        if len(items) == 2 and items[1] is Ellipsis:
            return partial(_read_items, _reader(items[0]))
        return partial(_read_tuple, tuple(_reader(item) for item in items))
    if not isinstance(hint, type):
        raise TypeError(f"a record cannot have a field of type {hint}")
    if is_dataclass(hint):
        learn_record(hint)
        return partial(_read_record, hint)
    return partial(_read_plain, hint)


def _read_items(read: _Reader, value: object) -> object:
    return tuple([read(item) for item in _as_list(value)])


def _read_tuple(readers: tuple[_Reader, ...], value: object) -> object:
    return tuple(read(item) for read, item in zip(readers, _as_list(value), strict=True))


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {type(value).__name__}")
    return value


def _read_plain(kind: type, value: object) -> object:
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")


def _read_record(kind: type, value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object for {kind.__name__}")
    learn_record(kind)
    arguments: dict[str, object] = {}
    for field in _fields_of[kind]:
        if field.name in value:
            arguments[field.name] = field.read(value[field.name])
        elif field.is_required:
            raise ValueError(f"{kind.__name__} without {field.name}")
    return kind(**arguments)
