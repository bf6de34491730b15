"""Stores, images and processes for tests that break things."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.config import EngineConfig
from tests.integration.images.loading import HOST
from tests.unit.snapshots.tars import END, directory, entry

if TYPE_CHECKING:
    from tests.conftest import StorePaths


@pytest.fixture
def config(store_paths: StorePaths) -> EngineConfig:
    """The store of the `engine` fixture."""
    return EngineConfig(root=store_paths.root, run=store_paths.run)


@pytest.fixture
def setuid_archive(tmp_path: Path) -> Path:
    """An image `setuid:1` whose program `/bin/sleep` belongs to root and is set-user-id."""
    busybox = shutil.which("busybox")
    if busybox is None or b"statically linked" not in subprocess.check_output(
        ("file", "-L", busybox)
    ):
        pytest.skip("no static busybox (`make test-tools` installs it)")
    content = Path(busybox).read_bytes()
    layer = directory(b"bin", owner=0) + entry(b"bin/sleep", content, mode=0o4755, owner=0) + END
    diff_id = f"sha256:{sha256(layer).hexdigest()}"
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    document = {"architecture": HOST, "os": "linux", "rootfs": rootfs}
    item = {"Config": "config.json", "RepoTags": ["setuid:1"], "Layers": ["layer.tar"]}
    path = tmp_path / "setuid.tar"
    path.write_bytes(
        entry(b"manifest.json", json.dumps([item]).encode())
        + entry(b"config.json", json.dumps(document).encode())
        + entry(b"layer.tar", layer)
        + END
    )
    return path


def groups_of(container_id: str) -> list[str]:
    """Directories of a container's control group, wherever it is mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" not in line:
            continue
        with contextlib.suppress(OSError):
            found += [str(path) for path in Path(line.split()[4]).glob(f"*/{container_id}")]
    return found


def children_of(process_id: int) -> set[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return {int(word) for word in text.split()}


def children_named(parent: int, name: str) -> set[int]:
    """A process's children that call themselves so: `lamella-monitor`, `lamella-starter`."""
    found = set()
    for process_id in children_of(parent):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process_id}/comm").read_text().strip() == name:
                found.add(process_id)
    return found
