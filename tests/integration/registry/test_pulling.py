"""Pulls by an engine from a real registry, of images that other tools made and pushed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.snapshots.writable import CopySnapshotter
from engine.types import TransferStatus
from tests.integration.images.corpus import debian_corpus, nasty_corpus, need, run
from tests.integration.images.loading import ThreadRunner, describe
from tests.registries import push_files

if TYPE_CHECKING:
    from tests.conftest import StorePaths

__all__ = ["debian_corpus", "nasty_corpus"]

_STORAGE = ("--storage-driver", "vfs")


def push_by_skopeo(archive: str, name: str, *options: str) -> None:
    run("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", *options,
        archive, f"docker://{name}")  # fmt: skip


def push_by_another_store(tool: str, archive: Path, image: str, name: str) -> None:
    """Load an archive into a store of podman or buildah, and push it from there."""
    need(tool)
    # podman takes no longer path.
    top = Path(tempfile.mkdtemp(prefix="lamella-"))
    words = (tool, "--root", top / "root", "--runroot", top / "run", *_STORAGE)
    try:
        if tool == "podman":
            run(*words, "load", "-q", "-i", archive)
        else:
            run(*words, "pull", "-q", f"docker-archive:{archive}")
        run(*words, "push", "-q", "--tls-verify=false", image, f"docker://{name}")
    finally:
        shutil.rmtree(top, ignore_errors=True)


async def merged(engine, store_paths: StorePaths, name: str, container: Path) -> Path:
    """The merged tree of an image as plain files."""
    container.mkdir()
    details = await engine.inspect_image(name)
    chain = [step.chain_id for step in details.layers if step.chain_id is not None]
    snapshotter = CopySnapshotter(
        root=store_paths.root,
        layers_directory=store_paths.root / "layers",
        runner=ThreadRunner(),
    )
    return Path((await snapshotter.prepare(container, chain)).upper)


def differences(expected: dict, actual: dict) -> dict:
    return {
        path: (expected.get(path), actual.get(path))
        for path in expected.keys() | actual.keys()
        if expected.get(path) != actual.get(path)
    }


@pytest.mark.root
@pytest.mark.parametrize("form", ["oci", "zstd"])
async def test_everything_odd_in_layers_unpacks_as_umoci_unpacks_it(
    form: str, engine, store_paths, registry, tmp_path: Path, nasty_corpus: Path
) -> None:
    name = f"{registry.address}/nasty:1"
    push_by_skopeo(f"oci:{nasty_corpus}/{form}:nasty", name)
    pulled = await engine.pull_image(name)
    assert pulled.warnings == ()
    tree = await merged(engine, store_paths, name, tmp_path / "container")
    assert differences(describe(nasty_corpus / "bundle/rootfs"), describe(tree)) == {}


@pytest.mark.root
@pytest.mark.timeout(300)
# Podman pushes as Buildah does; both bring a smaller image in test_other_tools.
@pytest.mark.parametrize("tool", ["skopeo", "buildah"])
async def test_a_debian_that_others_pushed_is_what_umoci_unpacks_and_keeps_its_blobs(
    tool: str, engine, store_paths, registry, tmp_path: Path, debian_corpus: Path
) -> None:
    name = f"{registry.address}/debian:1"
    if tool == "skopeo":
        push_by_skopeo(f"oci:{debian_corpus}/oci:debian", name)
    else:
        push_by_another_store(tool, debian_corpus / "docker.tar", "example/debian:1", name)
    told = []
    pulled = await engine.pull_image(name, progress=told.append)
    tree = await merged(engine, store_paths, name, tmp_path / "container")
    assert differences(describe(debian_corpus / "bundle/rootfs"), describe(tree)) == {}
    blobs = store_paths.root / "blobs/sha256"
    manifest = json.loads((blobs / pulled.digest.removeprefix("sha256:")).read_bytes())
    for layer in manifest["layers"]:
        kept = blobs / layer["digest"].removeprefix("sha256:")
        assert kept.stat().st_size == layer["size"]
    assert {transfer.status for transfer in told} >= {
        TransferStatus.WAITING,
        TransferStatus.DOWNLOADING,
        TransferStatus.DOWNLOADED,
        TransferStatus.DONE,
    }


async def test_a_second_pull_and_shared_layers_move_no_blob(engine, proxy) -> None:
    base, top = {"base": os.urandom(50_000)}, {"top": os.urandom(50_000)}
    push_files(f"{proxy.upstream}/web:1", base)
    push_files(f"{proxy.upstream}/web:2", base, top)
    await engine.pull_image(f"{proxy.address}/web:1")
    proxy.requests.clear()
    told = []
    await engine.pull_image(f"{proxy.address}/web:1", progress=told.append)
    assert {transfer.status for transfer in told} == {TransferStatus.EXISTS}
    assert blobs_asked_of(proxy) == set()
    proxy.requests.clear()
    told.clear()
    second = await engine.pull_image(f"{proxy.address}/web:2", progress=told.append)
    below, above = dict.fromkeys(transfer.digest for transfer in told)
    assert blobs_asked_of(proxy) == {second.image_id, above}
    assert [one.status for one in told if one.digest == below] == [TransferStatus.EXISTS]


def blobs_asked_of(proxy) -> set[str]:
    return {
        request.path.rpartition("/")[2] for request in proxy.requests if "/blobs/" in request.path
    }
