"""The registry that the pictures show: a few repositories, behind a line that is not too fast."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from engine.oci.documents import OCI_INDEX, Descriptor, Index, Platform, encode_document
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from tests.fault_proxy import FaultProxy
from tests.registries import push_files, run_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORT = 5000
ADDRESS = f"localhost:{PORT}"
REPOSITORY = f"{ADDRESS}/shop"
NEW, OLD, MANY = f"{REPOSITORY}:2.1", f"{REPOSITORY}:2.0", f"{REPOSITORY}:latest"
_PLATFORMS = (
    Platform(os="linux", architecture="amd64"),
    Platform(os="linux", architecture="arm64", variant="v8"),
    Platform(os="linux", architecture="arm", variant="v7"),
)
BYTES_PER_SECOND = 1_500_000

_STEPS = (
    ("COPY rootfs /", "usr/lib/libbase.so", 9_000_000),
    ("/bin/sh -c apt-get install -y python3", "usr/bin/python3", 6_300_000),
    ("COPY requirements.txt /srv/shop/", "srv/shop/requirements.txt", 2_100),
    ("/bin/sh -c pip install -r requirements.txt", "srv/shop/lib/packages.so", 7_400_000),
    ("COPY translations /srv/shop/translations", "srv/shop/translations/all.mo", 3_300_000),
    ("COPY static /srv/shop/static", "srv/shop/static/shop.js", 2_800_000),
    ("COPY app /srv/shop", "srv/shop/app.py", 190_000),
)


def push_for_platforms(name: str, source: str) -> None:
    """Push an index that names one image for several platforms: here they are only listed."""
    parsed, tag = parse_reference(source), source.rpartition(":")[2]
    with RegistryClient() as client:
        manifest = client.get_manifest(parsed, tag_or_digest=tag)
        entries = tuple(
            Descriptor(
                media_type=manifest.media_type,
                digest=manifest.digest,
                size=len(manifest.content),
                platform=platform,
            )
            for platform in _PLATFORMS
        )
        client.put_manifest(
            parse_reference(name),
            tag_or_digest=name.rpartition(":")[2],
            media_type=OCI_INDEX,
            content=encode_document(
                Index(schema_version=2, media_type=OCI_INDEX, manifests=entries)
            ),
        )


@contextlib.contextmanager
def picture_registry(top: Path) -> Iterator[FaultProxy]:
    """Run it at ADDRESS; `OLD` is what `NEW` stands on."""
    noise = random.Random(1)
    layers = [{path: noise.randbytes(size)} for _text, path, size in _STEPS]
    instructions = tuple(text for text, _path, _size in _STEPS)
    with (
        run_registry(top / "registry") as registry,
        FaultProxy(registry.address, port=PORT).running() as proxy,
    ):
        push_files(NEW, *layers, instructions=instructions)
        push_files(OLD, *layers[:3], instructions=instructions[:3])
        push_for_platforms(MANY, NEW)
        for name in ("shop-database", "shop-worker"):
            push_files(f"{ADDRESS}/{name}:1", layers[2])
        yield proxy
