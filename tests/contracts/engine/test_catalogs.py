"""What every engine says of registries: what they have, and who we are to them."""

import io

import pytest

from engine.errors import InvalidReferenceError, RegistryRefusedError, RemoteImageNotFoundError
from engine.oci.digests import digest_of
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.credentials import Credential
from engine.registry.settings import RegistrySettings
from engine.types import FoundImage
from tests.fakes import FakeEngine
from tests.registries import PASSWORD, USER, run_registry

MANIFEST = b'{"schemaVersion":2,"manifests":[]}'
MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"


class Layer:
    size = 5

    def open(self):
        return io.BytesIO(b"layer")


@pytest.fixture
def registry(any_engine, tmp_path, monkeypatch):
    """A registry with a password, that has team/web:1 and :2; its address."""
    if isinstance(any_engine, FakeEngine):
        address = "localhost:5000"
        any_engine.accounts[address, USER] = PASSWORD
        any_engine.repositories.append(FoundImage(name=f"{address}/team/web", description=""))
        any_engine.remote_tags[f"{address}/team/web"] = ("1", "2")
        yield address
        return
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with run_registry(tmp_path / "registry", has_passwords=True) as running:
        login = Credential(username=USER, password=PASSWORD)
        name = parse_reference(f"{running.address}/team/web")
        with RegistryClient(RegistrySettings(), login=login) as client:
            client.upload_blob(name, Layer(), digest=digest_of(b"layer"))
            for tag in ("1", "2"):
                client.put_manifest(
                    name, tag_or_digest=tag, media_type=MEDIA_TYPE, content=MANIFEST
                )
            assert client.find_digest(name, tag_or_digest="1") == digest_of(MANIFEST)
        yield running.address


async def test_a_login_is_kept_until_the_logout(any_engine, registry):
    with pytest.raises(RegistryRefusedError):
        await any_engine.log_in(registry)
    with pytest.raises(RegistryRefusedError):
        await any_engine.log_in(registry, username=USER, password="wrong")
    with pytest.raises(RegistryRefusedError):
        await any_engine.log_in(registry)

    result = await any_engine.log_in(registry, username=USER, password=PASSWORD)

    assert (result.registry, result.username, result.is_plain) == (registry, USER, True)
    assert result.stored_in.endswith("config.json")
    again = await any_engine.log_in(registry)
    assert (again.username, again.stored_in) == (USER, "")
    assert await any_engine.log_out(registry)
    assert not await any_engine.log_out(registry)
    with pytest.raises(RegistryRefusedError):
        await any_engine.log_in(registry)


async def test_a_search_finds_repositories_and_their_tags(any_engine, registry):
    await any_engine.log_in(registry, username=USER, password=PASSWORD)

    found = await any_engine.search_images(f"{registry}/web", limit=5)

    assert [image.name for image in found] == [f"{registry}/team/web"]
    assert await any_engine.search_images(f"{registry}/nothing") == ()
    for everything in (registry, f"{registry}/"):
        found = await any_engine.search_images(everything)
        assert [image.name for image in found] == [f"{registry}/team/web"]
    assert sorted(await any_engine.list_remote_tags(f"{registry}/team/web")) == ["1", "2"]
    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.list_remote_tags(f"{registry}/team/nothing")


async def test_an_image_that_is_deleted_is_there_under_no_tag(any_engine, registry):
    await any_engine.log_in(registry, username=USER, password=PASSWORD)
    name = f"{registry}/team/web"
    with pytest.raises(InvalidReferenceError, match="which tag or digest"):
        await any_engine.delete_remote_image(name)
    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.delete_remote_image(f"{name}:none")

    assert (await any_engine.delete_remote_image(f"{name}:1")).startswith("sha256:")

    with pytest.raises(RemoteImageNotFoundError):
        await any_engine.delete_remote_image(f"{name}:1")
