"""An image whose layer takes as much memory to decompress as one may by default."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

from benchmarks.place import PeerMissingError

if TYPE_CHECKING:
    from pathlib import Path

_NEW_BYTES = 4096
_KINDS = "application/vnd.oci.image"


class _Repeating(io.RawIOBase):
    """So many bytes, of which a few of each MiB are new: it compresses, and fills a window."""

    def __init__(self, size: int) -> None:
        self._piece = os.urandom(1 << 20)
        self._left = size

    def read(self, size: int = -1) -> bytes:
        size = min(self._left if size < 0 else size, self._left, len(self._piece))
        self._left -= size
        return (os.urandom(_NEW_BYTES) + self._piece[_NEW_BYTES:])[:size]


def write_long_layout(layout: Path) -> Path:
    """Write an OCI layout with one zstd layer of 2 GB and a window of 64 MiB.

    Raises:
        PeerMissingError: zstd is not installed.
    """
    if shutil.which("zstd") is None:
        raise PeerMissingError("zstd is not installed")
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    plain, packed = layout / "plain", layout / "packed"
    with tarfile.open(plain, "w") as tar:
        entry = tarfile.TarInfo("long")
        entry.size = 2 << 30
        tar.addfile(entry, _Repeating(entry.size))
    subprocess.run(["zstd", "-q", "-1", "--long=26", plain, "-o", packed], check=True)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_file_digest(plain)}"]},
    }
    plain.unlink()
    layer = {"digest": f"sha256:{_file_digest(packed)}", "size": packed.stat().st_size}
    packed.rename(blobs / layer["digest"].removeprefix("sha256:"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KINDS}.manifest.v1+json",
        "config": {"mediaType": f"{_KINDS}.config.v1+json", **_add(blobs, config)},
        "layers": [{"mediaType": f"{_KINDS}.layer.v1.tar+zstd", **layer}],
    }
    described = {"mediaType": f"{_KINDS}.manifest.v1+json", **_add(blobs, manifest)}
    described["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    index = {"schemaVersion": 2, "manifests": [described]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


def _add(blobs: Path, document: dict[str, object]) -> dict[str, object]:
    content = json.dumps(document).encode()
    name = hashlib.sha256(content).hexdigest()
    (blobs / name).write_bytes(content)
    return {"digest": f"sha256:{name}", "size": len(content)}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
