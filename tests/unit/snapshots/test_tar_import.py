"""What becomes of somebody's tar when it is imported."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.config import LayerLimits
from engine.errors import ArchiveError
from engine.snapshots.layer_tar_jobs import layer_tar
from engine.snapshots.tar_import import ImportArguments, ImportResult, import_layer
from tests.unit.snapshots.tars import END, Layer, directory, entry, header, pax, symlink

if TYPE_CHECKING:
    from pathlib import Path


DEFAULT_LIMITS = LayerLimits()


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path / "layer")


def imported(layer: Layer, content: bytes, *, limits: LayerLimits = DEFAULT_LIMITS) -> ImportResult:
    source = os.memfd_create("source")
    parent = os.open(layer.path, os.O_RDONLY)
    arguments = ImportArguments(label="root.tar", uses_user_xattrs=True, limits=limits)
    try:
        os.write(source, content)
        os.lseek(source, 0, os.SEEK_SET)
        done = import_layer(msgspec.json.encode(arguments), [source, parent], lambda _: None)
    finally:
        os.close(source)
        os.close(parent)
    return msgspec.json.decode(done, type=ImportResult)


PLAIN = (
    directory(b"./")
    + directory(b"./etc")
    + entry(b"./etc/motd", b"hello")
    + symlink(b"./etc/link", b"motd")
    + pax(mtime=b"12.5")
    + entry(b"./fine", b"x" * 1000)
    + END
    + bytes(8 * 1024)
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_tar_without_sparse_files_keeps_its_diff_id(layer: Layer, pack) -> None:
    result = imported(layer, pack(PLAIN))

    assert result.diff_id == f"sha256:{hashlib.sha256(PLAIN).hexdigest()}"
    assert result.tar_bytes == len(PLAIN)
    assert (layer.diff / "etc/motd").read_bytes() == b"hello"
    assert sorted(path.name for path in layer.path.iterdir()) == ["diff", "index", "tar"]


@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--format=pax"], ["--format=pax", "--sparse-version=0.1"]]
)
def test_sparse_files_are_written_out_and_nothing_else_changes(
    layer: Layer, tmp_path: Path, options: list[str]
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "before").write_text("before")
    with open(tree / "holes", "wb") as file:
        file.truncate(1 << 20)
        for offset in (70_000, 600_001):
            file.seek(offset)
            file.write(random.Random(offset).randbytes(777))
    os.truncate(tree / "holes", (1 << 20) + 5)
    (tree / "later").write_text("later")
    os.utime(tree / "holes", (1_600_000_000, 1_600_000_000))
    packed = subprocess.run(
        ["tar", "--sparse", *options, "-cf", "-", "-C", tree, "before", "holes", "later"],
        capture_output=True,
        check=True,
    ).stdout
    assert len(packed) < 1 << 20

    result = imported(layer, packed)

    assert result.tar_bytes > 1 << 20
    for name in ("before", "holes", "later"):
        assert (layer.diff / name).read_bytes() == (tree / name).read_bytes()
    assert (layer.diff / "holes").stat().st_mtime == 1_600_000_000
    again = tmp_path / "again.tar"
    with again.open("wb") as target:
        parent = os.open(layer.path, os.O_RDONLY)
        try:
            arguments = {"label": "x", "diff_id": result.diff_id, "compression": "none"}
            layer_tar(msgspec.json.encode(arguments), [parent, target.fileno()], lambda _: None)
        finally:
            os.close(parent)
    with tarfile.open(again) as tar:
        assert [member.name for member in tar] == ["before", "holes", "later"]
        assert not any(member.issparse() for member in tar)


def test_global_headers_before_a_sparse_file_go_on_to_hold(layer: Layer) -> None:
    sparse = (
        pax(
            GNU__sparse__major=b"1",
            GNU__sparse__minor=b"0",
            GNU__sparse__name=b"holes",
            GNU__sparse__realsize=b"5000",
        )
        + header(b"GNUSparseFile.0/holes", size=512 + 3)
        + b"1\n4096\n3\n".ljust(512, b"\0")
        + b"abc"
        + bytes(509)
    )
    imported(layer, pax(b"g", mtime=b"77") + sparse + entry(b"after", b"x") + END)

    assert (layer.diff / "holes").read_bytes() == bytes(4096) + b"abc" + bytes(901)
    assert (layer.diff / "holes").stat().st_mtime == 77
    assert (layer.diff / "after").stat().st_mtime == 77


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar" * 200, entry(b"x", b"y" * 600)[:700], gzip.compress(PLAIN)[:-20]],
    ids=["nothing", "no tar", "cut", "cut gzip"],
)
def test_what_is_no_tar_leaves_nothing(layer: Layer, content: bytes) -> None:
    with pytest.raises(ArchiveError):
        imported(layer, content)
    assert list(layer.path.iterdir()) == []


def test_headers_without_end_are_refused(layer: Layer) -> None:
    volume = header(b"volume", flag=b"V", size=100 << 20)
    with pytest.raises(ArchiveError, match="headers are larger"):
        imported(layer, volume + bytes(100 << 20) + END)


def test_what_passes_the_limits_is_refused(layer: Layer) -> None:
    limits = LayerLimits(unpacked_bytes=1 << 20, entries=3)
    holes = (
        pax(GNU__sparse__size=b"1000000000000", GNU__sparse__map=b"0,3")
        + header(b"holes", size=3)
        + b"abc".ljust(512, b"\0")
    )
    for content in (holes + END, entry(b"big", bytes(2 << 20)) + END, directory(b"d") * 4 + END):
        with pytest.raises(ArchiveError, match="more than"):
            imported(layer, content, limits=limits)
        assert list(layer.path.iterdir()) == []
