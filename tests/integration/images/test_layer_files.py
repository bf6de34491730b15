"""Files of layers and of writable layers, read to be shown: nothing in them leads out."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from engine.errors import FileNotInLayerError, InvalidInputError, StoreError
from engine.images.layout import MadeImage, MadeLayer, write_layout
from engine.linux.files import exchange
from engine.oci.documents import ConfigSection
from engine.snapshots.tar_writer import TarEntry
from engine.types import MAXIMUM_VIEWED_BYTES, ContainerRequest

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import Engine
    from tests.conftest import StorePaths

SECRET = b"what only the host may know"
READS = 300


def file(path: str, content: bytes = b"", mode: int = 0o644) -> TarEntry:
    return TarEntry(path=path, mode=stat.S_IFREG | mode, content=content)


def link(path: str, target: str) -> TarEntry:
    return TarEntry(path=path, mode=stat.S_IFLNK | 0o777, link_target=target)


def directory(path: str, mode: int = 0o755) -> TarEntry:
    return TarEntry(path=path, mode=stat.S_IFDIR | mode)


@pytest.fixture
async def odd(engine: Engine, tmp_path: Path) -> str:
    """An image of two layers; the second has whatever somebody could look at."""
    (tmp_path / "outside").write_bytes(SECRET)
    below = MadeLayer(created_by="COPY a", entries=(file("gone", b"gone"), file("kept", b"old")))
    entries = (
        directory("shut", 0o000),
        file("shut/file", b"shut", 0o000),
        file("kept", b"new\x1b[2J"),
        file("large", bytes(range(256)) * 8192),
        file("empty"),
        file("od\nd\udcff", b"odd"),
        link("link", str(tmp_path / "outside")),
        link("climb", str(tmp_path)),
        TarEntry(path="pipe", mode=stat.S_IFIFO | 0o644),
        file(".wh.gone"),
    )
    above = MadeLayer(created_by="COPY b", entries=entries)
    write_layout(
        tmp_path / "layout",
        [MadeImage(name="odd:1", layers=(below, above), config=ConfigSection(cmd=("/none",)))],
    )
    await engine.load_images(tmp_path / "layout")
    return "odd:1"


async def test_a_file_is_read_as_its_layer_has_it(engine: Engine, odd: str) -> None:
    for position, path, content in (
        (0, "kept", b"old"),
        (1, "kept", b"new\x1b[2J"),
        (1, "/shut/../shut/file", b"shut"),
        (1, "empty", b""),
        (1, "od\nd\udcff", b"odd"),
        (0, "gone", b"gone"),
    ):
        found = await engine.read_layer_file(odd, position, path)
        assert (found.content, found.size_bytes, found.is_complete) == (content, len(content), True)
    large = await engine.read_layer_file(odd, 1, "large")
    assert large.content == (bytes(range(256)) * 8192)[:MAXIMUM_VIEWED_BYTES]
    assert (large.size_bytes, large.is_complete) == (2 << 20, False)


async def test_what_is_no_file_says_what_it_is(engine: Engine, odd: str, tmp_path: Path) -> None:
    for path, reason in (
        ("link", f"link is a symbolic link to {tmp_path}/outside"),
        ("shut", "shut is no file: directory"),
        ("pipe", "pipe is no file: fifo"),
        ("gone", "gone is removed by this layer"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            await engine.read_layer_file(odd, 1, path)
    for path in (
        "climb/outside",
        "link/below",
        "../outside",
        "none",
        "",
        "kept\0",
        "kept/below",
        "x" * 300,
        "y/" * 3000 + "z",
        "\ud800",
    ):
        with pytest.raises(FileNotInLayerError):
            await engine.read_layer_file(odd, 1, path)


async def test_a_layer_that_is_gone_is_told(
    engine: Engine, odd: str, store_paths: StorePaths
) -> None:
    details = await engine.inspect_image(odd)
    chain_id = details.layers[1].chain_id
    assert chain_id is not None
    place = store_paths.root / "layers" / chain_id.removeprefix("sha256:")
    place.rename(place.with_name("away"))
    try:
        with pytest.raises(StoreError, match=r"a layer of odd:1 is missing"):
            await engine.read_layer_file(odd, 1, "kept")
    finally:
        place.with_name("away").rename(place)


@pytest.mark.root
async def test_a_writable_layer_that_swaps_a_directory_for_a_link_shows_nothing_outside(
    engine: Engine, starter_image: object, store_paths: StorePaths, tmp_path: Path
) -> None:
    del starter_image
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_bytes(SECRET)
    created = await engine.create_container(ContainerRequest(image="starter", name="web"))
    upper = store_paths.root / "containers" / created.container_id / "upper"
    (upper / "data").mkdir()
    (upper / "data/file").write_bytes(b"harmless")
    (upper / "link").symlink_to(tmp_path / "host")
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            exchange(str(upper / "data"), str(upper / "link"))

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(READS):
            try:
                seen.add((await engine.read_writable_file("web", "data/file")).content)
            except FileNotInLayerError:
                seen.add(b"refused")
    finally:
        is_over.set()
        swapping.join()
        await engine.remove_container("web")
    assert seen == {b"harmless", b"refused"}


@pytest.mark.root
async def test_a_device_in_a_writable_layer_is_not_opened(
    engine: Engine, starter_image: object, store_paths: StorePaths
) -> None:
    del starter_image
    created = await engine.create_container(ContainerRequest(image="starter", name="web"))
    upper = store_paths.root / "containers" / created.container_id / "upper"
    # Nobody has that: opening it would be an error of its own.
    os.mknod(upper / "device", stat.S_IFCHR | 0o666, os.makedev(240, 99))
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    try:
        with pytest.raises(InvalidInputError, match="device is no file: character device"):
            await engine.read_writable_file("web", "device")
        with pytest.raises(InvalidInputError, match="gone is removed by this layer"):
            await engine.read_writable_file("web", "gone")
    finally:
        await engine.remove_container("web")
