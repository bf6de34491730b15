"""Write tar archives, the same bytes for the same entries: ustar, with pax records where needed."""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.snapshots.tar import TarKind

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK_BYTES = 512
_RECORD_BYTES = 10240
_COPY_BYTES = 1 << 20
_NAME_BYTES = 100
_LARGEST_SIZE = 8 << 30
_LARGEST_ID = 0o7777777
_LETTERS = {
    TarKind.FILE: b"0",
    TarKind.HARD_LINK: b"1",
    TarKind.SYMLINK: b"2",
    TarKind.CHARACTER_DEVICE: b"3",
    TarKind.BLOCK_DEVICE: b"4",
    TarKind.DIRECTORY: b"5",
    TarKind.FIFO: b"6",
}
_KINDS = {
    stat.S_IFDIR: TarKind.DIRECTORY,
    stat.S_IFLNK: TarKind.SYMLINK,
    stat.S_IFIFO: TarKind.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarHeader:
    """What a tar says of one entry before its data.

    Attributes:
        name: Relative, without a trailing slash.
        mode: Permission bits only.
        size: Bytes of data that follow.
        modified_at: Whole seconds since the epoch.
        link: Target of a link.
    """

    name: bytes
    kind: TarKind
    mode: int
    user_id: int = 0
    group_id: int = 0
    size: int = 0
    modified_at: int = 0
    link: bytes = b""
    device_major: int = 0
    device_minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class TarStream:
    """Turns headers and data into the bytes of a tar; blocking as its target is.

    Attributes:
        written_bytes: How much the target has got.
    """

    def __init__(self, target: Callable[[bytes], object]) -> None:
        """Write to `target`, which takes all of what it is given."""
        self._target = target
        self._data_left = 0
        self.written_bytes = 0

    def begin(self, header: TarHeader) -> None:
        """Start an entry; exactly `header.size` bytes of data must follow."""
        name = header.name + (b"/" if header.kind is TarKind.DIRECTORY else b"")
        values = () if _has_room(name, header) else _long_values(name, header)
        if values:
            records = b"".join(_pax_record(key, value) for key, value in values)
            block = _header_block(
                b"PaxHeaders/entry", b"x", TarHeader(
                    name=b"", kind=TarKind.FILE, mode=0o644, size=len(records),
                    modified_at=header.modified_at,
                )
            )  # fmt: skip
            self._write(block)
            self._write(records)
            self._write(bytes(-len(records) % _BLOCK_BYTES))
        self._write(_header_block(name, _LETTERS[header.kind], header))
        self._data_left = header.size

    def write(self, data: bytes) -> None:
        """Append data of the entry that was begun."""
        self._write(data)
        self._data_left -= len(data)
        if not self._data_left:
            self._write(bytes(-self.written_bytes % _BLOCK_BYTES))

    @property
    def missing_bytes(self) -> int:
        """Data that the current entry still needs."""
        return self._data_left

    def close(self, *, record_bytes: int = _BLOCK_BYTES) -> None:
        """Write the end, filled up to whole records; the target stays open."""
        self._write(bytes(2 * _BLOCK_BYTES))
        self._write(bytes(-self.written_bytes % record_bytes))

    def _write(self, content: bytes) -> None:
        if content:
            self._target(content)
            self.written_bytes += len(content)


def _has_room(name: bytes, header: TarHeader) -> bool:
    """Whether everything fits into the header itself, as it nearly always does."""
    return (
        len(name) <= _NAME_BYTES
        and len(header.link) <= _NAME_BYTES
        and 0 <= header.size < _LARGEST_SIZE
        and 0 <= header.user_id <= _LARGEST_ID
        and 0 <= header.group_id <= _LARGEST_ID
        and 0 <= header.modified_at < _LARGEST_SIZE
        and not header.xattrs
    )


def _long_values(name: bytes, header: TarHeader) -> list[tuple[bytes, bytes]]:
    """What has no room in the header itself."""
    values = [
        (key, text)
        for key, text in ((b"path", name), (b"linkpath", header.link))
        if len(text) > _NAME_BYTES
    ]
    numbers = (
        (b"size", header.size, _LARGEST_SIZE - 1),
        (b"uid", header.user_id, _LARGEST_ID),
        (b"gid", header.group_id, _LARGEST_ID),
        (b"mtime", header.modified_at, _LARGEST_SIZE - 1),
    )
    values += [
        (key, str(number).encode())
        for key, number, largest in numbers
        if not 0 <= number <= largest
    ]
    return values + [(b"SCHILY.xattr." + key, value) for key, value in header.xattrs]


def _header_block(name: bytes, letter: bytes, header: TarHeader) -> bytes:
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\x0000" % (
        name[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
        header.mode,
        _fitting(header.user_id, _LARGEST_ID),
        _fitting(header.group_id, _LARGEST_ID),
        _fitting(header.size, _LARGEST_SIZE - 1),
        _fitting(header.modified_at, _LARGEST_SIZE - 1),
        letter,
        header.link[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
    )
    if header.device_major or header.device_minor:
        block += bytes(64) + b"%07o\0%07o\0" % (header.device_major, header.device_minor)
    # What follows is zeros, which change no sum.
    checksum = b"%06o\0 " % sum(block)
    return block[:148] + checksum + block[156:].ljust(_BLOCK_BYTES - 156, b"\0")


def _fitting(number: int, largest: int) -> int:
    return number if 0 <= number <= largest else 0


def _pax_record(key: bytes, value: bytes) -> bytes:
    # The length counts its own digits (pax, "pax Extended Header").
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


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
    """Appends entries that are made here to a file that is open for writing; blocking."""

    def __init__(self, target: IO[bytes], *, modified_at: int) -> None:
        """Write to `target`; every entry gets the same time, in whole seconds."""
        self._stream = TarStream(target.write)
        self._modified_at = modified_at

    def add(self, entry: TarEntry) -> None:
        """Append one entry.

        Raises:
            OSError: The source cannot be read, or the target not be written.
            ValueError: The source changed its size meanwhile.
        """
        if not entry.source:
            self._begin(entry, len(entry.content))
            self._stream.write(entry.content)
            return
        with open(entry.source, "rb") as source:
            left = os.fstat(source.fileno()).st_size
            self._begin(entry, left)
            while left:
                part = source.read(min(left, _COPY_BYTES))
                if not part:
                    raise ValueError(f"{entry.source} became shorter while it was read")
                self._stream.write(part)
                left -= len(part)

    def close(self) -> None:
        """Write the end; the target stays open."""
        self._stream.close(record_bytes=_RECORD_BYTES)

    def _begin(self, entry: TarEntry, size: int) -> None:
        self._stream.begin(
            TarHeader(
                name=os.fsencode(entry.path),
                kind=_KINDS.get(stat.S_IFMT(entry.mode), TarKind.FILE),
                mode=stat.S_IMODE(entry.mode),
                user_id=entry.user_id,
                group_id=entry.group_id,
                size=size,
                modified_at=self._modified_at,
                link=os.fsencode(entry.link_target),
            )
        )
