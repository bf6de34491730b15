"""Registries, and clients that do not wait long."""

from __future__ import annotations

import hashlib
import io
import random
import socket
from dataclasses import dataclass

import pytest

from engine.oci.digests import digest_of
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    encode_document,
)
from engine.oci.reference import Reference, parse_reference
from engine.registry.client import RegistryClient
from engine.registry.settings import RegistrySettings, RetryPolicy
from tests.fault_proxy import FaultProxy
from tests.registries import Certificates, TokenServer, make_certificates, run_registry

HOST = Platform(os="linux", architecture="amd64")
QUICK = RetryPolicy(
    attempts=6, first_delay_seconds=0.001, longest_delay_seconds=0.01, longest_wait_seconds=5
)
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def quick_settings(**changes: object) -> RegistrySettings:
    return RegistrySettings(**{"retry": QUICK, "silence_seconds": 20.0, **changes})


class Content:
    """A blob in memory."""

    def __init__(self, content: bytes, *, size_is_known: bool = True) -> None:
        self.content = content
        self.size = len(content) if size_is_known else None
        self.opened = 0

    def open(self) -> io.BytesIO:
        self.opened += 1
        return io.BytesIO(self.content)


@dataclass(frozen=True)
class Pushed:
    """An image with one layer, in a registry."""

    name: Reference
    layer: bytes
    manifest: bytes
    layer_descriptor: Descriptor


def push_image(client: RegistryClient, name: str, *, size: int = 300_000, seed: int = 1) -> Pushed:
    layer = random.Random(seed).randbytes(size)
    reference = parse_reference(name)
    client.upload_blob(reference, Content(layer), digest=digest_of(layer))
    client.upload_blob(reference, Content(CONFIG), digest=digest_of(CONFIG))
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(layer), size=len(layer))
    manifest = encode_document(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(CONFIG), size=len(CONFIG)),
            layers=(descriptor,),
        )
    )
    client.put_manifest(
        reference, tag_or_digest=reference.tag, media_type=OCI_MANIFEST, content=manifest
    )
    return Pushed(reference, layer, manifest, descriptor)


def push_index(
    client: RegistryClient, name: str, images: tuple[tuple[bytes, Platform | None], ...]
) -> bytes:
    reference = parse_reference(name)
    index = encode_document(
        Index(
            schema_version=2,
            media_type=OCI_INDEX,
            manifests=tuple(
                Descriptor(
                    media_type=OCI_MANIFEST,
                    digest=digest_of(manifest),
                    size=len(manifest),
                    platform=platform,
                )
                for manifest, platform in images
            ),
        )
    )
    client.put_manifest(reference, tag_or_digest=reference.tag, media_type=OCI_INDEX, content=index)
    return index


def read_all(stream, *, size: int = 65_536) -> bytes:
    with stream:
        return b"".join(iter(lambda: stream.read(size), b""))


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def registry(tmp_path):
    with run_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def client():
    with RegistryClient(quick_settings()) as made:
        yield made


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry.address).running() as running:
        yield running


@pytest.fixture
def tokens(certificates):
    with TokenServer(certificates).running() as running:
        yield running


@pytest.fixture
def free_port():
    """A port that nobody listens on, and that nobody gets while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def pushed(registry, proxy, client):
    """An image in the registry, by its name before the proxy."""
    push_image(client, f"{registry.address}/web:1")
    image = push_image(client, f"{proxy.address}/web:1")
    proxy.requests.clear()
    proxy.sent_bytes = 0
    return image


def is_blob(request) -> bool:
    return request.method == "GET" and "/blobs/sha256:" in request.path


def pull(client, image) -> bytes:
    """What a pull asks for: manifest, config, layer."""
    chosen = client.choose(image.name, HOST)
    assert chosen.document.content == image.manifest
    client.get_small_blob(image.name, chosen.manifest.config, maximum_bytes=10_000)
    return read_all(client.open_blob(image.name, chosen.manifest.layers[0]))
