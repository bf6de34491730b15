from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from engine.errors import ArchiveError, DigestMismatchError, NoSpaceError, UnsafePathError
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

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path / "layer")


@pytest.mark.parametrize(
    "content",
    [
        entry(b"../escaped", b"x"),
        entry(b"a/../../escaped", b"x"),
        directory(b".."),
        entry(b"inside", b"x") + hard_link(b"link", b"../../escaped"),
        entry(b".wh...", b""),
        entry(b".wh.", b""),
        pax(path=b"../escaped") + entry(b"short", b"x"),
    ],
)
def test_what_climbs_out_is_refused_and_nothing_is_left(
    content: bytes, layer: Layer, tmp_path: Path
) -> None:
    with pytest.raises(UnsafePathError):
        layer.unpack(content + END)
    assert list(layer.path.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]


def test_absolute_names_count_from_the_layers_root(layer: Layer) -> None:
    layer.unpack(entry(b"/etc/passwd", b"mine") + END)
    assert (layer.diff / "etc/passwd").read_bytes() == b"mine"


@pytest.mark.parametrize("target", [b"OUTSIDE", b"../../outside", b"/../../outside"])
def test_writing_through_a_link_stays_inside(target: bytes, layer: Layer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = target.replace(b"OUTSIDE", os.fsencode(outside))
    layer.unpack(symlink(b"link", target) + entry(b"link/file", b"x") + END)
    assert list(outside.iterdir()) == []


def test_a_file_replaces_a_link_and_does_not_follow_it(layer: Layer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    layer.unpack(symlink(b"link", os.fsencode(victim)) + entry(b"link", b"new") + END)
    assert victim.read_text() == "untouched"
    assert (layer.diff / "link").read_bytes() == b"new"


def test_a_hard_link_finds_nothing_outside(layer: Layer) -> None:
    with pytest.raises(ArchiveError, match="missing"):
        layer.unpack(hard_link(b"shadow", b"/etc/shadow") + END)


def test_a_hard_link_through_a_link_stays_inside(layer: Layer) -> None:
    with pytest.raises(ArchiveError, match="missing"):
        layer.unpack(symlink(b"jump", b"/etc") + hard_link(b"shadow", b"jump/shadow") + END)


def test_links_in_a_circle_end(layer: Layer) -> None:
    with pytest.raises(ArchiveError, match="too many"):
        layer.unpack(symlink(b"a", b"b") + symlink(b"b", b"a") + entry(b"a/x", b"") + END)


def test_swapping_directories_for_links_meanwhile_leads_nowhere(
    layer: Layer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        work, link = layer.diff / "d", layer.path / "link"
        aside = layer.path / "aside"
        link.symlink_to(outside)
        while not stop.is_set():
            for source, target in ((work, aside), (link, work), (work, link), (aside, work)):
                try:
                    os.rename(source, target)
                except OSError:
                    continue

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for number in range(30):
            content = directory(b"d/") + b"".join(
                directory(b"d/e%d" % item) + entry(b"d/e%d/f" % item, b"x") for item in range(40)
            )
            one = Layer(tmp_path / f"race-{number}") if number else layer
            with contextlib.suppress(Exception):
                one.unpack(content + END)
            if number == 0:
                continue
    finally:
        stop.set()
        racer.join()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("cut", [100, 512, 700, 1024 + 511])
def test_a_truncated_layer_is_said_to_be_truncated(cut: int, layer: Layer) -> None:
    content = entry(b"file", b"x" * 1024) + entry(b"other", b"y")
    with pytest.raises(ArchiveError, match="truncated"):
        layer.unpack(content[:cut])
    assert list(layer.path.iterdir()) == []


def test_a_truncated_gzip_is_said_to_be_truncated(layer: Layer) -> None:
    content = gzip.compress(entry(b"file", os.urandom(4096)) + END)
    with pytest.raises(ArchiveError, match="truncated"):
        layer.unpack(content[:-30])


def test_gzip_members_are_one_stream(layer: Layer) -> None:
    tar = entry(b"file", b"x" * 700) + END
    result = layer.unpack(gzip.compress(tar[:600]) + gzip.compress(tar[600:]) + bytes(100))
    assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert (layer.diff / "file").read_bytes() == b"x" * 700


def test_a_wrong_diff_id_leaves_nothing(layer: Layer) -> None:
    with pytest.raises(DigestMismatchError):
        layer.unpack(entry(b"file", b"x") + END, diff_id="sha256:" + "0" * 64)
    assert list(layer.path.iterdir()) == []


def test_a_huge_pax_header_is_refused(layer: Layer) -> None:
    with pytest.raises(ArchiveError, match="larger than"):
        layer.unpack(header(b"pax", flag=b"x", size=1 << 30) + END)


def test_a_damaged_header_is_refused(layer: Layer) -> None:
    content = bytearray(entry(b"file", b"x") + END)
    content[3] ^= 1
    with pytest.raises(ArchiveError, match="not a tar"):
        layer.unpack(bytes(content))


@pytest.mark.parametrize(
    "content", [b"\xfd7zXZ\x00" + bytes(600), b"BZh9" + bytes(600)], ids=["xz", "bzip2"]
)
def test_other_compressions_are_named(content: bytes, layer: Layer) -> None:
    with pytest.raises(ArchiveError, match="not supported"):
        layer.unpack(content)


def test_types_replace_each_other_within_a_layer(layer: Layer) -> None:
    layer.unpack(
        directory(b"a")
        + entry(b"a/inside", b"x")
        + entry(b"a", b"file now")
        + symlink(b"b", b"a")
        + directory(b"b")
        + entry(b"b/c", b"y")
        + END
    )
    assert (layer.diff / "a").read_bytes() == b"file now"
    assert layer.names() == ["a", "b", "b/c"]
    assert [item.path for item in layer.index.entries] == [b"", b"a", b"b", b"b/c"]


def test_whiteouts_become_overlays_marks(tmp_path: Path) -> None:
    lower, upper = Layer(tmp_path / "lower"), Layer(tmp_path / "upper")
    lower.unpack(entry(b"d/gone", b"x") + entry(b"d/kept", b"y") + entry(b"o/old", b"z") + END)
    upper.unpack(
        entry(b"d/.wh.gone") + directory(b"o") + entry(b"o/.wh..wh..opq") + END, lowers=(lower,)
    )
    mark = os.lstat(upper.diff / "d/gone")
    assert stat.S_ISCHR(mark.st_mode)
    assert mark.st_rdev == 0
    assert os.getxattr(upper.diff / "o", "user.overlay.opaque") == b"y"


def test_a_whiteout_and_a_directory_of_one_name_make_it_opaque(tmp_path: Path) -> None:
    lower = Layer(tmp_path / "lower")
    lower.unpack(entry(b"d/old", b"x") + END)
    for number, order in enumerate(((0, 1), (1, 0))):
        parts = (entry(b".wh.d"), directory(b"d"))
        upper = Layer(tmp_path / f"upper-{number}")
        upper.unpack(parts[order[0]] + parts[order[1]] + END, lowers=(lower,))
        assert os.getxattr(upper.diff / "d", "user.overlay.opaque") == b"y"
        (found,) = [item for item in upper.index.entries if item.path == b"d"]
        assert found.is_opaque


def test_a_hard_link_to_a_lower_layer_brings_the_file_up(tmp_path: Path) -> None:
    lower, upper = Layer(tmp_path / "lower"), Layer(tmp_path / "upper")
    lower.unpack(entry(b"d/file", b"content", mode=0o640, mtime=77) + END)
    upper.unpack(hard_link(b"twin", b"d/file") + END, lowers=(lower,))
    first, second = os.stat(upper.diff / "d/file"), os.stat(upper.diff / "twin")
    assert first.st_ino == second.st_ino
    assert (stat.S_IMODE(second.st_mode), second.st_mtime) == (0o640, 77)
    assert (upper.diff / "twin").read_bytes() == b"content"


def test_a_parent_that_is_a_link_below_is_followed(tmp_path: Path) -> None:
    lower, upper = Layer(tmp_path / "lower"), Layer(tmp_path / "upper")
    lower.unpack(directory(b"usr/lib", mode=0o711) + symlink(b"lib", b"usr/lib") + END)
    upper.unpack(entry(b"lib/new", b"x") + END, lowers=(lower,))
    assert upper.names() == ["usr", "usr/lib", "usr/lib/new"]
    assert stat.S_IMODE(os.stat(upper.diff / "usr/lib").st_mode) == 0o711


def test_overlay_marks_inside_a_layer_are_left_out(layer: Layer) -> None:
    result = layer.unpack(pax(SCHILY__xattr__user__overlay__opaque=b"y") + directory(b"d") + END)
    assert os.listxattr(layer.diff / "d") == []
    assert "overlay marks" in result.warnings[0]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"new\nline", "grün".encode(), b"n" * 255])
def test_odd_names_survive(name: bytes, layer: Layer) -> None:
    layer.unpack(pax(path=b"d/" + name) + entry(b"x", b"content") + END)
    with open(os.path.join(os.fsencode(layer.diff), b"d", name), "rb") as file:
        assert file.read() == b"content"


def test_base_256_numbers_and_negative_times_are_read(layer: Layer) -> None:
    block = bytearray(header(b"file"))
    block[136:148] = (-5 & ((1 << 96) - 1)).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    layer.unpack(bytes(block) + END)
    assert os.stat(layer.diff / "file").st_mtime == -5


def test_modes_and_times_of_directories_come_last(layer: Layer) -> None:
    layer.unpack(
        directory(b"d", mode=0o500, mtime=5) + entry(b"d/file", b"x", mode=0, mtime=6) + END
    )
    status = os.stat(layer.diff / "d")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o500, 5)
    os.chmod(layer.diff / "d", 0o700)


def test_a_file_of_zeros_takes_no_room(layer: Layer) -> None:
    layer.unpack(gzip.compress(entry(b"zeros", bytes(8 << 20)) + END))
    status = os.stat(layer.diff / "zeros")
    assert status.st_size == 8 << 20
    assert status.st_blocks * 512 < 1 << 20


def test_large_files_are_whole_with_their_looks_and_digests(layer: Layer) -> None:
    content = os.urandom(700_000)
    zeros = bytes(1 << 20) + b"end"
    result = layer.unpack(
        entry(b"large", content, mode=0o640, mtime=1234)
        + entry(b"small", b"s", mtime=5)
        + entry(b"zeros", zeros, mtime=6)
        + entry(b"setuid", content, mode=0o4755)
        + entry(b"again", content)
        + entry(b"again", content[:300_000], mtime=7)
        + hard_link(b"twin", b"large")
        + END
    )
    looks = {path.name: path.stat() for path in layer.diff.iterdir()}
    assert {name: (stat.S_IMODE(look.st_mode), look.st_mtime) for name, look in looks.items()} == {
        "large": (0o640, 1234),
        "twin": (0o640, 1234),
        "small": (0o644, 5),
        "zeros": (0o644, 6),
        "setuid": (0o4755, 0),
        "again": (0o644, 7),
    }
    assert (layer.diff / "zeros").read_bytes() == zeros
    assert looks["zeros"].st_blocks * 512 < len(zeros)
    assert looks["large"].st_ino == looks["twin"].st_ino
    digests = {item.path.decode(): item.content_digest.hex() for item in layer.index.entries}
    assert digests == {"": ""} | {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in layer.diff.iterdir()
    }
    assert result.size_bytes == sum(looks[name].st_size for name in looks if name != "twin")
    assert (layer.diff / "again").read_bytes() == content[:300_000]


def test_a_large_file_that_ends_too_early_leaves_nothing(layer: Layer) -> None:
    before = threading.active_count()
    with pytest.raises(ArchiveError, match="truncated"):
        layer.unpack(entry(b"large", bytes(700_000))[:600_000])
    assert list(layer.path.iterdir()) == []
    assert threading.active_count() == before


def test_a_large_file_that_cannot_be_written_is_said_and_leaves_nothing(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, descriptors = threading.active_count(), os.listdir("/proc/self/fd")

    def full(_descriptor: int, _piece: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("engine.snapshots.file_content.write_all", full)
    with pytest.raises(NoSpaceError):
        layer.unpack(b"".join(entry(b"l%d" % n, os.urandom(500_000)) for n in range(60)) + END)
    assert list(layer.path.iterdir()) == []
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
