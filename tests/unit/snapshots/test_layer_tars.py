"""The tar of a layer, made again of what was unpacked: always the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DigestMismatchError, EngineError, StoreError
from engine.snapshots.layer_tar import layer_tar_bytes
from engine.snapshots.layer_tar_jobs import (
    LayerTarArguments,
    LayerTarResult,
    layer_tar,
)
from engine.snapshots.streams import decompress
from engine.types import Compression
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


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path / "layer")


def write_again(
    layer: Layer, diff_id: str, compression: Compression = Compression.NONE
) -> tuple[LayerTarResult, bytes]:
    target = os.memfd_create("target")
    parent = os.open(layer.path, os.O_RDONLY)
    arguments = LayerTarArguments(label="layer", diff_id=diff_id, compression=compression)
    try:
        done = layer_tar(msgspec.json.encode(arguments), [parent, target], lambda _: None)
        content = os.pread(target, os.fstat(target).st_size, 0)
    finally:
        os.close(parent)
        os.close(target)
    return msgspec.json.decode(done, type=LayerTarResult), content


def check_comes_back(layer: Layer, tar: bytes, *, lowers: tuple[Layer, ...] = ()) -> None:
    unpacked = layer.unpack(tar, lowers=lowers)
    result, content = write_again(layer, unpacked.diff_id)
    assert content == tar
    assert result.is_exact
    assert result.diff_id == result.blob_digest == unpacked.diff_id
    assert result.tar_bytes == result.blob_bytes == len(tar)
    assert layer_tar_bytes(str(layer.path)) == len(tar)


SPARSE = (
    pax(
        GNU__sparse__major=b"1",
        GNU__sparse__minor=b"0",
        GNU__sparse__name=b"sparse",
        GNU__sparse__realsize=b"1000000",
    )
    + header(b"GNUSparseFile.0/sparse", size=512 + 700)
    + b"2\n4096\n200\n500000\n500\n".ljust(512, b"\0")
    + random.Random(1).randbytes(700)
    + bytes(324)
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(END, id="nothing in it"),
        pytest.param(entry(b"file", b"content") + END, id="a file"),
        pytest.param(entry(b"file", b"content") + END + bytes(9 * 1024), id="whole records"),
        pytest.param(entry(b"file", b"content") + END + b"something else", id="more after its end"),
        pytest.param(entry(b"file", b"content"), id="no end"),
        pytest.param(header(b"file", size=3) + b"abc" + b"#" * 509 + END, id="unusual padding"),
        pytest.param(header(b"file", size=3) + b"abc", id="no padding at all"),
        pytest.param(entry(b"a", b"one") + entry(b"a", b"another") + END, id="a file twice"),
        pytest.param(
            entry(b"d/a", b"one") + entry(b"d/b", b"two") + entry(b"d", b"three") + END,
            id="a directory that becomes a file",
        ),
        pytest.param(
            entry(b"a", b"one") + hard_link(b"b", b"a") + entry(b"a", b"two") + END,
            id="a hard link to what is replaced",
        ),
        pytest.param(
            entry(b"a", b"one") + symlink(b"a", b"b") + entry(b"a", b"three") + END,
            id="a file, a link, a file",
        ),
        pytest.param(entry(b".wh.gone", b"a whiteout with content") + END, id="data in whiteouts"),
        pytest.param(
            directory(b"real") + symlink(b"way", b"real") + entry(b"way/f", b"content") + END,
            id="through a link",
        ),
        pytest.param(pax(comment=b"by hand") + entry(b"x", b"y" * 3000) + END, id="pax"),
        pytest.param(pax(b"g", comment=b"by hand") + entry(b"x", b"y") + END, id="global pax"),
        pytest.param(SPARSE + entry(b"after", b"it") + END, id="a sparse file"),
        pytest.param(SPARSE + entry(b"sparse", b"short") + END, id="a sparse file replaced"),
        pytest.param(entry(b"zeros", bytes(3 << 20)) + END, id="a file of zeros"),
        pytest.param(entry(b"./a//b/../c", b"x") + END, id="a name that is cleaned"),
        pytest.param(header(b"volume", flag=b"V") + entry(b"f", b"x") + END, id="a volume name"),
    ],
)
def test_a_tar_comes_back_byte_for_byte(layer: Layer, content: bytes) -> None:
    check_comes_back(layer, content)


_NAMES = st.sampled_from([b"a", b"b", b"a/b", b"a/c", b"b/d/e", b"c/../a", b"./b", b"c"])
_ENTRIES = st.one_of(
    st.builds(entry, _NAMES, st.binary(max_size=2000)),
    st.builds(directory, _NAMES),
    st.builds(symlink, _NAMES, _NAMES),
    st.builds(hard_link, _NAMES, _NAMES),
    st.builds(lambda name, data: entry(b".wh." + name, data), st.sampled_from([b"a", b"c"]),
              st.binary(max_size=20)),
    st.builds(lambda data: header(b"padded", size=3) + b"abc" + data.ljust(509, b"!")[:509],
              st.binary(max_size=20)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(_ENTRIES, max_size=12), tail=st.sampled_from([b"", END, END + b"\0rest"]))
def test_any_tar_that_can_be_unpacked_comes_back(entries: list[bytes], tail: bytes) -> None:
    root = Path(tempfile.mkdtemp(prefix="lamella-tar-"))
    try:
        lower = Layer(root / "lower")
        lower.unpack(entry(b"a", b"below") + directory(b"b") + END)
        layer = Layer(root / "layer")
        try:
            check_comes_back(layer, b"".join(entries) + tail, lowers=(lower,))
        except EngineError:
            assert list(layer.path.iterdir()) == []
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_compressed_layer_is_the_same_twice_and_holds_the_tar(
    layer: Layer, compression: Compression
) -> None:
    tar = entry(b"file", random.Random(2).randbytes(5000) * 700) + END
    diff_id = layer.unpack(tar).diff_id

    first, content = write_again(layer, diff_id, compression)
    second, again = write_again(layer, diff_id, compression)

    assert first == second
    assert content == again
    assert first.blob_bytes == len(content) < len(tar)
    assert first.blob_digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert b"".join(decompress(iter([content]), content[:6], "layer")) == tar


def test_a_changed_file_is_noticed(layer: Layer) -> None:
    diff_id = layer.unpack(entry(b"file", b"content") + END).diff_id
    (layer.diff / "file").write_bytes(b"changed")
    with pytest.raises(DigestMismatchError):
        write_again(layer, diff_id)


@pytest.mark.parametrize("damage", ["missing", "shorter", "a pipe", "a link", "cut", "flipped"])
def test_a_damaged_layer_is_said_to_be_damaged(layer: Layer, damage: str) -> None:
    diff_id = layer.unpack(entry(b"file", b"content" * 100) + END).diff_id
    file, tar = layer.diff / "file", layer.path / "tar"
    if damage in {"missing", "a pipe", "a link"}:
        file.unlink()
    if damage == "shorter":
        file.write_bytes(b"con")
    if damage == "a pipe":
        os.mkfifo(file)
    if damage == "a link":
        file.symlink_to("/etc/passwd")
    if damage == "cut":
        tar.write_bytes(tar.read_bytes()[:-9])
    if damage == "flipped":
        content = bytearray(tar.read_bytes())
        content[len(content) // 2] ^= 1
        tar.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        write_again(layer, diff_id)


def test_a_layer_of_an_earlier_version_is_packed_of_its_files(layer: Layer, tmp_path: Path) -> None:
    unpacked = layer.unpack(entry(b"d/file", b"content") + symlink(b"link", b"d/file") + END)
    (layer.path / "tar").unlink()

    result, content = write_again(layer, unpacked.diff_id)

    assert not result.is_exact
    assert layer_tar_bytes(str(layer.path)) is None
    again = Layer(tmp_path / "again")
    assert again.unpack(content).diff_id == result.diff_id != unpacked.diff_id
    assert again.names() == layer.names()
    assert (again.diff / "d/file").read_bytes() == b"content"
