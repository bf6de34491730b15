"""The Debian on which the large Dockerfiles stand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

from tests.integration.build.base_images import BaseImages

if TYPE_CHECKING:
    from pathlib import Path

NAME = "localhost/debian:latest"
_CONFIGURATION = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["bash"],
}


def debian(corpus: Path) -> BaseImages:
    """What mmdebstrap made, which is the lowest layer of the corpus, as one image."""
    return BaseImages(
        names=(NAME,),
        write=lambda path: write(corpus, path),
        recipe=lambda: f"{corpus.name} {_CONFIGURATION}",
    )


def write(corpus: Path, path: Path) -> None:
    """Write the image as `docker save` would."""
    with tarfile.open(corpus / "docker.tar") as source, tarfile.open(path, "w") as target:
        (manifest,) = json.load(_open(source, "manifest.json"))
        lowest = manifest["Layers"][0]
        document = json.load(_open(source, manifest["Config"]))
        config = json.dumps(
            {
                "architecture": document["architecture"],
                "os": "linux",
                "created": "2024-01-01T00:00:00Z",
                "config": _CONFIGURATION,
                "rootfs": {"type": "layers", "diff_ids": document["rootfs"]["diff_ids"][:1]},
                "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "mmdebstrap"}],
            }
        ).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        image = [{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]
        for member, data in ((name, config), ("manifest.json", json.dumps(image).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
        layer = _open(source, lowest)
        info = tarfile.TarInfo("layer.tar")
        info.size = layer.seek(0, os.SEEK_END)
        layer.seek(0)
        target.addfile(info, layer)


def _open(archive: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    # skopeo links layers that have other names too.
    member = archive.getmember(name)
    while member.issym():
        member = archive.getmember(os.path.normpath(f"{os.path.dirname(name)}/{member.linkname}"))
    file = archive.extractfile(member)
    assert isinstance(file, tarfile.ExFileObject)
    return file
