"""Tars and compressed streams that are made to cost more than they are worth."""

from __future__ import annotations

import gzip
import shutil
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from engine.errors import ArchiveError, EngineError
from engine.snapshots import streams
from engine.snapshots.streams import decompress
from engine.snapshots.tar import TarLimits, TarReader
from tests.unit.snapshots.tars import END, Layer, directory, entry, header, pax

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


class Pieces:
    """A source that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def skip(self, size: int, /) -> int:
        left = size
        while left and (piece := self.read(left)):
            left -= len(piece)
        return size - left


def peak_bytes_of(pieces: Iterator[bytes]) -> int:
    """Read a tar to its end or to where it is refused; returns what was remembered at most."""
    tracemalloc.start()
    try:
        try:
            for _entry in TarReader(Pieces(pieces), label="hostile"):
                pass
        except ArchiveError:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def large_header(number: int, flag: bytes) -> bytes:
    return pax(flag, **{f"key-{number}": b"\0" * 900_000})


def test_headers_for_all_entries_are_not_remembered_for_ever() -> None:
    assert peak_bytes_of(large_header(number, b"g") for number in range(60)) < 20 * MIB


def test_headers_that_no_entry_follows_are_refused() -> None:
    assert peak_bytes_of(large_header(number, b"x") for number in range(60)) < 20 * MIB
    with pytest.raises(ArchiveError, match="headers of an entry are too large"):
        list(TarReader(Pieces(large_header(number, b"x") for number in range(3)), label="tar"))


def test_what_entries_share_still_counts() -> None:
    tar = pax(b"g", uid=b"7", mtime=b"9", comment=b"x" * 1000) + header(b"file") + END
    (found,) = TarReader(Pieces(iter([tar])), label="tar")
    assert (found.user_id, found.mtime_ns) == (7, 9_000_000_000)


def old_sparse(*blocks: bytes) -> bytes:
    block = bytearray(header(b"holes", flag=b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"".join(blocks)


def test_a_sparse_map_that_goes_on_without_saying_anything_is_refused() -> None:
    endless = bytes(504) + b"\1" + bytes(7)
    with pytest.raises(ArchiveError, match="damaged map"):
        list(TarReader(Pieces(iter([old_sparse(*[endless] * 10)])), label="tar"))


BASE_256 = [
    b"\x80" + b"\xff" * 11, b"\xff" + b"\0" * 11, b"\xff" * 12, b"\x80" + b"\0" * 11,
    b"\x80\0\0\0" + b"\xff" * 8, b"\x80\0\0\0\x80" + b"\0" * 7, b"\x80" + b"\0" * 7 + b"\xff" * 4,
]  # fmt: skip
FIELDS = {"mode": (100, 8), "owner": (108, 8), "group": (116, 8), "size": (124, 12),
          "time": (136, 12), "major": (329, 8), "minor": (337, 8)}  # fmt: skip


@pytest.mark.parametrize("value", BASE_256, ids=bytes.hex)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("flag", [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"S"], ids=bytes.decode)
def test_numbers_that_no_field_has_are_refused_or_bounded(
    tmp_path: Path, flag: bytes, field: str, value: bytes
) -> None:
    start, width = FIELDS[field]
    block = bytearray(header(b"odd", flag=flag, link=b"d"))
    block[start : start + width] = value[:width] if width == 12 else value[0:1] + value[5:12]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    layer = Layer(tmp_path / "layer")
    try:
        layer.unpack(directory(b"d") + bytes(block) + END)
    except EngineError:
        assert list(layer.path.iterdir()) == []
    else:
        assert layer.index.entry_count == len(layer.names())


@pytest.mark.parametrize(
    "key", ["size", "uid", "gid", "mtime", "GNU__sparse__size", "GNU__sparse__map", "path",
            "linkpath", "GNU__sparse__realsize", "SCHILY__xattr__user.x", "SCHILY__xattr__"]
)  # fmt: skip
@pytest.mark.parametrize(
    "value", [b"", b"-1", b"9" * 20, b"9" * 400, b"1e9", b"\0", b"\xff" * 300, b"0.", b"x" * 70_000,
              b"../" * 500, b"18446744073709551616", b"-9" * 9, b".", b"/"], ids=range(14)
)  # fmt: skip
def test_pax_records_of_nonsense_are_refused_or_bounded(
    tmp_path: Path, key: str, value: bytes
) -> None:
    layer = Layer(tmp_path / "layer")
    tar = pax(**{key: value, "GNU__sparse__major": b"1"}) + entry(b"odd", b"x" * 600) + END
    for content in (tar, tar.replace(b"GNU.sparse.major=1", b"GNU.sparse.xajor=1")):
        try:
            layer.unpack(content)
        except EngineError:
            assert list(layer.path.iterdir()) == []
        else:
            for path in layer.path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def decompressed_bytes(blob: bytes) -> int:
    pieces = (blob[start : start + MIB] for start in range(0, len(blob), MIB))
    return sum(len(chunk) for chunk in decompress(pieces, blob[:6], "hostile"))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_members_without_number_cost_no_more_than_they_have_bytes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = gzip.compress(b"x", mtime=0) if kind == "gzip" else zstd.compress(b"x")
    count = MIB // len(member)
    copied = 0
    make = streams._new_decompressor

    class Counting:
        def __init__(self, compression: str, window_bytes: int | None) -> None:
            made = make(compression, window_bytes)
            assert made is not None
            self._made = made

        def __getattr__(self, name: str) -> object:
            return getattr(self._made, name)

        def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
            nonlocal copied
            copied += len(data)
            return self._made.decompress(data, max_length)

    monkeypatch.setattr(streams, "_new_decompressor", Counting)
    assert decompressed_bytes(member * count) == count
    # All that is left of a piece of 1 MiB, for each of its members, would be some 10 GB.
    assert copied < 1000 * MIB


_FRAME = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b\x08"
FRAMES = {
    "window of terabytes": _FRAME + b"\x00\xff" + b"\x01\0\0",
    "window of 256 MiB": _FRAME + b"\x00\x90" + b"\x01\0\0",
    "content of exabytes": _FRAME + b"\xe0" + b"\xff" * 8 + b"\x01\0\0",
    "dictionary": _FRAME + b"\x03\x58\x01\0\0\0" + b"\x01\0\0",
    "reserved bit": _FRAME + b"\x08\x58" + b"\x01\0\0",
    "reserved block": _FRAME + b"\x00\x58" + b"\x07\0\0",
    "block larger than may be": _FRAME + b"\x00\x58" + b"\xff\xff\xff",
    "end at its head": _FRAME,
    "skipped gigabytes": b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + b"x" * 100,
    "wrong checksum": _FRAME + b"\x04\x58" + b"\x01\0\0" + b"\1\2\3\4",
    "gzip of another method": b"\x1f\x8b\x07" + bytes(7) + b"\3\0",
    "gzip name without end": _GZIP + b"\x08" + bytes(6) + b"n" * 2_000_000,
    "gzip extra that is missing": _GZIP + b"\x04" + bytes(6) + b"\xff\xff" + b"x" * 10,
    "gzip of a reserved block": _GZIP + bytes(7) + b"\7",
    "gzip with a wrong sum": gzip.compress(b"x" * 100)[:-8] + b"\1" * 8,
    "gzip with a wrong size": gzip.compress(b"x" * 100)[:-4] + b"\1" * 4,
    "gzip without its sum": gzip.compress(b"x" * 100)[:-8],
    "gzip with something behind": gzip.compress(b"x") + b"something",
    "gzip with zstd behind": gzip.compress(b"x") + zstd.compress(b"x"),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("piece_bytes", [1, 7, MIB])
def test_frames_that_nobody_writes_are_refused(kind: str, piece_bytes: int) -> None:
    blob = FRAMES[kind]
    step = piece_bytes if len(blob) < 1000 else MIB
    pieces = (blob[start : start + step] for start in range(0, len(blob), step))
    with pytest.raises(ArchiveError):
        for _chunk in decompress(pieces, blob[:6], "frame"):
            pass


def test_more_members_than_any_layer_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.snapshots.streams._MOST_MEMBERS", 100)
    member = gzip.compress(b"", mtime=0)
    assert decompressed_bytes(member * 101) == 0
    with pytest.raises(ArchiveError, match="more than 100 pieces"):
        decompressed_bytes(member * 102)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), zstd.compress])
@pytest.mark.parametrize("at", [1, 3, 10, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1])
def test_members_that_begin_and_end_anywhere_are_one_stream(pack, at: int) -> None:
    first = bytes(range(256)) * 40
    head = pack(first)
    blob = head + pack(b"") * ((at // len(pack(b""))) % 50) + pack(first) + bytes(1000)
    pieces = (blob[start : start + at] for start in range(0, len(blob), at))
    whole = b"".join(decompress(pieces, blob[:6], "x", chunk_bytes=1000))
    assert whole == first + first


def test_a_name_may_be_as_long_as_the_limit_and_no_longer() -> None:
    limits = TarLimits(name_bytes=100)
    ok = pax(path=b"n" * 100) + header(b"x") + END
    assert [found.name for found in TarReader(Pieces(iter([ok])), label="t", limits=limits)]
    with pytest.raises(ArchiveError, match="impossible name"):
        list(TarReader(Pieces(iter([pax(path=b"n" * 101) + header(b"x") + END])), label="t",
                       limits=limits))  # fmt: skip
