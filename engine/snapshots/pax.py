"""Records of pax headers (POSIX.1-2001, pax, "pax Extended Header"): what precedes an entry."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.errors import ArchiveError

_XATTR_PREFIX = b"SCHILY.xattr."


@dataclass(slots=True)
class PaxHeaders:
    """What the headers before an entry say about it."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    # GNU sparse 0.0 repeats its keys: offset, length, offset, length.
    sparse_numbers: list[bytes] = field(default_factory=list)


def parse_pax(data: bytes, into: PaxHeaders, label: str) -> PaxHeaders:
    """Add the records of one header to those before it.

    Raises:
        ArchiveError: They are damaged; `label` names the archive.
    """
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            if not data[position:].strip(b"\0"):
                break
            raise ArchiveError(label, "a pax header is damaged")
        end = position + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise ArchiveError(label, "a pax header is damaged")
        value = value[:-1]
        if key.startswith(_XATTR_PREFIX):
            into.xattrs[key[len(_XATTR_PREFIX) :]] = value
        elif key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            into.sparse_numbers.append(value)
        else:
            into.values[key] = value
        position = end
    return into
