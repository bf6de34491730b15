"""Every test here is on the machine of a world of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.runtime.network_view import SeenNetwork
from tests.network_servers import ServedContainer
from tests.worlds import World, opened_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# By itself, so that it is there before an engine is opened and until that is closed.
@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("only root can make network namespaces without a user namespace")
    with opened_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def served(world, tmp_path):
    container = ServedContainer(world, tmp_path)
    try:
        yield container
    finally:
        container.close()


@pytest.fixture
def named(served):
    """A server that sees two networks: three members in the first, one in the second."""
    front, back = ("n" * 64, "m" * 64)
    served.write_member(front, "a" * 64, "web", "www", "a" * 12, addresses=["10.77.0.2", "fd00::2"])
    served.write_member(front, "b" * 64, "cache-1", "cache", addresses=["10.77.0.3"])
    served.write_member(front, "c" * 64, "cache-2", "cache", addresses=["10.77.0.4"])
    served.write_member(back, "d" * 64, "db.main", "www", addresses=["10.78.0.2"])
    served.networks = tuple(
        SeenNetwork(name=name, directory=str(served.networks_directory / each))
        for name, each in (("front", front), ("back.end", back))
    )
    served.write_view(networks=served.networks)
    served.serve()
    return served
