"""Containers that say what they see of their mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.config import EngineConfig
from engine.types import ContainerRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api import EngineApi
    from engine.types import LoadedImage, MountRequest
    from tests.conftest import StorePaths

    Teller = Callable[..., Awaitable[str]]


@pytest.fixture
def config(store_paths: StorePaths) -> EngineConfig:
    """The store of the `engine` fixture."""
    return EngineConfig(root=store_paths.root, run=store_paths.run)


async def log_of(engine: EngineApi, reference: str) -> str:
    lines = [line.text.decode() async for batch in engine.follow_logs(reference) for line in batch]
    return "\n".join(lines)


@pytest.fixture
async def said(engine: EngineApi, starter_image: LoadedImage) -> Teller:
    """Run a shell script with mounts, and return what it printed; the container is removed."""

    async def run(
        script: str, *mounts: MountRequest, image: str = "starter", **fields: object
    ) -> str:
        request = ContainerRequest(
            image=image,
            command=("sh", "-c", f"exec 2>&1; {script}"),
            mounts=mounts,
            **fields,  # type: ignore[arg-type]
        )
        created = await engine.create_container(request)
        async with engine.hold_container(created.container_id):
            await engine.start_container(created.container_id)
            await engine.wait_container(created.container_id)
            told = await log_of(engine, created.container_id)
        if not request.is_removed_on_exit:
            await engine.remove_container(created.container_id)
        return told

    return run
