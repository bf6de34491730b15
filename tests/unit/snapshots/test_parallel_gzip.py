from __future__ import annotations

import os
import random
import zlib

import pytest

from engine.snapshots.parallel_gzip import ParallelGzip

MIB = 1 << 20


def compressed(content: bytes, piece_bytes: int) -> bytes:
    compressor = ParallelGzip()
    parts = [
        compressor.compress(content[start : start + piece_bytes])
        for start in range(0, len(content), piece_bytes)
    ]
    return b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
def test_what_was_compressed_is_one_gzip_stream_of_the_same_content(size: int) -> None:
    content = (b"lamella " * (size // 16 + 1) + random.Random(size).randbytes(size))[:size]
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(compressed(content, 300_000)) == content
    assert reader.eof
    assert reader.unused_data == b""


def test_the_stream_does_not_depend_on_how_the_content_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = random.Random(4).randbytes(2 * MIB) + bytes(3 * MIB)
    streams = {compressed(content, piece) for piece in (1000, 70_001, MIB, 8 * MIB)}
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert streams == {compressed(content, MIB)}


def test_a_level_for_speed_still_makes_text_much_smaller() -> None:
    content = b"".join(b"line %d of a text\n" % number for number in range(100_000))
    assert len(compressed(content, MIB)) < len(content) / 3
