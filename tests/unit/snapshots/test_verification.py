"""Whether a layer that was tampered with is told from one that was not."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.snapshots.verification import (
    VerifiedLayer,
    VerifyArguments,
    VerifyResult,
    verify_layers,
)
from tests.unit.snapshots.tars import END, Layer, directory, entry, hard_link, symlink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CONTENT = (
    directory(b"etc")
    + entry(b"etc/passwd", b"root:x:0:0", mtime=1_700_000_000)
    + entry(b"etc/group", b"root:x:0:")
    + hard_link(b"etc/group-", b"etc/group")
    + symlink(b"etc/mtab", b"/proc/mounts")
    + directory(b"etc/empty")
    + entry(b"large", bytes(300_000) + b"end")
    + END
)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    layer = Layer(tmp_path / "layer")
    layer.unpack(_CONTENT)
    return layer


def verify(layer: Layer, content: bytes = _CONTENT) -> VerifyResult:
    descriptor = os.open(layer.path, os.O_RDONLY)
    try:
        diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
        arguments = VerifyArguments(layers=(VerifiedLayer(label="layer", diff_id=diff_id),))
        answer = verify_layers(msgspec.json.encode(arguments), [descriptor], lambda _: None)
    finally:
        os.close(descriptor)
    (result,) = msgspec.json.decode(answer, type=list[VerifyResult])
    return result


def test_a_layer_is_whole_after_it_was_unpacked(layer: Layer) -> None:
    result = verify(layer)
    assert result.differences == ()
    assert result.difference_count == 0
    assert result.entry_count == 7
    assert result.read_bytes == result.size_bytes == 10 + 9 + 300_003


def test_whiteouts_and_opaque_directories_of_an_upper_layer_are_part_of_it(
    layer: Layer, tmp_path: Path
) -> None:
    upper = Layer(tmp_path / "upper")
    content = (
        entry(b"etc/.wh.passwd") + directory(b"etc/empty") + entry(b"etc/empty/.wh..wh..opq") + END
    )
    upper.unpack(content, lowers=(layer,))
    assert verify(upper, content).differences == ()
    (upper.diff / "etc/passwd").unlink()
    (upper.diff / "etc/passwd").write_text("again")
    os.removexattr(upper.diff / "etc/empty", "user.overlay.opaque")
    assert set(verify(upper, content).differences) == {
        "etc/passwd is not the mark of something removed that it was",
        "etc/empty hides what lies below it, or no longer does",
    }


def overwrite(path: Path, content: bytes) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def unlink_twin(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (0, 0))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda diff: overwrite(diff / "etc/passwd", b"evil"), "etc/passwd has another content"),
        (lambda diff: overwrite(diff / "large", b"\1"), "large has another content"),
        (lambda diff: os.truncate(diff / "large", 10), "large has 10 bytes, not 300003"),
        (lambda diff: os.utime(diff / "etc/passwd", (5, 5)), "was written to at another time"),
        (lambda diff: os.chmod(diff / "etc/passwd", 0o666), "has mode 0666, not 0644"),
        (lambda diff: os.chmod(diff / "etc", 0o700), "etc has mode 0700, not 0755"),
        (lambda diff: os.chmod(diff, 0o700), "the root has mode 0700, not 0755"),
        (lambda diff: (diff / "etc/passwd").unlink(), "etc/passwd is missing"),
        (lambda diff: (diff / "etc/evil").touch(), "etc/evil is not part of the layer"),
        (lambda diff: shutil.rmtree(diff / "etc"), "etc is missing"),
        (lambda diff: replace_link(diff / "etc/mtab", "/etc/x"), "etc/mtab points somewhere else"),
        (
            lambda diff: unlink_twin(diff / "etc/group-"),
            "etc/group- is no longer the same file as etc/group",
        ),
        (lambda diff: replace_link(diff / "etc/passwd", "x"), "etc/passwd is no file any more"),
    ],
)
def test_what_was_tampered_with_is_named(
    layer: Layer, damage: Callable[[Path], object], told: str
) -> None:
    damage(layer.diff)
    result = verify(layer)
    assert any(told in text for text in result.differences), result.differences
    assert result.difference_count == len(result.differences)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / "index").unlink(), "file list cannot be read"),
        (lambda path: (path / "index").write_bytes(b"\xc1"), "is damaged"),
        (lambda path: shutil.rmtree(path / "diff"), "files cannot be read"),
    ],
)
def test_a_layer_without_its_parts_is_no_error_but_damage(
    layer: Layer, damage: Callable[[Path], object], told: str
) -> None:
    damage(layer.path)
    result = verify(layer)
    assert result.difference_count == 1
    assert told in result.differences[0]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: overwrite(path, b"not a tar"), "is damaged"),
        (lambda path: os.truncate(path, path.stat().st_size - 5), "is damaged"),
        (lambda path: os.truncate(path, 3), "is damaged"),
    ],
)
def test_a_damaged_record_of_how_the_tar_was_written_is_named(
    layer: Layer, damage: Callable[[Path], object], told: str
) -> None:
    damage(layer.path / "tar")
    result = verify(layer)
    assert result.difference_count == 1
    assert told in result.differences[0]


def test_a_layer_must_make_the_tar_of_its_diff_id_again(layer: Layer) -> None:
    assert verify(layer, b"another tar").differences == (
        "its tar has another digest than the diff id",
    )
    # A layer of an earlier version has nothing to make it of, and is compared all the same.
    (layer.path / "tar").unlink()
    assert verify(layer, b"another tar").differences == ()


def test_what_a_later_entry_replaced_is_verified_as_part_of_the_tar(tmp_path: Path) -> None:
    content = entry(b"twice", b"first") + entry(b"twice", b"second") + END
    layer = Layer(tmp_path / "layer")
    layer.unpack(content)
    assert verify(layer, content).differences == ()
    (replaced,) = (layer.path / "replaced").iterdir()
    overwrite(replaced, b"x")
    assert verify(layer, content).differences == ("its tar has another digest than the diff id",)


def test_only_the_first_of_many_differences_are_told(layer: Layer) -> None:
    for number in range(100):
        (layer.diff / f"extra-{number}").touch()
    result = verify(layer)
    assert result.difference_count == 100
    assert len(result.differences) == 20


@pytest.mark.root
def test_another_owner_or_attribute_is_named_where_every_id_can_own(layer: Layer) -> None:
    os.chown(layer.diff / "etc/passwd", 5, 6)
    os.setxattr(layer.diff / "large", "user.note", b"x")
    assert set(verify(layer).differences) == {
        "etc/passwd belongs to 5:6, not to 0:0",
        "large has other extended attributes",
    }
