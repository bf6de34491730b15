"""Pulls through a bad network, and of images that are meant to do harm."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from typing import TYPE_CHECKING

import pytest

from engine.errors import ArchiveError, LayerLimitError, RegistryError
from engine.oci.digests import digest_of
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    ImageDocument,
    Manifest,
    RootFsDocument,
    encode_document,
)
from engine.oci.platforms import host_platform
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.credentials import Credential
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.registry.conftest import Content, quick_settings
from tests.registries import PASSWORD, SERVICE, USER, push_files, run_registry
from tests.unit.snapshots.tars import END, entry, pax

if TYPE_CHECKING:
    from pathlib import Path

LOGIN = Credential(username=USER, password=PASSWORD)


def is_layer(request, image_id: str) -> bool:
    return (
        request.method == "GET"
        and "/blobs/" in request.path
        and not request.path.endswith(image_id)
    )


def left_in(store_paths, *directories: str) -> list[str]:
    return [
        str(path)
        for directory in directories
        for path in (store_paths.root / directory).glob("[!.]*")
        # An engine that has just started sweeps behind its start.
        if not path.name.startswith("sweep-")
    ]


@pytest.fixture
def image_id(proxy):
    return push_files(
        f"{proxy.upstream}/web:1", *({f"file-{number}": os.urandom(200_000)} for number in range(3))
    )


async def verified(engine) -> None:
    check = await engine.check_store()
    assert check.problems == ()


async def test_a_layer_that_was_damaged_on_the_way_is_fetched_once_more(
    engine, proxy, image_id
) -> None:
    damaged = []

    def damage(request):
        if is_layer(request, image_id) and not damaged:
            damaged.append(request.path)
            return Fault(flips_at=100_000)
        return None

    proxy.plan = damage
    await engine.pull_image(f"{proxy.address}/web:1")
    asked = [one.path for one in proxy.requests if is_layer(one, image_id)]
    assert asked.count(damaged[0]) == 2
    assert len(asked) == 4
    await verified(engine)


async def test_a_layer_that_is_damaged_each_time_is_no_image_and_leaves_nothing(
    engine, proxy, image_id, store_paths
) -> None:
    proxy.plan = lambda request: Fault(flips_at=100_000) if is_layer(request, image_id) else None
    with pytest.raises(ArchiveError):
        await engine.pull_image(f"{proxy.address}/web:1")
    assert await engine.list_images() == ()
    assert left_in(store_paths, "layers", "staging") == []


async def test_a_registry_that_sends_less_than_it_says_is_an_error(
    engine, proxy, image_id, store_paths
) -> None:
    proxy.plan = lambda request: (
        Fault(status=200, body=b"short") if is_layer(request, image_id) else None
    )
    with pytest.raises((RegistryError, ArchiveError)):
        await engine.pull_image(f"{proxy.address}/web:1")
    assert left_in(store_paths, "layers", "staging") == []


async def test_a_cancelled_pull_ends_though_the_registry_says_nothing(
    engine, proxy, image_id, store_paths
) -> None:
    is_asked = threading.Event()

    def stall(request):
        if is_layer(request, image_id):
            is_asked.set()
            return Fault(stalls_at=50_000)
        return None

    proxy.plan = stall
    task = asyncio.create_task(engine.pull_image(f"{proxy.address}/web:1"))
    await asyncio.to_thread(is_asked.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_in(store_paths, "layers", "staging") == []
    proxy.plan = lambda _request: None
    await engine.pull_image(f"{proxy.address}/web:1")
    await verified(engine)


def push_tar(client, name: str, tar: bytes, *, layer_count: int = 1) -> None:
    reference = parse_reference(name)
    blob = gzip.compress(tar)
    platform = host_platform()
    config = encode_document(
        ImageDocument(
            architecture=platform.architecture,
            os=platform.os,
            rootfs=RootFsDocument(type="layers", diff_ids=(digest_of(tar),) * layer_count),
        )
    )
    for content in (blob, config):
        client.upload_blob(reference, Content(content), digest=digest_of(content))
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(blob), size=len(blob))
    described = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    manifest = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=described,
        layers=(layer,) * layer_count,
    )
    client.put_manifest(
        reference,
        tag_or_digest=reference.tag,
        media_type=OCI_MANIFEST,
        content=encode_document(manifest),
    )


async def test_a_layer_that_unpacks_to_a_terabyte_is_refused_with_the_remedy(
    engine, registry, client, store_paths
) -> None:
    name = f"{registry.address}/bomb:1"
    push_tar(client, name, pax(size=b"%d" % (1 << 40)) + entry(b"huge", bytes(1 << 20)) + END)
    with pytest.raises(LayerLimitError, match="unpacks to more than") as caught:
        await engine.pull_image(name)
    assert "LAMELLA_LAYER_BYTES" in caught.value.hint
    assert left_in(store_paths, "layers", "staging") == []


async def test_a_manifest_of_very_many_layers_is_refused(engine, registry, client) -> None:
    name = f"{registry.address}/many:1"
    push_tar(client, name, entry(b"file", b"x") + END, layer_count=5_000)
    with pytest.raises(ArchiveError, match="5000 layers are more than 500"):
        await engine.pull_image(name)


async def test_a_pull_whose_token_ends_in_the_middle_of_a_layer_goes_on(
    engine, tokens, tmp_path: Path, monkeypatch
) -> None:
    with (
        run_registry(tmp_path / "guarded", tokens=tokens) as guarded,
        FaultProxy(guarded.address).running() as proxy,
    ):
        tokens.lets_anybody_read = True
        monkeypatch.setattr(
            "engine.api.registry._connect", lambda: RegistryClient(quick_settings(), login=LOGIN)
        )
        with RegistryClient(quick_settings(), login=LOGIN) as owner:
            tar = entry(b"file", os.urandom(300_000)) + END
            push_tar(owner, f"{proxy.address}/web:1", tar)
        ended: set[str] = set()
        cuts = iter((100_000, 50_000, 50_000))

        def plan(request):
            """Each token is good for one answer about a layer, and each answer is cut."""
            shown = request.headers.get("authorization", "")
            if request.method != "GET" or "/blobs/" not in request.path or not shown:
                return None
            if shown in ended:
                challenge = (
                    f'Bearer realm="{tokens.realm}",service="{SERVICE}",'
                    'scope="repository:web:pull",error="invalid_token"'
                )
                return Fault(status=401, headers={"WWW-Authenticate": challenge})
            ended.add(shown)
            cut = next(cuts, None)
            return Fault(cuts_at=cut) if cut else None

        proxy.plan = plan
        proxy.sent_of.clear()
        before = len(tokens.requests)
        pulled = await engine.pull_image(f"{proxy.address}/web:1")
        assert pulled.is_new
        assert len(tokens.requests) - before >= 3
        asked = [one.headers["range"] for one in proxy.requests if "range" in one.headers]
        assert asked
    await verified(engine)
