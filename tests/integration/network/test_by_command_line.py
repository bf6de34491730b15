"""Everything by the command line, with real programs, on a host without ip, nft and iptables."""

import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.accounts import CHECKOUT

BUSYBOX = "/bin/busybox"
PROGRAM = "/busybox"
# What the world itself needs to give a program the machine's resolv.conf.
_TOOLS = ("unshare", "sh", "mount")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path(BUSYBOX).exists(), reason="needs busybox-static"),
]


@pytest.fixture
def lamella(world, store_paths, starter_image, tmp_path, monkeypatch):
    """Runs a command on the machine and returns what it printed."""
    del starter_image
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in _TOOLS:
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))

    def run(*words, is_checked=True):
        command = (sys.executable, "-m", "tui", *store_paths.options, *words)
        done = world.run_on_machine(*command, is_checked=False)
        assert not is_checked or not done.returncode, done.stderr
        return done.stdout if is_checked else done

    yield run
    for name in run("ps", "-aq").split():
        run("rm", "-f", name)


def in_a_container(lamella, *words, network="front"):
    return lamella(
        *("run", "--rm", "--network", network, "-v", f"{BUSYBOX}:{PROGRAM}:ro"),
        *("starter", PROGRAM, *words),
    )


def read(address):
    with urllib.request.urlopen(f"http://{address}/hello", timeout=20) as answer:
        return answer.read()


def test_a_web_server_is_found_by_its_name_and_at_its_port(world, lamella, tmp_path):
    assert not {shutil.which(name) for name in ("ip", "nft", "iptables")} - {None}
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "hello").write_bytes(b"hello\n")
    lamella("network", "create", "--ipv6", "front")
    lamella(
        *("run", "-d", "--name", "web", "--network", "front", "--network-alias", "www"),
        *("-p", "8080:80", "-v", f"{BUSYBOX}:{PROGRAM}:ro", "-v", f"{tmp_path}/pages:/pages:ro"),
        *("--add-host", "machine:host-gateway"),
        *("starter", PROGRAM, "httpd", "-f", "-p", "80", "-h", "/pages"),
    )

    for name in ("web", "www", "web.front"):
        assert in_a_container(lamella, "wget", "-q", "-O-", f"http://{name}/hello") == "hello\n"
    for address in ("127.0.0.1:8080", "[::1]:8080", f"{world.machine.address4}:8080"):
        assert read(address) == b"hello\n", address
    assert world.neighbour.run(lambda: read(f"{world.machine.address4}:8080")) == b"hello\n"
    gateway = lamella("exec", "web", "cat", "/etc/hosts").splitlines()[6]
    assert gateway.endswith("\tmachine")

    told = in_a_container(lamella, "nslookup", "web.example.test")
    assert world.web.address4 in told
    assert world.web.address6 in told
    nobody = lamella(
        *("run", "--rm", "--network", "front", "-v", f"{BUSYBOX}:{PROGRAM}:ro"),
        *("starter", PROGRAM, "nslookup", "nobody.example.test"),
        is_checked=False,
    )
    assert nobody.returncode == 1
    assert "NXDOMAIN" in nobody.stdout + nobody.stderr

    lamella("rename", "web", "site")
    assert in_a_container(lamella, "wget", "-q", "-O-", "http://site/hello") == "hello\n"
    lamella("restart", "-t", "0", "site")
    assert in_a_container(lamella, "wget", "-q", "-O-", "http://site/hello") == "hello\n"
    assert read("127.0.0.1:8080") == b"hello\n"

    lamella("rm", "-f", "site")
    with pytest.raises(OSError, match="refused"):
        read("127.0.0.1:8080")
    lamella("network", "rm", "front")
    assert not [name for name in world.machine.links() if name.startswith("lm-")]
