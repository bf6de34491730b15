"""A disk that is full in the middle of a pull: said, nothing left, and gone on with afterwards."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.errors import NoSpaceError
from engine.types import LayerTransfer, TransferStatus
from tests.integration.faults.test_full_disk import CHECKOUT, fill, mount_small
from tests.registries import push_files
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

_ALONE = """
import asyncio, sys
from pathlib import Path
from tests.integration.registry.test_full_disk_pulls import pull_until_it_is_full
asyncio.run(pull_until_it_is_full(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


def left(config: EngineConfig) -> list[str]:
    layers = [path.name for path in (config.root / "layers").glob("[!.]*")]
    return [*layers, *left_in_staging(config.root)]


async def pull_until_it_is_full(small: Path, large_name: str, name: str) -> None:
    """What the test below does in a mount namespace of its own."""
    mount_small(str(small))
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    async with Engine.open(config) as engine:
        # It comes easily, and does not fit when it is unpacked.
        with pytest.raises(NoSpaceError):
            await engine.pull_image(large_name)
        assert left(config) == []

        filler = small / "filler"

        def fill_up(transfer: LayerTransfer) -> None:
            if transfer.status is TransferStatus.DOWNLOADING and not filler.exists():
                fill(filler)

        with pytest.raises(NoSpaceError):
            await engine.pull_image(name, progress=fill_up)
        assert filler.exists()
        assert left(config) == []
        assert await engine.list_images() == ()
        filler.unlink()
        await engine.pull_image(name)
        assert (await engine.check_store()).problems == ()


@pytest.mark.root
async def test_a_pull_whose_disk_is_full_is_gone_on_with_when_there_is_room(
    proxy, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    content = random.Random(0).randbytes(4_000_000)
    push_files(f"{proxy.upstream}/large:1", {"zeros": bytes(60_000_000)})
    push_files(f"{proxy.upstream}/web:1", {"file": content})
    proxy.bytes_per_second = 8_000_000
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _ALONE, str(small), f"{proxy.address}/large:1",
         f"{proxy.address}/web:1"),
        capture_output=True, cwd=CHECKOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    asked = [
        one.headers.get("range", "")
        for one in proxy.requests
        if one.method == "GET" and "/blobs/" in one.path and "/web/" in one.path
    ]
    # The config, the layer until the disk was full, and the rest of the layer.
    assert asked[:2] == ["", ""]
    assert asked[2].startswith("bytes=")
    assert len(asked) == 3
