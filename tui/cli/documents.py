"""Records as JSON documents."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TypeAlias

Document: TypeAlias = "bool | int | float | str | list[Document] | dict[str, Document] | None"


def document(record: object) -> Document:
    """Turn a record of the engine's into what JSON can say; fields keep their names.

    Pairs of texts (labels, attributes) stay lists of two, because a name may come twice.
    """
    if record is None or isinstance(record, (bool, int, float)):
        return record
    if isinstance(record, str):
        return str(record)
    if isinstance(record, (tuple, list)):
        return [document(item) for item in record]
    if is_dataclass(record):
        return {field.name: document(getattr(record, field.name)) for field in fields(record)}
    raise TypeError(f"not a record: {type(record).__name__}")


def line(record: object) -> str:
    """Write a record as one line of JSON, in ASCII: odd bytes and controls are escaped."""
    return json.dumps(document(record), separators=(",", ":"))


def indented(documents: list[Document]) -> str:
    """Write documents for people."""
    return json.dumps(documents, indent=2)
