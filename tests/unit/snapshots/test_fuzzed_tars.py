"""Damaged and invented tars, compressed or not: unpacked, or refused in a sentence."""

from __future__ import annotations

import functools
import gzip
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.snapshots.layer_tar import layer_tar_bytes
from tests.unit.snapshots.tars import (
    END,
    Layer,
    directory,
    entry,
    hard_link,
    header,
    pax,
    symlink,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = (
    directory(b"d")
    + entry(b"d/file", b"content" * 30)
    + symlink(b"link", b"d/file")
    + hard_link(b"twin", b"d/file")
    + pax(path=b"d/" + b"n" * 200, mtime=b"1.5")
    + entry(b"short", b"x")
    + entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L")
    + entry(b"short", b"y" * 600)
    + pax(GNU__sparse__size=b"5000", GNU__sparse__map=b"0,3,4000,2")
    + header(b"holes", size=5)
    + b"abcde".ljust(512, b"\0")
    + header(b"null", flag=b"3", device=(1, 3))
    + entry(b".wh.gone", b"")
    + END
)
PACKS = (
    functools.partial(gzip.compress, mtime=0),
    zstd.compress,
    lambda data: (
        zstd.compress(data[:3000]) + b"\x50\x2a\x4d\x18\3\0\0\0abc" + zstd.compress(data[3000:])
    ),
    lambda data: gzip.compress(data[:3000], mtime=0) + gzip.compress(data[3000:], mtime=0),
)
_FIELDS = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 329, 345)


def resummed(block: bytes) -> bytes:
    """A header with the checksum that it should have."""
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


@st.composite
def damaged_tars(draw: st.DrawFn) -> bytes:
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        block = draw(st.integers(0, len(content) // 512 - 1)) * 512
        field = draw(st.sampled_from(_FIELDS))
        value = draw(st.one_of(st.binary(min_size=1, max_size=12), st.just(b"\xff" * 12)))
        content[block + field : block + field + len(value)] = value
        if draw(st.booleans()):
            content[block : block + 512] = resummed(bytes(content[block : block + 512]))
    return bytes(content[: draw(st.integers(0, len(content)))])


def unpack_or_refuse(content: bytes) -> None:
    root = Path(tempfile.mkdtemp(prefix="lamella-fuzz-"))
    try:
        layer = Layer(root / "layer")
        try:
            layer.unpack(content)
        except EngineError:
            assert list(layer.path.iterdir()) == []
        else:
            assert layer.index.entry_count == len(layer.names())
            assert layer_tar_bytes(str(layer.path)) is not None
        assert [path.name for path in root.iterdir()] == ["layer"]
    finally:
        shutil.rmtree(root)


# A directory that nobody may enter is entered by root alone; a worker is root in its namespace.
@pytest.mark.root
@settings(max_examples=250, deadline=None)
@given(content=damaged_tars())
def test_a_damaged_tar_is_unpacked_or_refused(content: bytes) -> None:
    unpack_or_refuse(content)


@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=3000))
def test_anything_is_unpacked_or_refused(content: bytes) -> None:
    unpack_or_refuse(content)


@settings(max_examples=150, deadline=None)
@given(
    position=st.integers(0, 10**6),
    value=st.integers(1, 255),
    cut=st.integers(0, 40),
    pack=st.sampled_from(PACKS),
)
def test_damaged_compressed_data_is_unpacked_or_refused(
    position: int, value: int, cut: int, pack: Callable[[bytes], bytes]
) -> None:
    content = bytearray(pack(WHOLE))
    content[position % len(content)] ^= value
    unpack_or_refuse(bytes(content[: len(content) - cut]))


def test_the_tar_that_is_damaged_is_whole_to_begin_with() -> None:
    root = Path(tempfile.mkdtemp(prefix="lamella-fuzz-"))
    try:
        layer = Layer(root / "layer")
        layer.unpack(WHOLE)
        assert "link" in layer.names()
        assert (layer.diff / "holes").read_bytes()[4000:4002] == b"de"
    finally:
        shutil.rmtree(root)
