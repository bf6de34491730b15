"""A container that swaps links while files are copied, with everything real."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import EngineError
from engine.types import ContainerRequest, CopyOptions

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import Engine
    from engine.types import LoadedImage

ROUNDS = 100
"""In each direction."""
SECRET = b"what only the host may know"


@pytest.mark.root
@pytest.mark.timeout(600)
async def test_a_container_that_swaps_links_gets_nothing_outside_its_root(
    engine: Engine, starter_image: LoadedImage, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(SECRET)
    (tmp_path / "sent").write_bytes(b"sent")
    # The link leads to a path of the host's that the container has too, with other content.
    script = f"""
    mkdir -p /data {outside}; echo harmless > /data/file; echo inside > {outside}/file
    ln -s {outside} /link; echo ready
    while :; do mv -T /data /aside; mv -T /link /data; mv -T /data /link; mv -T /aside /data; done
    """
    await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sh", "-c", script))
    )
    await engine.start_container("web")
    async for _batch in engine.follow_logs("web", is_following=True):
        break
    target = tmp_path / "target"
    seen = set()
    for number in range(ROUNDS):
        target.unlink(missing_ok=True)
        try:
            await engine.copy_from_container(
                "web", "/data/file", str(target), options=CopyOptions(is_following_link=True)
            )
            seen.add(target.read_bytes())
        except EngineError:
            seen.add(b"refused")
        try:
            await engine.copy_to_container("web", f"{tmp_path}/sent", f"/data/new-{number % 7}")
        except EngineError:
            seen.add(b"refused")
        assert os.listdir(outside) == ["file"]
        assert (outside / "file").read_bytes() == SECRET
        await asyncio.sleep(0)
    assert SECRET not in seen
    # Both places were met, and both are inside.
    assert {b"harmless\n", b"inside\n"} <= seen
