"""Images and archives that cost far more than they weigh: refused, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.oci.digests import digest_of
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    ImageDocument,
    Manifest,
    RootFsDocument,
    encode_document,
)
from engine.oci.platforms import host_platform
from engine.oci.reference import parse_reference
from tests.fault_proxy import Fault
from tests.integration.faults.test_killed_removals import CHECKOUT
from tests.integration.registry.conftest import Content
from tests.integration.registry.test_faulty_pulls import left_in
from tests.unit.snapshots.tars import END, entry, pax

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StorePaths

MOST_KIB = 150 << 10
"""Of the application and of each of its processes, whatever is pulled."""

# Does one thing with a limit on layers, and says what came of it and what it took.
_APPLICATION = """
import asyncio, json, resource, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig, LayerLimits
from engine.errors import EngineError

root, run, unpacked_bytes, what, target = sys.argv[1:]
said = {"error": "", "kind": "", "hint": ""}

async def main():
    limits = LayerLimits(unpacked_bytes=int(unpacked_bytes))
    config = EngineConfig(root=Path(root), run=Path(run), layer_limits=limits)
    async with Engine.open(config) as engine:
        try:
            match what:
                case "pull": await engine.pull_image(target)
                case "peek": await engine.list_remote_layer_files(target, 0)
                case "tags": await engine.list_remote_tags(target)
                case "search": await engine.search_images(target)
                case "load": await engine.load_images(Path(target))
        except EngineError as error:
            said.update(error=str(error), kind=type(error).__name__, hint=error.hint)
        said["problems"] = len((await engine.check_store()).problems)

asyncio.run(main())
# What rusage says of oneself begins with what the parent had.
status = Path("/proc/self/status").read_text()
said["SELF"] = int(status.partition("VmHWM:")[2].split()[0])
said["CHILDREN"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps(said))
"""


async def done_by(
    store_paths: StorePaths, what: str, target: str, *, unpacked_bytes: int = 64 << 30
) -> dict:
    """Do one thing in a process of its own; its memory and that of its workers is bounded."""
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _APPLICATION, str(store_paths.root), str(store_paths.run),
         str(unpacked_bytes), what, target),
        cwd=CHECKOUT, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["SELF"] < MOST_KIB
    assert said["CHILDREN"] < MOST_KIB
    assert said["problems"] == 0
    assert left_in(store_paths, "layers", "staging", "blobs/sha256") == []
    return said


def push_blob(client, name: str, blob: bytes, media_type: str, diff_id: str = "") -> None:
    """Push an image of one layer; its diff id need not be true where nobody comes to it."""
    reference = parse_reference(name)
    platform = host_platform()
    config = encode_document(
        ImageDocument(
            architecture=platform.architecture,
            os=platform.os,
            rootfs=RootFsDocument(type="layers", diff_ids=(diff_id or digest_of(b""),)),
        )
    )
    for content in (blob, config):
        client.upload_blob(reference, Content(content), digest=digest_of(content))
    manifest = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
        layers=(Descriptor(media_type=media_type, digest=digest_of(blob), size=len(blob)),),
    )
    client.put_manifest(
        reference,
        tag_or_digest=reference.tag,
        media_type=OCI_MANIFEST,
        content=encode_document(manifest),
    )


GIB = 1 << 30
# A whole tar, and zeros without end behind it, which nothing but reading to the end comes to.
_TAR = entry(b"file", b"x") + END
_ZEROS = bytes(64 << 20)


def gzip_bomb(unpacked_bytes: int) -> bytes:
    member = gzip.compress(_ZEROS, mtime=0)
    return gzip.compress(_TAR, mtime=0) + member * (unpacked_bytes // len(_ZEROS))


def zstd_bomb(unpacked_bytes: int) -> bytes:
    member = zstd.compress(_ZEROS)
    return zstd.compress(_TAR) + member * (unpacked_bytes // len(_ZEROS))


@pytest.mark.parametrize("what", ["pull", "peek"])
@pytest.mark.parametrize("pack", [gzip_bomb, zstd_bomb])
async def test_a_layer_of_zeros_without_end_is_refused_by_a_limit_that_can_be_set(
    pack, what, registry, client, store_paths
) -> None:
    name = f"{registry.address}/bomb:1"
    blob = pack(4 * GIB)
    assert len(blob) < 10 << 20
    push_blob(client, name, blob, OCI_LAYER_GZIP if pack is gzip_bomb else OCI_LAYER_ZSTD)
    said = await done_by(store_paths, what, name, unpacked_bytes=GIB)
    assert said["kind"] == "LayerLimitError"
    assert "unpacks to more than 1,073,741,824 bytes" in said["error"]
    assert "LAMELLA_LAYER_BYTES" in said["hint"]


async def test_a_terabyte_of_zeros_is_refused_though_no_limit_was_set(
    registry, client, store_paths
) -> None:
    name = f"{registry.address}/bomb:1"
    blob = zstd_bomb(1 << 40)
    push_blob(client, name, blob, OCI_LAYER_ZSTD)
    said = await done_by(store_paths, "pull", name)
    assert "grows more than 5,000 times when decompressed" in said["error"]


async def test_a_file_of_a_terabyte_of_zeros_is_refused_before_it_is_written(
    registry, client, store_paths
) -> None:
    name = f"{registry.address}/bomb:1"
    head = pax(size=b"%d" % (1 << 40)) + entry(b"huge", bytes(1 << 20))
    push_blob(client, name, gzip.compress(head, mtime=0), OCI_LAYER_GZIP)
    said = await done_by(store_paths, "pull", name)
    assert said["kind"] == "LayerLimitError"
    assert "LAMELLA_LAYER_BYTES" in said["hint"]


def headers_without_end(flag: bytes) -> bytes:
    record = pax(flag, comment=b"\0" * 1_000_000)
    return gzip.compress(b"".join(
        record.replace(b"comment", b"c%06d" % number) for number in range(400)
    ) + _TAR, 1, mtime=0)  # fmt: skip


async def test_headers_without_end_fill_no_memory(registry, client, store_paths) -> None:
    name = f"{registry.address}/bomb:1"
    push_blob(client, name, headers_without_end(b"x"), OCI_LAYER_GZIP)
    said = await done_by(store_paths, "pull", name)
    assert "the headers of an entry are too large" in said["error"]
    push_blob(client, name, headers_without_end(b"g"), OCI_LAYER_GZIP)
    said = await done_by(store_paths, "pull", name)
    # Read to its end in bounded memory; its diff id is a lie.
    assert said["kind"] == "DigestMismatchError"


LAYER = b'{"mediaType":"%s","digest":"sha256:%s","size":1}' % (OCI_LAYER_GZIP.encode(), b"0" * 64)
DOCUMENTS = {
    "100 MB": (b'{"schemaVersion":2,"config":' + LAYER + b',"layers":[' + b" " * 1000, 100_000),
    "100,000 layers": (
        b'{"schemaVersion":2,"config":' + LAYER + b',"layers":['
        + b",".join([b'{"digest":"sha256:' + b"0" * 64 + b'"}'] * 40_000) + b"]}", 1,
    ),
    "100,000 small layers": (
        b'{"schemaVersion":2,"config":' + LAYER + b',"layers":[' + b"{}," * 99_999 + b"{}]}", 1,
    ),
    "a million platforms": (b'{"schemaVersion":2,"manifests":[' + b"{}," * 1_300_000 + b"{}]}", 1),
    "a million labels": (
        b'{"schemaVersion":2,"config":' + LAYER + b',"layers":[],"annotations":{'
        + b",".join(b'"%x":""' % number for number in range(380_000)) + b"}}", 1,
    ),
    "deep": (b'{"schemaVersion":2,"config":' + b"[" * 1_000_000, 1),
}  # fmt: skip
REASONS = {
    "100 MB": "larger than 4194304 bytes",
    "100,000 layers": "40000 layers are more than 500",
    "100,000 small layers": "100000 layers are more than 500",
    "a million platforms": "more parts than any image's",
    "a million labels": "more parts than any image's",
    "deep": "not a valid JSON document",
}


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_a_manifest_without_end_is_refused_in_bounded_memory(
    kind: str, proxy, store_paths
) -> None:
    body, count = DOCUMENTS[kind]
    proxy.plan = lambda request: (
        Fault(status=200, body=body, repeats_body=count) if "/manifests/" in request.path else None
    )
    said = await done_by(store_paths, "pull", f"{proxy.address}/web:1")
    assert said["kind"] == "ArchiveError"
    assert REASONS[kind] in said["error"]
    assert proxy.sent_bytes < 20 << 20


@pytest.mark.parametrize(
    "config",
    [
        b'{"rootfs":{"diff_ids":[]},"history":[' + b"{}," * 2_700_000 + b"{}]}",
        b'{"rootfs":{"diff_ids":[' + b'"",' * 2_700_000 + b'""]}}',
    ],
    ids=["history", "diff_ids"],
)
async def test_a_config_without_end_is_refused_in_bounded_memory(
    config: bytes, registry, client, store_paths
) -> None:
    reference = parse_reference(f"{registry.address}/web:1")
    client.upload_blob(reference, Content(config), digest=digest_of(config))
    described = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    content = encode_document(
        Manifest(schema_version=2, media_type=OCI_MANIFEST, config=described, layers=())
    )
    client.put_manifest(reference, tag_or_digest="1", media_type=OCI_MANIFEST, content=content)
    said = await done_by(store_paths, "pull", reference.familiar_name)
    assert "more parts than any image's" in said["error"]


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("tags", b'{"tags":[' + b'"t",' * 2_000_000 + b'"t"]}'),
        ("search", b'{"results":[' + b"{}," * 2_700_000 + b"{}]}"),
        ("search", b'{"results":[' + b" " * (9 << 20)),
    ],
    ids=["tags", "found", "blank"],
)
async def test_a_list_without_end_is_refused_in_bounded_memory(
    what: str, body: bytes, proxy, store_paths
) -> None:
    proxy.plan = lambda request: Fault(status=200, body=body) if request.path != "/v2/" else None
    said = await done_by(store_paths, what, f"{proxy.address}/web")
    assert said["kind"] == "RegistryError"


async def test_pages_without_end_are_refused_in_bounded_memory(proxy, store_paths) -> None:
    def plan(request):
        if "/tags/" not in request.path:
            return None
        tags = ",".join(f'"n{request.number}-{number}"' for number in range(60_000))
        link = f'</v2/web/tags/list?page={request.number}>; rel="next"'
        return Fault(status=200, body=f'{{"tags":[{tags}]}}'.encode(), headers={"Link": link})

    proxy.plan = plan
    said = await done_by(store_paths, "tags", f"{proxy.address}/web")
    assert "more than 250,000 tags" in said["error"]


def archive_of(path: Path, *, items: bytes, config: bytes) -> Path:
    path.write_bytes(entry(b"manifest.json", items) + entry(b"c.json", config) + END)
    return path


async def test_an_archive_that_names_one_config_a_thousand_times_is_refused(
    store_paths, tmp_path
) -> None:
    config = b'{"rootfs":{"diff_ids":[]}}'.ljust(8 << 20)
    items = b"[" + b",".join([b'{"Config":"c.json","Layers":[]}'] * 1000) + b"]"
    archive = archive_of(tmp_path / "a.tar", items=items, config=config)
    said = await done_by(store_paths, "load", str(archive))
    assert "documents are larger than 67,108,864 bytes together" in said["error"]


async def test_an_archive_of_names_without_end_is_refused(store_paths, tmp_path) -> None:
    named = [pax(path=b"%06d" % number + b"n" * 60_000) + entry(b"x") for number in range(400)]
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"".join(named) + END)
    said = await done_by(store_paths, "load", str(archive))
    assert "longer than those of any image" in said["error"]


@pytest.mark.parametrize("pack", [gzip_bomb, zstd_bomb])
async def test_a_compressed_archive_without_end_is_refused_by_the_same_limit(
    pack, store_paths, tmp_path
) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(pack(4 * GIB))
    said = await done_by(store_paths, "load", str(archive), unpacked_bytes=100 << 20)
    assert said["kind"] == "LayerLimitError"
    assert "LAMELLA_LAYER_BYTES" in said["hint"]
