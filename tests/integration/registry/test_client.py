"""The client beside a real registry."""

import json
import random

import pytest

from engine.errors import (
    ArchiveError,
    PlatformMismatchError,
    RegistryError,
    RegistryUnreachableError,
    RemoteImageNotFoundError,
)
from engine.oci.digests import digest_of
from engine.oci.documents import DOCKER_INDEX, Platform
from engine.oci.reference import parse_reference
from tests.integration.registry.conftest import (
    CONFIG,
    HOST,
    Content,
    push_image,
    push_index,
    read_all,
)
from tests.registries import push_files


def test_what_was_pushed_is_there_byte_for_byte(registry, client):
    pushed = push_image(client, f"{registry.address}/team/web:1", size=3_000_000)

    chosen = client.choose(pushed.name, HOST)

    assert chosen.document.content == pushed.manifest
    assert chosen.named == chosen.document
    (layer,) = chosen.manifest.layers
    assert read_all(client.open_blob(pushed.name, layer)) == pushed.layer
    assert client.get_small_blob(pushed.name, chosen.manifest.config, maximum_bytes=1000) == CONFIG


def test_a_blob_begins_where_it_is_told_to(registry, client):
    pushed = push_image(client, f"{registry.address}/web:1")
    stream = client.open_blob(pushed.name, pushed.layer_descriptor, offset=299_990)

    assert read_all(stream) == pushed.layer[-10:]


def test_a_blob_whose_end_is_here_asks_for_nothing(registry, client):
    pushed = push_image(client, f"{registry.address}/web:1")
    size = len(pushed.layer)

    assert read_all(client.open_blob(pushed.name, pushed.layer_descriptor, offset=size)) == b""


def test_a_layer_of_unknown_length_is_streamed_and_gets_its_digest(registry, client):
    content = random.Random(5).randbytes(2_500_000)
    name = parse_reference(f"{registry.address}/web")

    digest = client.upload_blob(name, Content(content, size_is_known=False))

    assert digest == digest_of(content)
    assert client.has_blob(name, digest)


def test_a_layer_that_is_not_what_its_digest_says_is_not_pushed(registry, client):
    name = parse_reference(f"{registry.address}/web")

    with pytest.raises(RegistryError, match="has digest"):
        client.upload_blob(name, Content(b"x" * 2_000_000), digest=digest_of(b"else"))


def test_a_layer_of_another_repository_is_mounted_and_not_sent(registry, client):
    pushed = push_image(client, f"{registry.address}/one:1")
    other = parse_reference(f"{registry.address}/two")
    missing = digest_of(b"nowhere")

    assert client.mount_blob(other, pushed.layer_descriptor.digest, source_repository="one")
    assert client.has_blob(other, pushed.layer_descriptor.digest)
    assert not client.mount_blob(other, missing, source_repository="one")
    assert not client.has_blob(other, missing)


def test_an_index_leads_to_the_image_for_the_platform(registry, client):
    here = push_image(client, f"{registry.address}/web:amd64", seed=1)
    there = push_image(client, f"{registry.address}/web:arm", seed=2)
    index = push_index(
        client,
        f"{registry.address}/web:all",
        (
            (there.manifest, Platform(os="linux", architecture="arm", variant="v7")),
            (here.manifest, Platform(os="linux", architecture="amd64")),
        ),
    )
    name = parse_reference(f"{registry.address}/web:all")

    chosen = client.choose(name, HOST)

    assert chosen.document.content == here.manifest
    assert chosen.named.content == index
    arm = Platform(os="linux", architecture="arm", variant="v7")
    assert client.choose(name, arm).document.content == there.manifest
    with pytest.raises(PlatformMismatchError, match="linux/arm/v7, linux/amd64"):
        client.choose(name, Platform(os="linux", architecture="s390x"))


def test_an_index_that_does_not_say_what_its_images_are_for_is_read_by_their_configs(
    registry, client
):
    here = push_image(client, f"{registry.address}/web:one")
    push_index(client, f"{registry.address}/web:all", ((here.manifest, None),))
    name = parse_reference(f"{registry.address}/web:all")

    assert client.choose(name, HOST).document.content == here.manifest
    with pytest.raises(PlatformMismatchError):
        client.choose(name, Platform(os="linux", architecture="arm64"))


def test_a_digest_is_as_good_as_a_tag(registry, client):
    pushed = push_image(client, f"{registry.address}/web:1")
    digest = digest_of(pushed.manifest)
    name = parse_reference(f"{registry.address}/web@{digest}")

    assert client.choose(name, HOST).document.content == pushed.manifest
    assert client.find_digest(pushed.name, tag_or_digest="1") == digest


def test_what_is_not_there_is_said_in_dockers_words(registry, client):
    push_image(client, f"{registry.address}/web:1")
    name = parse_reference(f"{registry.address}/web:2")

    with pytest.raises(
        RemoteImageNotFoundError, match=r"/web:2 not found: manifest unknown: manifest unknown"
    ):
        client.choose(name, HOST)
    assert client.find_digest(name, tag_or_digest="2") is None
    with pytest.raises(RemoteImageNotFoundError, match="name unknown"):
        client.tags(parse_reference(f"{registry.address}/nothing"))


def test_tags_come_page_by_page(registry, client, monkeypatch):
    monkeypatch.setattr("engine.registry.listing._PAGE", 7)
    pushed = push_image(client, f"{registry.address}/web:0")
    for number in range(1, 30):
        client.put_manifest(
            pushed.name,
            tag_or_digest=str(number),
            media_type="application/vnd.oci.image.manifest.v1+json",
            content=pushed.manifest,
        )

    assert sorted(client.tags(pushed.name), key=int) == [str(number) for number in range(30)]


def test_a_registry_without_a_search_is_searched_by_name(registry, client):
    for name in ("team/web", "team/webhook", "other"):
        push_image(client, f"{registry.address}/{name}:1", size=100)

    found = client.search(f"{registry.address}/WEB", limit=10)

    names = [image.name for image in found]
    assert names == [f"{registry.address}/team/web", f"{registry.address}/team/webhook"]
    assert len(client.search(f"{registry.address}/web", limit=1)) == 1


def test_a_manifest_is_deleted_with_its_tags(registry, client):
    pushed = push_image(client, f"{registry.address}/web:1")
    digest = digest_of(pushed.manifest)

    client.delete_manifest(pushed.name, digest=digest)

    assert client.find_digest(pushed.name, tag_or_digest="1") is None
    with pytest.raises(RemoteImageNotFoundError):
        client.delete_manifest(pushed.name, digest=digest)


def test_who_was_never_there_is_not_waited_for(client, free_port):
    name = parse_reference(f"localhost:{free_port}/web")

    with pytest.raises(RegistryUnreachableError, match=r"cannot reach .*: connection refused"):
        client.choose(name, HOST)


def test_an_index_called_a_manifest_is_refused(proxy, client):
    from tests.fault_proxy import Fault

    document = {"schemaVersion": 2, "manifests": [], "config": {}, "layers": []}
    content = json.dumps(document).encode()
    proxy.plan = lambda request: (
        Fault(status=200, body=content, headers={"Content-Type": DOCKER_INDEX})
        if "/manifests/" in request.path
        else None
    )

    with pytest.raises(ArchiveError, match="neither an image's manifest nor an index"):
        client.choose(parse_reference(f"{proxy.address}/web:1"), HOST)


def test_a_manifest_that_is_known_is_not_asked_for_below_an_index(registry, proxy, client):
    here = push_image(client, f"{registry.address}/web:amd64", seed=1)
    push_index(
        client,
        f"{registry.address}/web:all",
        ((here.manifest, Platform(os="linux", architecture="amd64")),),
    )
    name = parse_reference(f"{proxy.address}/web:all")

    def asked(known):
        proxy.requests.clear()
        assert client.choose(name, HOST, known=known).document.content == here.manifest
        return [request.path for request in proxy.requests if "/manifests/" in request.path]

    digest = digest_of(here.manifest)
    whole = ["/v2/web/manifests/all", f"/v2/web/manifests/{digest}"]
    assert asked(None) == whole
    assert asked({digest: here.manifest}.get) == whole[:1]
    # What is kept here may be damaged.
    assert asked({digest: b"{}"}.get) == whole


async def test_a_second_pull_asks_for_no_manifest_below_an_index(engine, proxy, client):
    push_files(f"{proxy.upstream}/web:amd64", {"one": b"1"})
    name = parse_reference(f"{proxy.upstream}/web:amd64")
    here = client.get_manifest(name, tag_or_digest="amd64").content
    push_index(client, f"{proxy.upstream}/web:all", ((here, HOST),))

    async def asked():
        proxy.requests.clear()
        await engine.pull_image(f"{proxy.address}/web:all")
        paths = [request.path for request in proxy.requests]
        return [path.rpartition("/")[2] for path in paths if "/manifests/" in path]

    assert await asked() == ["all", digest_of(here)]
    assert await asked() == ["all"]
