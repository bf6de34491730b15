from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from engine.linux import files, tree_removal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["openat2", "walk"])
def is_walking(request, monkeypatch) -> None:
    """Every test runs with the kernel's resolution and with our own."""
    if request.param == "walk":
        monkeypatch.setattr(files._Support, "has_openat2", False)


@pytest.fixture
def root(tmp_path: Path):
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/file").write_text("inside")
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/passwd").write_text("the container's")
    (tmp_path / "outside").write_text("outside")
    descriptor = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _read(descriptor: int) -> str:
    with open(descriptor) as file:
        return file.read()


@pytest.mark.usefixtures("is_walking")
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "a/../etc/passwd"])
def test_links_in_a_root_stay_in_it(target: str, root: int, tmp_path: Path) -> None:
    (tmp_path / "root/link").symlink_to(target)
    assert _read(files.open_in_root(root, b"link", os.O_RDONLY)) == "the container's"
    assert _read(files.open_in_root(root, b"/../link", os.O_RDONLY)) == "the container's"


@pytest.mark.usefixtures("is_walking")
@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"../outside", errno.EXDEV),
        (b"/etc/passwd", errno.EXDEV),
        (b"link", errno.ELOOP),
        (b"link/passwd", errno.ELOOP),
        (b"missing", errno.ENOENT),
        (b"etc/passwd/x", errno.ENOTDIR),
    ],
)
def test_beneath_follows_nothing(path: bytes, number: int, root: int, tmp_path: Path) -> None:
    (tmp_path / "root/link").symlink_to("etc")
    with pytest.raises(OSError, match="Errno") as caught:
        files.open_beneath(root, path, os.O_RDONLY)
    assert caught.value.errno == number


@pytest.mark.usefixtures("is_walking")
def test_a_circle_of_links_ends(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/x").symlink_to("y")
    (tmp_path / "root/y").symlink_to("x")
    with pytest.raises(OSError, match="Errno") as caught:
        files.open_in_root(root, b"x", os.O_RDONLY)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.usefixtures("is_walking")
def test_directories_are_made_inside_a_root(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/var").symlink_to("/a")
    os.close(files.make_directories(root, b"var/b/new/er"))
    assert (tmp_path / "root/a/b/new/er").is_dir()


@pytest.mark.usefixtures("is_walking")
def test_the_link_itself_can_be_opened(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/link").symlink_to("nowhere")
    descriptor = files.open_in_root(root, b"link", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(descriptor).st_mode)
    os.close(descriptor)


def test_a_tree_without_permissions_is_removed_and_links_are_not_followed(
    root: int, tmp_path: Path
) -> None:
    (tmp_path / "root/a/b/up").symlink_to(tmp_path)
    os.chmod(tmp_path / "root/a/b", 0)
    os.chmod(tmp_path / "root/a", 0)
    tree_removal.remove_tree(root, b"a")
    assert not (tmp_path / "root/a").exists()
    assert (tmp_path / "outside").exists()


def test_a_very_deep_tree_is_removed(root: int, tmp_path: Path) -> None:
    current = os.dup(root)
    for _ in range(1500):
        os.mkdir(b"d" * 20, dir_fd=current)
        deeper = os.open(b"d" * 20, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = deeper
    os.close(current)
    removed: list[bytes] = []
    tree_removal.remove_tree(root, b"d" * 20, on_removed=removed.append)
    assert len(removed) == 1500
    assert sorted(os.listdir(root)) == ["a", "etc"]


def test_copies_keep_their_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with open(source, "wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"island")
    with open(source, "rb") as reader, open(target, "wb") as writer:
        files.copy_contents(reader.fileno(), writer.fileno(), 4 << 20)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20
