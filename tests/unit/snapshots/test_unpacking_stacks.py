"""Layers that are unpacked while their blobs still grow, and what is refused of a layer."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.config import LayerLimits
from engine.errors import (
    ArchiveError,
    DigestMismatchError,
    LayerLimitError,
    LimitError,
    UnsafePathError,
)
from engine.snapshots.unpacking import (
    StackLayer,
    StackProgress,
    UnpackArguments,
    UnpackStackArguments,
    unpack_stack,
)
from tests.unit.snapshots.tars import END, directory, entry, hard_link, pax

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Stack:
    """A staging directory, and a thread that unpacks what comes into it."""

    def __init__(self, path: Path, grown: int) -> None:
        self.path = path
        self.grown = grown
        self.parent = os.open(path, os.O_RDONLY)
        self.layers: list[StackLayer] = []
        self.progress: list[StackProgress] = []
        self.error: BaseException | None = None
        self.has_advanced = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def add(self, tar: bytes, blob: bytes, *, limits: LayerLimits | None = None) -> str:
        """Expect a layer; returns the name of the file for its blob."""
        position = len(self.layers)
        (self.path / f"layer-{position}").mkdir()
        self.layers.append(
            StackLayer(
                blob_name=f"blob-{position}",
                directory_name=f"layer-{position}",
                layer=UnpackArguments(
                    label=f"layer {position}",
                    offset=0,
                    size=len(blob),
                    blob_digest=digest_of(blob),
                    diff_id=digest_of(tar),
                    lower_paths=tuple(
                        str(self.path / f"layer-{below}" / "diff")
                        for below in reversed(range(position))
                    ),
                    uses_user_xattrs=True,
                    limits=limits or LayerLimits(),
                ),
            )
        )
        return f"blob-{position}"

    def write(self, name: str, content: bytes) -> None:
        with (self.path / name).open("ab") as file:
            file.write(content)
        os.eventfd_write(self.grown, 1)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        arguments = msgspec.json.encode(UnpackStackArguments(layers=tuple(self.layers)))
        try:
            unpack_stack(arguments, [self.parent, self.grown], self._report)
        except BaseException as error:
            self.error = error

    def _report(self, message: bytes) -> None:
        progress = msgspec.json.decode(message, type=StackProgress)
        self.progress.append(progress)
        if progress.done:
            self.has_advanced.set()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    grown = os.eventfd(0, os.EFD_CLOEXEC)
    made = Stack(tmp_path, grown)
    yield made
    os.close(made.parent)
    os.close(grown)


def test_layers_are_unpacked_while_their_blobs_grow_byte_by_byte(stack: Stack) -> None:
    first, second = entry(b"file", b"one" * 1000) + END, hard_link(b"link", b"file") + END
    blobs = [gzip.compress(first), gzip.compress(second)]
    names = [stack.add(tar, blob) for tar, blob in zip((first, second), blobs, strict=True)]
    stack.start()
    # The upper one is whole before the lower one has begun, as with parallel downloads.
    stack.write(names[1], blobs[1])
    for byte in blobs[0]:
        stack.write(names[0], bytes([byte]))
    stack.finish()
    assert (stack.path / "layer-1/diff/link").read_bytes() == b"one" * 1000
    results = [progress.result for progress in stack.progress if progress.result is not None]
    assert [result.blob_digest for result in results] == [digest_of(blob) for blob in blobs]


def test_the_beginning_of_a_layer_is_on_disk_before_its_blob_has_come(stack: Stack) -> None:
    parts = [entry(f"file-{number}".encode(), os.urandom(1 << 20)) for number in range(8)]
    tar = b"".join(parts) + END
    name = stack.add(tar, tar)
    stack.start()
    stack.write(name, tar[: 6 << 20])
    assert stack.has_advanced.wait(60)
    # A thread of its own writes it; pytest's own limit ends a wait that is in vain.
    while (stack.path / "layer-0/diff/file-0").stat().st_size < 1 << 20:
        os.sched_yield()
    stack.write(name, tar[6 << 20 :])
    stack.finish()
    assert len(list((stack.path / "layer-0/diff").iterdir())) == 8


def test_a_damaged_blob_ends_the_stack_and_leaves_the_layers_below(stack: Stack) -> None:
    tar = entry(b"file", b"content") + END
    first, second = stack.add(tar, tar), stack.add(tar, tar)
    stack.write(first, tar)
    stack.write(second, tar[:-1] + b"x")
    stack.start()
    with pytest.raises(DigestMismatchError):
        stack.finish()
    assert (stack.path / "layer-0/diff/file").exists()
    assert list((stack.path / "layer-1").iterdir()) == []


@pytest.mark.parametrize("arrived", [1.0, 0.6], ids=["the next layer", "the rest of it"])
def test_a_layer_that_is_refused_waits_for_nothing_that_is_to_come(
    stack: Stack, arrived: float
) -> None:
    tar = entry(b"../outside", b"content") + entry(b"file", os.urandom(4 << 20)) + END
    first = stack.add(tar, tar)
    stack.add(tar, tar)  # Of which not a byte ever comes.
    stack.start()
    stack.write(first, tar[: int(len(tar) * arrived)])
    # pytest's own limit ends a wait that is in vain.
    with pytest.raises(UnsafePathError):
        stack.finish()
    assert list((stack.path / "layer-0").iterdir()) == []


def test_a_layer_of_a_terabyte_is_refused_before_it_is_written(stack: Stack) -> None:
    tar = pax(size=b"%d" % (1 << 40)) + entry(b"huge", bytes(512))
    name = stack.add(tar, tar)
    stack.write(name, tar)
    stack.start()
    with pytest.raises(ArchiveError, match="unpacks to more than 68,719,476,736 bytes") as caught:
        stack.finish()
    assert "LAMELLA_LAYER_BYTES" in caught.value.hint
    assert list((stack.path / "layer-0").iterdir()) == []


def test_a_tar_that_is_longer_than_the_limit_is_refused_whatever_is_in_it(stack: Stack) -> None:
    tar = b"".join(directory(f"directory-{number}".encode()) for number in range(300)) + END
    name = stack.add(tar, tar, limits=LayerLimits(unpacked_bytes=100_000))
    stack.write(name, tar)
    stack.start()
    with pytest.raises(ArchiveError, match="unpacks to more than 100,000 bytes"):
        stack.finish()


def test_a_layer_of_too_many_entries_is_refused_with_the_remedy(stack: Stack) -> None:
    tar = directory(b"a") + directory(b"b") + directory(b"c") + END
    name = stack.add(tar, tar, limits=LayerLimits(entries=2))
    stack.write(name, tar)
    stack.start()
    with pytest.raises(ArchiveError, match="more than 2 entries") as caught:
        stack.finish()
    assert "LAMELLA_LAYER_ENTRIES" in caught.value.hint


def with_window(tar: bytes, window_log: int) -> bytes:
    """A zstd stream that is not said to be short: who reads it needs the whole window."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    return compressor.compress(tar) + compressor.flush()


@pytest.mark.parametrize(("window_log", "limit"), [(26, None), (27, 128 << 20)])
def test_a_layer_may_need_a_large_window(stack: Stack, window_log: int, limit: int | None) -> None:
    tar = entry(b"file", b"content") + END
    blob = with_window(tar, window_log)
    limits = LayerLimits() if limit is None else LayerLimits(window_bytes=limit)
    stack.write(stack.add(tar, blob, limits=limits), blob)
    stack.start()
    stack.finish()
    assert (stack.path / "layer-0/diff/file").read_bytes() == b"content"


def test_a_layer_that_takes_too_much_memory_is_refused_with_the_remedy(stack: Stack) -> None:
    tar = entry(b"file", b"content") + END
    blob = with_window(tar, 27)
    stack.write(stack.add(tar, blob), blob)
    stack.start()
    with pytest.raises(LayerLimitError, match="takes more than 64 MiB of memory") as caught:
        stack.finish()
    assert "LAMELLA_LAYER_WINDOW" in caught.value.hint
    assert list((stack.path / "layer-0").iterdir()) == []


def test_limits_are_read_as_people_write_them() -> None:
    assert LayerLimits.load({}) == LayerLimits()
    assert LayerLimits.load({"LAMELLA_LAYER_BYTES": "2T"}).unpacked_bytes == 2 << 40
    assert LayerLimits.load({"LAMELLA_LAYER_BYTES": "10mb"}).unpacked_bytes == 10 << 20
    assert LayerLimits.load({"LAMELLA_LAYER_ENTRIES": "5"}).entries == 5
    assert LayerLimits.load({"LAMELLA_LAYER_WINDOW": "128m"}).window_bytes == 128 << 20


@pytest.mark.parametrize(
    "values", [{"LAMELLA_LAYER_BYTES": "much"}, {"LAMELLA_LAYER_ENTRIES": "5k"}]
)
def test_a_limit_that_is_no_number_is_an_error(values: dict[str, str]) -> None:
    with pytest.raises(LimitError):
        LayerLimits.load(values)
