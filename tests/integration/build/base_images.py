"""The images that the Dockerfiles of tests/dockerfiles stand on, in one archive for all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TIME = 1_500_000_000
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "app:x:1000:1000:An application:/home/app:/bin/sh\n"
    "other:x:1001:1001::/home/other:/bin/sh\n"
)
_GROUP = "root:x:0:\nstaff:x:50:app\napp:x:1000:\nother:x:1001:\n"
_APPLETS = (
    "sh", "[", "cat", "chgrp", "chmod", "chown", "cp", "dd", "echo", "env", "false", "find",
    "grep", "head", "id", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mv", "pwd", "readlink",
    "rm", "rmdir", "sed", "sleep", "sort", "stat", "tail", "test", "touch", "tr", "true", "wc",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Base:
    name: str
    configuration: dict[str, object]
    has_mount_points: bool = True
    history: str = "made for tests"
    extra: dict[str, bytes] = field(default_factory=dict)


_BASES = (
    _Base(
        name="base",
        configuration={
            "Env": [_PATH, "BASE=base"],
            "Cmd": ["/bin/sh"],
            "Labels": {"base": "1"},
        },
    ),
    _Base(name="bare", configuration={"Env": [_PATH]}, has_mount_points=False),
    _Base(
        name="triggers",
        configuration={
            "Env": [_PATH],
            "OnBuild": [
                "RUN echo first > /f",
                "ENV triggered=yes",
                "COPY for-trigger /copied",
            ],
        },
    ),
    _Base(
        name="configured",
        configuration={
            "Env": [_PATH, "A=1"],
            "Entrypoint": ["/entry", "point"],
            "Cmd": ["com", "mand"],
            "User": "app:staff",
            "WorkingDir": "/srv",
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/volume": {}},
            "Labels": {"a": "1", "b": "2"},
            "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000},
        },
    ),
)

NAMES = tuple(f"localhost/{base.name}:latest" for base in _BASES)


def busybox() -> Path:
    """A busybox that needs no library."""
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("busybox is not installed (`make test-tools` installs it)")
    return Path(found).resolve()


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """Images that builders are given before they build."""

    names: tuple[str, ...]
    write: Callable[[Path], None]
    """Writes all of them as `docker save` would."""
    recipe: Callable[[], str]
    """What changes when the images do."""


def _recipe() -> str:
    return hashlib.sha256(Path(__file__).read_bytes() + busybox().read_bytes()).hexdigest()


def write_base_images(path: Path) -> None:
    """Write all of them as `docker save` would."""
    manifest = []
    blobs: dict[str, bytes] = {}
    for base in _BASES:
        layer = _layer(has_mount_points=base.has_mount_points)
        diff_id = hashlib.sha256(layer).hexdigest()
        document = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "created": "2017-07-14T02:40:00Z",
            "config": base.configuration,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": "2017-07-14T02:40:00Z", "created_by": base.history}],
        }
        config = json.dumps(document).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        blobs[config_name] = config
        blobs[f"{diff_id}/layer.tar"] = layer
        manifest.append(
            {
                "Config": config_name,
                "RepoTags": [f"localhost/{base.name}:latest"],
                "Layers": [f"{diff_id}/layer.tar"],
            }
        )
    blobs["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in blobs.items():
            archive.addfile(_info(name, size=len(data)), io.BytesIO(data))


def _layer(*, has_mount_points: bool) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:

        def directories(*names: str, mode: int = 0o755, owner: int = 0) -> None:
            for name in names:
                info = _info(name, mode=mode, owner=owner)
                info.type = tarfile.DIRTYPE
                archive.addfile(info)

        def file(name: str, content: bytes, *, mode: int = 0o644) -> None:
            info = _info(name, mode=mode, size=len(content))
            archive.addfile(info, io.BytesIO(content))

        def links(pairs: Iterable[tuple[str, str]]) -> None:
            for name, target in pairs:
                info = _info(name, mode=0o777)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)

        directories("bin", "etc", "existing", "home", "real", "srv", "volume")
        directories("home/app", owner=1000)
        directories("root", mode=0o700)
        directories("tmp", mode=0o1777)
        if has_mount_points:
            directories("dev", "proc", "run", "sys")
        file("bin/busybox", busybox().read_bytes(), mode=0o755)
        links((f"bin/{name}", "busybox") for name in _APPLETS)
        file("etc/passwd", _PASSWD.encode())
        file("etc/group", _GROUP.encode())
        file("existing/file", b"of the base\n")
        links([("lnk", "/real")])
    return data.getvalue()


def _info(name: str, *, mode: int = 0o644, owner: int = 0, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.size, info.mtime = mode, owner, owner, size, _TIME
    return info


SMALL = BaseImages(names=NAMES, write=write_base_images, recipe=_recipe)
"""Those of tests/dockerfiles: a busybox each."""
