"""A store whose disk is full: what fails says so, and room can be made."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.errors import NoSpaceError
from engine.types import ContainerRequest, ContainerStatus
from tests.integration.images.loading import describe
from tests.staging import left_in_staging

CHECKOUT = Path(__file__).resolve().parents[3]
WRITES = (
    "trap 'exit 6' TERM; n=0; while [ $n -lt 5000 ]; do n=$((n+1)); echo line $n; done; "
    "while :; do sleep 0.05; done"
)

_ALONE = """
import asyncio, sys
from pathlib import Path
from tests.integration.faults.test_full_disk import fill_and_clear, mount_small
mount_small(sys.argv[1])
asyncio.run(fill_and_clear(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def mount_small(directory: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
    assert libc.mount(b"tmpfs", directory.encode(), b"tmpfs", 0, b"size=40m") == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


async def fill_and_clear(small: Path, archive: Path) -> None:
    """What the test below does in a mount namespace of its own."""
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    async with Engine.open(config) as engine:
        await engine.make_starter_image()
        before = describe(config.layers_directory).keys()
        with pytest.raises(NoSpaceError):
            await engine.load_images(archive)
        assert describe(config.layers_directory).keys() == before
        assert left_in_staging(config.root) == []
        assert len(await engine.list_images()) == 1

        for name in ("old", "web"):
            await engine.create_container(
                ContainerRequest(image="starter", name=name, command=("sh", "-c", WRITES))
            )
        await engine.start_container("web")
    fill(small / "filler")
    assert os.statvfs(small).f_bavail == 0

    async with Engine.open(config) as engine:
        # It runs on, is paused and let go on.
        await engine.pause_container("web")
        assert (await engine.inspect_container("web")).summary.status is ContainerStatus.PAUSED
        await engine.unpause_container("web")
        await engine.remove_container("old")
        assert [summary.name for summary in await engine.list_containers()] == ["web"]
        (small / "filler").unlink()
        assert (await engine.stop_container("web")).exit_code == 6
        await engine.remove_container("web")
    async with Engine.open(config) as engine:
        assert await engine.list_containers() == ()
        await engine.remove_image("starter")


@pytest.mark.root
async def test_it_is_said_and_changes_nothing_and_room_can_be_made(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    archive = tmp_path / "big"
    await asyncio.to_thread(write_big_layout, archive)
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _ALONE, str(small), str(archive)),
        capture_output=True,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def write_big_layout(path: Path) -> None:
    import hashlib
    import json

    from tests.integration.images.loading import HOST
    from tests.unit.snapshots.tars import END, entry

    layer = b"".join(entry(b"f%d" % number, os.urandom(1 << 20)) for number in range(40)) + END
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    document = {"architecture": HOST, "os": "linux", "rootfs": rootfs}
    item = {"Config": "config.json", "RepoTags": ["big:1"], "Layers": ["layer.tar"]}
    path.write_bytes(
        entry(b"manifest.json", json.dumps([item]).encode())
        + entry(b"config.json", json.dumps(document).encode())
        + entry(b"layer.tar", layer)
        + END
    )
