"""What everybody does first: a server from a package, with a page of one's own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from engine.linux.netfilter import BRIDGE, INET, delete_table, has_table, transaction
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network.firewall import table_name
from tests.command_line import CommandLine
from tests.integration.build import debian_image
from tests.integration.build.mirror import need_package_mirror
from tests.integration.cli.conftest import remove_containers
from tests.leaks import bridges_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StorePaths

pytestmark = [pytest.mark.root, pytest.mark.host_network, pytest.mark.timeout(600)]

DOCKERFILE = """\
FROM localhost/debian
RUN apt-get update
RUN apt-get install --yes apache2
COPY index.html /var/www/html/index.html
CMD ["apachectl", "-D", "FOREGROUND"]
"""
PAGE = "<h1>It builds</h1>\n"
_MOST_SECONDS = 400
_IS_UP = "until grep -q 'resuming normal operations' /var/log/apache2/error.log; do sleep 0.1; done"


@pytest.fixture
def lamella(store_paths: StorePaths, debian_corpus: Path, tmp_path: Path) -> Iterator[CommandLine]:
    """The command line over a store with a Debian."""
    need_package_mirror()
    command_line = CommandLine(store_paths)
    archive = tmp_path / "debian.tar"
    debian_image.write(debian_corpus, archive)
    command_line.text("load", "-i", str(archive))
    archive.unlink()
    try:
        yield command_line
    finally:
        asyncio.run(remove_containers(store_paths))
        take_down_network(store_paths)


def take_down_network(store: StorePaths) -> None:
    """Take away what the store's network has on this host: it would serve the next container."""
    with IPRoute() as route:
        for bridge in bridges_of([str(store.root)]):
            for index in route.link_lookup(ifname=bridge):
                route.link("del", index=index)
    table = table_name(store.root)
    with NetlinkSocket(NETFILTER) as connection:
        for family in (INET, BRIDGE):
            if has_table(connection, family, table):
                connection.execute(transaction((delete_table(family, table),)), what="take down")


def done(lamella: CommandLine, *words: str) -> tuple[str, str]:
    """What a command that may take long writes to both of its streams."""
    with lamella.open(*words) as command:
        try:
            output, errors = command.communicate(timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            command.terminate()
            raise
    assert command.returncode == 0, errors.decode()
    return output.decode(), errors.decode()


def test_a_server_is_built_of_packages_and_answers(lamella: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "index.html").write_text(PAGE)
    build = ("build", "--progress", "plain", "-t", "web", str(tmp_path))

    image_id, said = done(lamella, *build)
    steps = re.findall(r"^#\d+ \[(\d/\d)\] (\S+)", said, re.MULTILINE)
    assert steps == [("1/4", "FROM"), ("2/4", "RUN"), ("3/4", "RUN"), ("4/4", "COPY")]

    again, said = done(lamella, *build)
    assert said.count(" CACHED\n") == 3
    assert again == image_id

    lamella.text("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "web")
    lamella.text("exec", "web", "sh", "-c", _IS_UP)
    address = lamella.text("port", "web", "80").strip()
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        assert answer.read().decode() == PAGE
