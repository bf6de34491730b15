"""Pushes by an engine to a real registry, and what other tools make of what is there then."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from engine.errors import RegistryError
from engine.types import CommitRequest, ContainerRequest, TransferStatus
from tests.fault_proxy import Fault
from tests.integration.images.corpus import nasty_corpus, need, run
from tests.integration.images.loading import describe
from tests.integration.registry.test_pulling import (
    blobs_asked_of,
    differences,
    push_by_skopeo,
)
from tests.registries import push_files

__all__ = ["nasty_corpus"]


def statuses(told) -> list[TransferStatus]:
    """The last status of each layer."""
    return list({transfer.digest: transfer.status for transfer in told}.values())


def unpacked_by_umoci(name: str, top: Path) -> dict:
    run("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false",
        f"docker://{name}", f"oci:{top}/layout:it")  # fmt: skip
    run("umoci", "unpack", "--image", f"{top}/layout:it", top / "bundle")
    return describe(top / "bundle/rootfs")


@pytest.mark.root
async def test_an_archive_that_was_loaded_and_pushed_is_the_same_image_to_others(
    engine, registry, tmp_path: Path, nasty_corpus: Path
) -> None:
    need("podman", "umoci", "skopeo")
    (loaded,) = await engine.load_images(nasty_corpus / "docker.tar")
    name = f"{registry.address}/nasty:1"
    await engine.tag_image(loaded.image_id, name)
    told = []
    await engine.push_image(name, progress=told.append)
    assert set(statuses(told)) == {TransferStatus.PUSHED}
    expected = describe(nasty_corpus / "bundle/rootfs")
    assert differences(expected, unpacked_by_umoci(name, tmp_path)) == {}
    # podman takes no longer path.
    top = Path(tempfile.mkdtemp(prefix="lamella-"))
    words = ("podman", "--root", top / "root", "--runroot", top / "run", "--storage-driver", "vfs")
    try:
        run(*words, "pull", "-q", "--tls-verify=false", name)
        (said,) = json.loads(run(*words, "image", "inspect", name))
        assert f"sha256:{said['Id']}" == loaded.image_id
    finally:
        shutil.rmtree(top, ignore_errors=True)
    told.clear()
    await engine.push_image(name, progress=told.append)
    assert set(statuses(told)) == {TransferStatus.PRESENT}


@pytest.mark.root
async def test_what_was_pulled_is_pushed_as_it_came(
    engine, registry, tmp_path: Path, nasty_corpus: Path
) -> None:
    push_by_skopeo(f"oci:{nasty_corpus}/zstd:nasty", f"{registry.address}/nasty:1")
    pulled = await engine.pull_image(f"{registry.address}/nasty:1")
    other = f"{registry.address}/team/copy:2"
    await engine.tag_image(pulled.name, other)
    told = []
    pushed = await engine.push_image(other, progress=told.append)
    assert pushed.digest == pulled.digest
    mounted = [one for one in told if one.status is TransferStatus.MOUNTED]
    assert {one.detail for one in mounted} == {"nasty"}
    assert len(mounted) == len(statuses(told))


async def test_a_commit_is_pushed_on_layers_that_the_registry_has(
    engine, starter_image, registry
) -> None:
    base = f"{registry.address}/base:1"
    await engine.tag_image(starter_image.image_id, base)
    await engine.push_image(base)
    made = await engine.create_container(
        ContainerRequest(image=base, name="job", command=("sh", "-c", "echo new > /new"))
    )
    await engine.start_container(made.container_id)
    await engine.wait_container(made.container_id)
    changed = f"{registry.address}/base:2"
    committed = await engine.commit_container("job", CommitRequest(name=changed))
    await engine.remove_container("job")
    told = []
    await engine.push_image(changed, progress=told.append)
    assert statuses(told) == [
        TransferStatus.PRESENT, TransferStatus.PRESENT, TransferStatus.PUSHED,
    ]  # fmt: skip
    await engine.remove_image(changed)
    pulled = await engine.pull_image(changed)
    assert pulled.image_id == committed.image_id


async def test_a_push_that_is_cut_goes_on_where_the_registry_is(engine, proxy) -> None:
    files = {"one": os.urandom(3_000_000)}
    push_files(f"{proxy.upstream}/web:1", files)
    pulled = await engine.pull_image(f"{proxy.address}/web:1")
    other = f"{proxy.address}/other:1"
    await engine.tag_image(pulled.name, other)
    has_failed = []

    def cut(request):
        # The mount is refused first, so that there is something to send.
        if "mount=" in request.path:
            return Fault(status=404, body=b"{}")
        if request.method == "PATCH" and not has_failed:
            has_failed.append(request)
            return Fault(status=503)
        return None

    proxy.plan = cut
    pushed = await engine.push_image(other)
    assert has_failed
    assert pushed.digest == pulled.digest
    proxy.plan = lambda _request: None
    proxy.requests.clear()
    await engine.push_image(other)
    assert [one.method for one in proxy.requests if one.method in {"PATCH", "POST"}] == []
    assert blobs_asked_of(proxy)


async def test_a_registry_that_takes_no_manifest_is_said(engine, proxy) -> None:
    push_files(f"{proxy.upstream}/web:1", {"one": b"1"})
    await engine.pull_image(f"{proxy.address}/web:1")
    proxy.plan = lambda request: (
        Fault(status=400, body=b'{"errors":[{"code":"MANIFEST_INVALID","message":"no\\u001b"}]}')
        if request.method == "PUT" and "/manifests/" in request.path
        else None
    )
    with pytest.raises(RegistryError, match=r"manifest invalid: no $"):
        await engine.push_image(f"{proxy.address}/web:1")
