"""Write tar archives, the same bytes for the same entries: ustar, with pax records where needed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import IO

_BLOCK_BYTES = 512
_RECORD_BYTES = 10240
_COPY_BYTES = 1 << 20
_NAME_BYTES = 100
_LARGEST_SIZE = 8 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One entry; a file has `content`, or `source`: a path of the host's that is read for it.

    Attributes:
        path: Relative, without a trailing slash.
        mode: Type and permissions, as in stat(2).
        link_target: Of a symbolic link.
    """

    path: str
    mode: int
    content: bytes = b""
    source: str = ""
    link_target: str = ""
    user_id: int = 0
    group_id: int = 0


class TarWriter:
    """Appends entries to a file that is open for writing; blocking."""

    def __init__(self, target: IO[bytes], *, modified_at: int) -> None:
        """Write to `target`; every entry gets the same time, in whole seconds."""
        self._target = target
        self._modified_at = modified_at
        self._written = 0

    def add(self, entry: TarEntry) -> None:
        """Append one entry.

        Raises:
            OSError: The source cannot be read, or the target not be written.
            ValueError: The source changed its size meanwhile.
        """
        kind = stat.S_IFMT(entry.mode)
        name = os.fsencode(entry.path) + (b"/" if kind == stat.S_IFDIR else b"")
        link = os.fsencode(entry.link_target)
        if entry.source:
            with open(entry.source, "rb") as source:
                size = os.fstat(source.fileno()).st_size
                self._begin(entry, kind, name, link, size)
                left = size
                while left:
                    part = source.read(min(left, _COPY_BYTES))
                    if not part:
                        raise ValueError(f"{entry.source} became shorter while it was read")
                    self._write(part)
                    left -= len(part)
        else:
            self._begin(entry, kind, name, link, len(entry.content))
            self._write(entry.content)
        self._pad(_BLOCK_BYTES)

    def close(self) -> None:
        """Write the end; the target stays open."""
        self._write(bytes(2 * _BLOCK_BYTES))
        self._pad(_RECORD_BYTES)

    def _begin(self, entry: TarEntry, kind: int, name: bytes, link: bytes, size: int) -> None:
        long = {b"path": name, b"linkpath": link}
        records = b"".join(
            _pax_record(key, value) for key, value in long.items() if len(value) > _NAME_BYTES
        )
        if size >= _LARGEST_SIZE:
            records += _pax_record(b"size", str(size).encode())
        if records:
            self._write(self._header(b"PaxHeaders/entry", b"", b"x", 0o644, len(records), entry))
            self._write(records)
            self._pad(_BLOCK_BYTES)
        letter = {stat.S_IFDIR: b"5", stat.S_IFLNK: b"2", stat.S_IFIFO: b"6"}.get(kind, b"0")
        mode = stat.S_IMODE(entry.mode)
        self._write(self._header(name[:_NAME_BYTES], link[:_NAME_BYTES], letter, mode, size, entry))

    def _header(
        self, name: bytes, link: bytes, letter: bytes, mode: int, size: int, entry: TarEntry
    ) -> bytes:
        header = b"".join(
            (
                name.ljust(100, b"\0"),
                b"%07o\0" % mode,
                b"%07o\0" % entry.user_id,
                b"%07o\0" % entry.group_id,
                b"%011o\0" % (size if size < _LARGEST_SIZE else 0),
                b"%011o\0" % self._modified_at,
                b" " * 8,
                letter,
                link.ljust(100, b"\0"),
                b"ustar\0" + b"00",
            )
        ).ljust(_BLOCK_BYTES, b"\0")
        return header[:148] + b"%06o\0 " % sum(header) + header[156:]

    def _write(self, content: bytes) -> None:
        self._target.write(content)
        self._written += len(content)

    def _pad(self, unit_bytes: int) -> None:
        self._write(bytes(-self._written % unit_bytes))


def _pax_record(key: bytes, value: bytes) -> bytes:
    # The length counts its own digits (pax, "pax Extended Header").
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body
