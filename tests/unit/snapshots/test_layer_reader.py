"""The thread that reads layers, ahead of who unpacks them."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from engine.config import LayerLimits
from engine.errors import ArchiveError
from engine.snapshots.layer_reader import LayerBlob, LayerReader

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

MIB = 1 << 20


class Memory:
    """A blob that is in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, position: int, size: int, /) -> bytes:
        return self._content[position : position + size]


def blobs_of(contents: Sequence[bytes]) -> Generator[LayerBlob, None, None]:
    for number, content in enumerate(contents):
        yield LayerBlob(blob=Memory(content), label=f"layer {number}", limits=LayerLimits())


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_all(reader: LayerReader) -> bytes:
    parts = []
    while piece := reader.read(100_000):
        parts.append(piece)
    return b"".join(parts)


def test_layers_of_every_size_come_in_their_order_with_both_digests() -> None:
    tars = [os.urandom(size) for size in (1, 7 * MIB + 3, 1000, 3 * MIB, 0, 20)]
    blobs = [tars[0], gzip.compress(tars[1], 1), gzip.compress(tars[2]), *tars[3:]]
    with LayerReader(blobs_of(blobs)) as reader:
        for tar, blob in zip(tars, blobs, strict=True):
            reader.begin()
            assert read_all(reader) == tar
            assert reader.read(1) == b""
            assert reader.finish() == (digest_of(blob), digest_of(tar))
            assert reader.consumed_bytes == len(blob)


def test_what_nobody_reads_of_a_layer_is_hashed_all_the_same() -> None:
    tars = [os.urandom(9 * MIB), b"next"]
    with LayerReader(blobs_of(tars)) as reader:
        reader.begin()
        reader.read(10)
        assert reader.finish() == (digest_of(tars[0]), digest_of(tars[0]))
        reader.begin()
        assert read_all(reader) == b"next"


def test_the_next_layer_is_read_while_the_files_of_the_one_before_are_made() -> None:
    is_read_ahead = threading.Event()

    def blobs() -> Generator[LayerBlob, None, None]:
        yield from blobs_of([b"first"])
        is_read_ahead.set()
        yield from blobs_of([b"second"])

    with LayerReader(blobs()) as reader:
        reader.begin()
        assert reader.read(1) == b"f"
        assert is_read_ahead.wait(60)
        assert (reader.read(9), reader.read(9)) == (b"irst", b"")
        reader.begin()
        assert read_all(reader) == b"second"


def test_a_damaged_layer_is_no_fault_of_the_one_before_it() -> None:
    whole = os.urandom(2 * MIB)
    with LayerReader(blobs_of([whole, gzip.compress(whole)[:-9]])) as reader:
        reader.begin()
        assert reader.finish()[1] == digest_of(whole)
        reader.begin()
        with pytest.raises(ArchiveError, match="layer 1: its gzip data ends too early"):
            read_all(reader)


def test_files_of_blobs_are_closed_and_threads_end_when_a_reader_leaves_early() -> None:
    is_closed = threading.Event()

    def blobs() -> Generator[LayerBlob, None, None]:
        try:
            yield from blobs_of([os.urandom(32 * MIB)])
        finally:
            is_closed.set()

    before = threading.active_count()
    with LayerReader(blobs()) as reader:
        reader.begin()
        reader.read(1)
        # More than one: it hashes in another.
        assert threading.active_count() == before + 2
    assert is_closed.is_set()
    assert threading.active_count() == before
