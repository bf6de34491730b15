"""Archives whose documents were never meant: refused by our own errors, never followed outside."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LayerLimits
from engine.errors import ArchiveError, EngineError, LayerLimitError
from engine.images.archive_documents import ArchiveImage, read_images
from engine.images.archive_source import open_archive
from engine.oci.documents import Platform
from engine.operations import Cancellation
from tests.unit.snapshots.tars import END, entry, hard_link, symlink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

LAYER = entry(b"file", b"content") + END
DIFF_ID = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
CONFIG = json.dumps({"os": "linux", "rootfs": {"diff_ids": [DIFF_ID]}}).encode()
CONFIG_DIGEST = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"


def ignore_bytes(_done: int, _total: int | None) -> None:
    pass


def images_of(path: Path) -> tuple[ArchiveImage, ...]:
    cancellation = Cancellation()
    try:
        source = open_archive(
            path,
            staging=path.parent,
            limits=LayerLimits(unpacked_bytes=100 << 20),
            cancellation=cancellation,
            on_bytes=ignore_bytes,
        )
        try:
            return read_images(source, platform=Platform(os="linux", architecture="amd64"))
        finally:
            source.close()
    finally:
        cancellation.close()


def tar_of(**members: bytes) -> bytes:
    content = b"".join(
        entry(name.replace("__", "/").replace("_", ".").encode(), data)
        for name, data in members.items()
    )
    return content + END


def read_or_refuse(content: bytes, directory: Path) -> None:
    path = directory / "archive.tar"
    path.write_bytes(content)
    before = set(os.listdir("/proc/self/fd"))
    with contextlib.suppress(EngineError):
        for image in images_of(path):
            assert image.image_id.startswith("sha256:")
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1


_NAMES = st.sampled_from(
    ["config.json", "layer.tar", "../config.json", "/etc/passwd", "./config.json", "", ".", "..",
     "a\0b", "blobs/sha256/" + "0" * 64, "blobs/sha256/x", "config.json/", "link", "x" * 5000,
     CONFIG_DIGEST.removeprefix("sha256:") + ".json", "0" * 64 + ".json", "é", "loop"]
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _NAMES
_ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "Config": _NAMES | _SCALARS,
        "RepoTags": st.lists(st.text(max_size=9) | st.sampled_from(["a:1", "A", "a b"]), max_size=3)
        | _SCALARS,
        "Layers": st.lists(_NAMES, max_size=3) | _SCALARS,
        "Parent": _SCALARS,
    },
)  # fmt: skip
_CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "os": _SCALARS,
        "architecture": st.sampled_from(["amd64", "arm64", ""]) | _SCALARS,
        "rootfs": st.fixed_dictionaries(
            {}, optional={"diff_ids": st.lists(st.just(DIFF_ID) | st.text(max_size=9), max_size=3)}
        )
        | _SCALARS,
        "history": st.lists(st.dictionaries(st.just("created"), _SCALARS), max_size=3) | _SCALARS,
        "created": _SCALARS,
        "config": st.dictionaries(st.sampled_from(["Cmd", "Env", "Volumes"]), _SCALARS) | _SCALARS,
    },
).map(lambda document: json.dumps(document).encode())


@settings(max_examples=300, deadline=None)
@given(
    items=st.lists(_ITEMS, max_size=3).map(json.dumps) | _SCALARS.map(json.dumps),
    config=_CONFIGS | st.just(CONFIG),
)
def test_no_docker_archive_is_too_odd(items: str, config: bytes, tmp_path_factory) -> None:
    content = (
        entry(b"manifest.json", items.encode())
        + entry(b"config.json", config)
        + entry(b"layer.tar", LAYER)
        + symlink(b"link", b"config.json")
        + symlink(b"loop", b"loop2")
        + hard_link(b"loop2", b"loop")
        + END
    )
    read_or_refuse(content, tmp_path_factory.mktemp("odd"))


_DESCRIPTORS = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": st.sampled_from(
            ["application/vnd.oci.image.manifest.v1+json",
             "application/vnd.oci.image.index.v1+json", "", "x"]
        ) | _SCALARS,
        "digest": st.sampled_from(["index", "manifest", CONFIG_DIGEST, "sha256:" + "0" * 64])
        | _SCALARS,
        "size": st.integers(-2, 2**70) | _SCALARS,
        "annotations": st.dictionaries(
            st.just("org.opencontainers.image.ref.name"), st.text(max_size=9)
        ) | _SCALARS,
        "platform": st.dictionaries(st.sampled_from(["os", "architecture"]), _SCALARS) | _SCALARS,
    },
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    manifests=st.lists(_DESCRIPTORS, max_size=4) | _SCALARS,
    nested=st.lists(_DESCRIPTORS, max_size=3) | _SCALARS,
    layers=st.lists(_DESCRIPTORS, max_size=3) | _SCALARS,
    config=_DESCRIPTORS,
)
def test_no_layout_is_too_odd(manifests, nested, layers, config, tmp_path_factory) -> None:
    members: dict[str, bytes] = {}

    def add(document: object) -> dict[str, object]:
        content = json.dumps(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        members[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    members[f"blobs/sha256/{CONFIG_DIGEST[7:]}"] = CONFIG
    members[f"blobs/sha256/{DIFF_ID[7:]}"] = LAYER
    known = {
        "manifest": add({"schemaVersion": 2, "config": config, "layers": layers}),
        "index": add({"manifests": nested}),
    }

    def resolve(part: object) -> object:
        if isinstance(part, dict) and part.get("digest") in ("manifest", "index"):
            return {**part, **known[part["digest"]]}
        return part

    if isinstance(manifests, list):
        manifests = [resolve(part) for part in manifests]
    members["index.json"] = json.dumps({"manifests": manifests}).encode()
    content = b"".join(entry(name.encode(), data) for name, data in members.items()) + END
    read_or_refuse(content, tmp_path_factory.mktemp("odd"))


WHOLE = tar_of(
    manifest_json=json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]).encode(),
    config_json=CONFIG,
    layer_tar=LAYER,
)


@settings(max_examples=200, deadline=None)
@given(
    position=st.integers(0, len(WHOLE) - 1),
    value=st.binary(min_size=1, max_size=12),
    cut=st.integers(0, len(WHOLE)),
    pack=st.sampled_from([bytes, gzip.compress, zstd.compress]),
)
def test_a_damaged_archive_is_read_or_refused(position, value, cut, pack, tmp_path_factory) -> None:
    content = bytearray(WHOLE)
    content[position : position + len(value)] = value
    packed = bytearray(pack(bytes(content)))
    read_or_refuse(bytes(packed[: len(packed) - cut]), tmp_path_factory.mktemp("odd"))
    packed[position % len(packed)] ^= value[0] or 1
    read_or_refuse(bytes(packed), tmp_path_factory.mktemp("odd"))


def test_the_archive_that_is_damaged_is_whole_to_begin_with(tmp_path: Path) -> None:
    for number, pack in enumerate((bytes, gzip.compress, zstd.compress)):
        path = tmp_path / str(number)
        path.write_bytes(pack(WHOLE))
        assert [image.image_id for image in images_of(path)] == [CONFIG_DIGEST]


def test_an_archive_that_names_an_index_without_end_is_refused(tmp_path: Path) -> None:
    empty = b'{"manifests":[]}'
    digest = hashlib.sha256(empty).hexdigest()
    part = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(empty),
    }
    content = (
        entry(b"index.json", json.dumps({"manifests": [part] * 25_000}).encode())
        + entry(f"blobs/sha256/{digest}".encode(), empty)
        + END
    )
    path = tmp_path / "archive.tar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="names more than 20,000 documents"):
        images_of(path)


@pytest.mark.parametrize("kind", ["link outside", "link above", "pipe", "directory", "loop"])
@pytest.mark.parametrize("which", ["config.json", "layer.tar", "manifest.json"])
def test_a_directory_leads_nowhere_outside_of_itself(tmp_path: Path, which: str, kind: str) -> None:
    outside = tmp_path / "outside"
    top = tmp_path / "archive"
    top.mkdir()
    items = json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]).encode()
    contents = {"config.json": CONFIG, "layer.tar": LAYER, "manifest.json": items}
    for name, content in contents.items():
        (top / name).write_bytes(content)
    assert images_of(top)
    outside.write_bytes(contents[which])
    path = top / which
    path.unlink()
    match kind:
        case "link outside":
            path.symlink_to(outside)
        case "link above":
            path.symlink_to("../outside")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(which)
    with pytest.raises(EngineError):
        images_of(top)


def test_an_archive_may_be_a_link_and_its_members_links_within(tmp_path: Path) -> None:
    top = tmp_path / "archive"
    top.mkdir()
    items = json.dumps([{"Config": "c/config", "Layers": ["layer"]}]).encode()
    (top / "manifest.json").write_bytes(items)
    (top / "real").mkdir()
    (top / "real" / "config").write_bytes(CONFIG)
    (top / "c").symlink_to("real")
    (top / "layer.tar").write_bytes(LAYER)
    (top / "layer").symlink_to("/layer.tar")
    link = tmp_path / "link"
    link.symlink_to(top)
    assert [image.image_id for image in images_of(link)] == [CONFIG_DIGEST]


def test_an_archive_that_takes_too_much_memory_to_decompress_is_refused(tmp_path: Path) -> None:
    whole = tar_of(config_json=CONFIG, layer_tar=LAYER)
    archive = tmp_path / "archive.tar.zst"
    for window_log, is_refused in ((26, False), (27, True)):
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
        archive.write_bytes(compressor.compress(whole) + compressor.flush())
        if not is_refused:
            with pytest.raises(ArchiveError, match=r"manifest\.json"):
                images_of(archive)
            continue
        with pytest.raises(LayerLimitError, match="takes more than 64 MiB of memory") as caught:
            images_of(archive)
        assert "LAMELLA_LAYER_WINDOW" in caught.value.hint
