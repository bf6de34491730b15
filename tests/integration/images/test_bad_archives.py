from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from engine.errors import ArchiveError, DigestMismatchError, EngineError, UnsafePathError
from tests.integration.images.loading import HOST, Store
from tests.unit.snapshots.tars import END, entry

LAYER = entry(b"file", b"content") + END


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _config(*layers: bytes) -> bytes:
    diff_ids = [f"sha256:{_digest(layer)}" for layer in layers]
    return json.dumps(
        {"architecture": HOST, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()


def _docker_archive(path: Path, members: dict[str, bytes]) -> Path:
    content = b"".join(entry(name.encode(), data) for name, data in members.items())
    path.write_bytes(content + END)
    return path


def _docker_members(layer: bytes = LAYER, **changes) -> dict[str, bytes]:
    item = {"Config": "config.json", "RepoTags": ["web:1"], "Layers": ["l/layer.tar"], **changes}
    return {
        "manifest.json": json.dumps([item]).encode(),
        "config.json": _config(layer),
        "l/layer.tar": layer,
    }


def _layout(path: Path, *, layer_type: str = "application/vnd.oci.image.layer.v1.tar") -> Path:
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict:
        (blobs / _digest(content)).write_bytes(content)
        return {
            "mediaType": media_type,
            "digest": f"sha256:{_digest(content)}",
            "size": len(content),
        }

    manifest = {
        "schemaVersion": 2,
        "config": put(_config(LAYER), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(LAYER, layer_type)],
    }
    descriptor = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    attestation = {
        **put(b"{}", "application/vnd.oci.image.manifest.v1+json"),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    nested = put(
        json.dumps(
            {
                "manifests": [
                    {**descriptor, "platform": {"os": "linux", "architecture": "s390x"},
                     "digest": "sha256:" + "0" * 64},
                    {**descriptor, "platform": {"os": "linux", "architecture": HOST}},
                    attestation,
                ]
            }
        ).encode(),
        "application/vnd.oci.image.index.v1+json",
    )  # fmt: skip
    nested["annotations"] = {"org.opencontainers.image.ref.name": "1.0"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}))
    return path


async def _refused(store: Store, archive: Path) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await store.load(archive)
    assert store.catalog.images == {}
    assert store.left_in_staging() == []
    return caught.value


async def test_a_minimal_docker_archive_loads(store: Store, tmp_path: Path) -> None:
    result = await store.load(_docker_archive(tmp_path / "a.tar", _docker_members()))
    assert result.images[0].names == ("web:1",)
    (chain,) = store.chain(result)
    assert (store.layers / chain[7:] / "diff/file").read_text() == "content"


async def test_tags_may_be_null(store: Store, tmp_path: Path) -> None:
    members = _docker_members(RepoTags=None)
    result = await store.load(_docker_archive(tmp_path / "a.tar", members))
    assert result.images[0].names == ()


async def test_a_layer_may_be_a_link_to_another_member(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    members = _docker_members(Layers=["new/layer.tar"])
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("new/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../l/layer.tar"
        tar.addfile(link)
        for name, content in members.items():
            (tmp_path / "member").write_bytes(content)
            tar.add(tmp_path / "member", name)
    assert (await store.load(path)).images


async def test_a_nested_index_gives_the_image_for_this_host(store: Store, tmp_path: Path) -> None:
    result = await store.load(_layout(tmp_path / "My Layout"))
    assert [image.names for image in result.images] == [("my-layout:1.0",)]


async def test_a_pipe_is_read_to_its_end(store: Store, tmp_path: Path) -> None:
    archive = _docker_archive(tmp_path / "a.tar", _docker_members())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loading = asyncio.create_task(store.load(pipe))
    await asyncio.to_thread(pipe.write_bytes, archive.read_bytes())
    assert (await loading).images[0].names == ("web:1",)


async def test_cancelling_a_load_from_a_silent_pipe_ends_it(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loading = asyncio.create_task(store.load(pipe))
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    os.close(writer)
    assert store.left_in_staging() == []


async def test_cancelling_a_load_from_a_pipe_without_a_writer_ends_it(
    store: Store, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loading = asyncio.create_task(store.load(pipe))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loading, 0.2)
    assert store.left_in_staging() == []


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
async def test_an_endless_device_is_refused_at_once(device: str, store: Store) -> None:
    assert isinstance(await _refused(store, Path(device)), ArchiveError)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("manifest.json", b"{not json", "not a valid JSON"),
        ("manifest.json", b"[]", "no image"),
        ("config.json", b"[1, 2]", "not a valid JSON"),
        ("l/layer.tar", LAYER[:515], "truncated"),
        ("l/layer.tar", b"not a tar" * 100, "not a tar"),
    ],
)
async def test_a_bad_member_is_refused(
    name: str, content: bytes, reason: str, store: Store, tmp_path: Path
) -> None:
    members = {**_docker_members(), name: content}
    error = await _refused(store, _docker_archive(tmp_path / "a.tar", members))
    assert isinstance(error, ArchiveError)
    assert reason in str(error)


async def test_a_layer_that_is_not_what_the_config_says_is_refused(
    store: Store, tmp_path: Path
) -> None:
    members = {**_docker_members(), "l/layer.tar": entry(b"other", b"thing") + END}
    error = await _refused(store, _docker_archive(tmp_path / "a.tar", members))
    assert isinstance(error, DigestMismatchError)


async def test_an_unsafe_second_layer_undoes_the_first(store: Store, tmp_path: Path) -> None:
    bad = entry(b"../../escaped", b"x") + END
    members = {
        **_docker_members(Layers=["l/layer.tar", "m/layer.tar"]),
        "config.json": _config(LAYER, bad),
        "m/layer.tar": bad,
    }
    archive = _docker_archive(tmp_path / "a.tar", members)
    with pytest.raises(UnsafePathError):
        await store.load(archive)
    assert store.catalog.images == {}
    assert list(store.layers.iterdir()) == []


async def test_a_missing_member_is_named(store: Store, tmp_path: Path) -> None:
    members = _docker_members()
    del members["l/layer.tar"]
    error = await _refused(store, _docker_archive(tmp_path / "a.tar", members))
    assert "l/layer.tar is missing" in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", os.urandom(2000)])
async def test_what_is_no_archive_is_refused(content: bytes, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert isinstance(await _refused(store, path), ArchiveError)


async def test_an_unknown_layer_type_is_refused(store: Store, tmp_path: Path) -> None:
    layout = _layout(tmp_path / "layout", layer_type="application/vnd.cncf.helm.chart")
    assert "helm" in str(await _refused(store, layout))


async def test_a_changed_blob_is_refused(store: Store, tmp_path: Path) -> None:
    layout = _layout(tmp_path / "layout")
    blob = layout / "blobs/sha256" / _digest(LAYER)
    blob.write_bytes(LAYER.replace(b"content", b"CONTENT"))
    assert isinstance(await _refused(store, layout), DigestMismatchError)


_FULL_DISK = """
import asyncio, os, pathlib, sys
from engine.errors import NoSpaceError
from engine.linux.libc import syscall
from tests.integration.images.loading import Store
syscall("unshare", 0x20000)
syscall("mount", b"none", b"/", None, 0x44000, None)
small = os.fsencode(sys.argv[2])
syscall("mount", b"tmpfs", small, b"tmpfs", 0, b"size=2m")
store = Store(pathlib.Path(sys.argv[2]) / "store")
try:
    asyncio.run(store.load(pathlib.Path(sys.argv[1])))
except NoSpaceError:
    print(store.left_in_staging(), list(store.layers.iterdir()))
"""


@pytest.mark.root
@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    layer = (
        b"".join(entry(b"f%d" % number, os.urandom(size)) for number in range(4_000_000 // size))
        + END
    )
    archive = _docker_archive(tmp_path / "a.tar", _docker_members(layer))
    small = tmp_path / "small"
    small.mkdir()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _FULL_DISK, str(archive), str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[] []\n", done.stderr
