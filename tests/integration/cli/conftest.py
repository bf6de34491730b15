from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from tests.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StorePaths


async def remove_containers(store: StorePaths) -> None:
    async with open_engine(root=store.root, run=store.run) as engine:
        for summary in await engine.list_containers():
            await engine.remove_container(summary.container_id, is_forced=True)


@pytest.fixture
def lamella(store_paths: StorePaths) -> Iterator[CommandLine]:
    """The command line over a store that is there; its containers go at the end."""
    asyncio.run(remove_containers(store_paths))
    yield CommandLine(store_paths)
    asyncio.run(remove_containers(store_paths))
