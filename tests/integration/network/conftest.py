"""Every test here is on the machine of a world of its own."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from engine.runtime.network_view import SeenNetwork
from tests.integration.network.persons import PROGRAMS, made_person, needs
from tests.network_servers import ServedContainer
from tests.programs import installed_program
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


@pytest.fixture
def tun(tmp_path):
    """A node like /dev/net/tun that everybody may open."""
    node = tmp_path / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    node.chmod(0o666)
    return node


@pytest.fixture
def closed(world, unprivileged_user):
    """A person who may not open /dev/net/tun, the host being as it is."""
    with made_person(unprivileged_user, None, PROGRAMS, world.resolver) as made:
        yield made


@pytest.fixture(params=[*PROGRAMS, "no tun"])
def person(request, world, unprivileged_user, tun):
    """A person with one of the ways out, and one with none."""
    if request.param == "no tun":
        yield request.getfixturevalue("closed")
        return
    needs(request.param)
    with made_person(unprivileged_user, tun, (request.param,), world.resolver) as made:
        yield made


@pytest.fixture
def has_nft():
    """For tests that look at rules, or change them, as others do."""
    installed_program("nft")
